//! A run is the same bit for bit with any number of threads, and resumed; a broken checkpoint changes
//! nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Runs with some arguments in common, and the files that they leave.
struct Runs {
    folder: TempDir,
    args: Vec<String>,
}

/// Little to learn, quickly.
const PERCEPTRON: &[&str] = &["--task=digits-mlp", "--epochs=3"];
const TWO_LOSSES: &[&str] = &["--task=digits-units-30", "--epochs=3"];
const NORMALISED: &[&str] = &["--task=digits-towers-30-normalised", "--epochs=3"];
const FIELD: &[&str] = &["--task=helmholtz-30", "--network=pinn:hidden=16:depth=2", "--epochs=2"];
const RESIDUAL: &[&str] = &["--task=digits-resnet", "--epochs=1"];
const SEGMENTATION: &[&str] = &[
    "--task=scenes-segnet",
    "--scene-size=32",
    "--train-scenes=24",
    "--test-scenes=4",
    "--batch=4",
    "--epochs=2",
];
const TEXT: &[&str] = &["--task=text-transformer", "--text-length=16", "--batch=32", "--epochs=1"];

impl Runs {
    fn new(task: &[&str], args: &[&str]) -> Self {
        let args = task.iter().chain(args).map(ToString::to_string).collect();
        Self { folder: TempDir::new().unwrap(), args }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Trains, and returns what went to the standard error stream of a failure.
    fn train(&self, more: &[&str]) -> Result<(), String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
        let output = command.arg("train").args(&self.args).args(more).output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    /// Trains, and returns the checkpoint.
    fn saved(&self, more: &[&str]) -> Vec<u8> {
        let path = self.path("saved");
        self.train(&[more, &["--save", text(&path)]].concat()).unwrap();
        fs::read(path).unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    // 21 steps are an epoch of digits: one interruption within one, one at its end.
    let digits = ["--until=29", "--until=42"];
    for (task, args, interruptions) in [
        (PERCEPTRON, &["--format=binary16"][..], digits),
        (PERCEPTRON, &["--format=e4m3", "--period=7", "--micro-batches=4"], digits),
        (PERCEPTRON, &["--format=binary16-flushing", "--method=normal", "--clip=0.5"], digits),
        (PERCEPTRON, &["--format=binary16", "--method=backoff", "--optimizer=adamw"], digits),
        (TWO_LOSSES, &["--format=binary16", "--method=backoff-per-loss"], digits),
        (
            TWO_LOSSES,
            &["--format=e4m3", "--method=backoff-per-loss:7", "--micro-batches=2"],
            digits,
        ),
        (NORMALISED, &["--format=binary16", "--method=backoff"], digits),
        (PERCEPTRON, &["--format=e4m3", "--method=mx"], digits),
        (FIELD, &["--format=binary16"], digits),
        (RESIDUAL, &["--format=e5m2", "--method=amax"], ["--until=3", "--until=17"]),
        (SEGMENTATION, &["--format=e5m2"], ["--until=5", "--until=6"]),
        (TEXT, &["--format=bfloat16", "--until=9"], ["--until=2", "--until=5"]),
    ] {
        let runs = Runs::new(task, &[]);
        let whole = runs.saved(args);
        for until in interruptions {
            let half = runs.path("half");
            let args: Vec<&str> =
                args.iter().copied().filter(|arg| !arg.starts_with("--until")).collect();
            runs.train(&[&args[..], &[until, "--save", text(&half)]].concat()).unwrap();
            let end = if task == TEXT { &["--until=9"][..] } else { &[] };
            let rest = runs.saved(&[&args[..], end, &["--resume", text(&half)]].concat());
            assert!(whole == rest, "{task:?} {args:?} {until}");
            assert!(whole != fs::read(&half).unwrap(), "{task:?} {args:?} {until}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (task, args) in [
        (PERCEPTRON, &["--format=binary16", "--until=25"][..]),
        (RESIDUAL, &["--format=binary16-flushing", "--micro-batches=2", "--until=12"]),
        (RESIDUAL, &["--format=f32", "--method=f32", "--until=5"]),
        (SEGMENTATION, &["--format=e5m2"]),
        (TEXT, &["--format=e4m3", "--until=6"]),
    ] {
        let runs = Runs::new(task, args);
        let one = runs.saved(&["--threads=1"]);
        for threads in ["--threads=2", "--threads=5"] {
            assert!(one == runs.saved(&[threads]), "{task:?} {args:?} {threads}");
        }
    }
}

#[test]
fn broken_and_foreign_checkpoints_are_refused() {
    let runs = Runs::new(PERCEPTRON, &[]);
    let (saved, out) = (runs.path("good"), runs.path("out"));
    runs.train(&["--format=e5m2", "--until=5", "--save", text(&saved)]).unwrap();
    let good = fs::read(&saved).unwrap();

    let flipped = |place: usize| {
        let mut bytes = good.clone();
        bytes[place] ^= 4;
        bytes
    };
    let cases = [
        (Vec::new(), "no checkpoint of a training run"),
        (b"something else entirely".to_vec(), "no checkpoint of a training run"),
        (good[..10].to_vec(), "ends within its header"),
        (good[..good.len() / 2].to_vec(), "checksum does not match"),
        (good[..good.len() - 1].to_vec(), "checksum does not match"),
        ([&good[..], &[0]].concat(), "checksum does not match"),
        (flipped(good.len() / 2), "checksum does not match"),
        (flipped(good.len() - 1), "checksum does not match"),
        (flipped(8), "is of version 1, and only 5 can be read"),
    ];
    for (bytes, expected) in cases {
        let broken = runs.path("broken");
        fs::write(&broken, &bytes).unwrap();
        let resume = ["--format=e5m2", "--resume", text(&broken), "--save", text(&out)];
        let error = runs.train(&resume).unwrap_err();
        assert!(error.contains(expected) && error.contains(text(&broken)), "{error}");
        assert!(!out.exists(), "something was written in spite of: {error}");
    }

    for other in [
        &["--seed=1"][..],
        &["--format=e4m3"],
        &["--period=3"],
        &["--network=resnet8"],
        &["--method=amax"],
        &["--batch=32"],
        &["--micro-batches=2"],
        &["--optimizer=adamw"],
    ] {
        let format = if other[0].starts_with("--format") { &[][..] } else { &["--format=e5m2"] };
        let resume = ["--resume", text(&saved)];
        let error = runs.train(&[format, other, &resume].concat()).unwrap_err();
        assert!(error.contains("belongs to another run"), "{other:?}: {error}");
    }
}

/// Each loss has a scaler of its own there: a checkpoint of one scaler is of another run.
#[test]
fn checkpoints_of_one_and_of_two_scalers_do_not_mix() {
    let runs = Runs::new(TWO_LOSSES, &["--until=3"]);
    let one = runs.saved(&["--method=backoff"]);
    let two = runs.saved(&["--method=backoff-per-loss"]);
    assert!(two.len() > one.len() + 4096, "{} and {} bytes", one.len(), two.len());
    let path = runs.path("saved");
    for (saved, other) in [(one, "backoff-per-loss"), (two, "backoff")] {
        fs::write(&path, saved).unwrap();
        let method = format!("--method={other}");
        let error = runs.train(&[&method, "--resume", text(&path)]).unwrap_err();
        assert!(error.contains("belongs to another run"), "{error}");
    }
}

/// A file that cannot be replaced stays what it was.
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_nothing() {
    let runs = Runs::new(PERCEPTRON, &[]);
    let nowhere = runs.path("no-such-folder").join("checkpoint");
    let error = runs.train(&["--until=1", "--save", text(&nowhere)]).unwrap_err();
    assert!(error.contains("cannot be written"), "{error}");
    assert_eq!(fs::read_dir(runs.folder.path()).unwrap().count(), 0);
}
