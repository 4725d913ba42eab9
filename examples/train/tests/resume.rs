//! A resumed run is the uninterrupted one, bit for bit; a broken checkpoint changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

struct Runs {
    folder: TempDir,
    args: &'static [&'static str],
}

impl Runs {
    fn new(args: &'static [&'static str]) -> Self {
        Self { folder: TempDir::new().unwrap(), args }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Trains, and returns what went to the standard error stream of a failure.
    fn train(&self, more: &[&str]) -> Result<(), String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
        command.args(["train", "--epochs=3", "--hidden=16"]).args(self.args).args(more);
        let output = command.output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    for args in [
        &["--format=binary16", "--task=digits-residual"][..],
        &["--format=e4m3", "--period=7"],
        &["--format=e5m2", "--method=amax", "--task=digits-residual"],
        &["--format=binary16-flushing", "--method=normal"],
        &["--format=binary16", "--method=backoff"],
    ] {
        let runs = Runs::new(args);
        let (whole, half, rest) = (runs.path("whole"), runs.path("half"), runs.path("rest"));
        runs.train(&["--save", text(&whole)]).unwrap();
        // 22 steps are an epoch: one interruption within one, one at its end.
        for until in ["--until=29", "--until=44"] {
            runs.train(&[until, "--save", text(&half)]).unwrap();
            runs.train(&["--resume", text(&half), "--save", text(&rest)]).unwrap();
            assert!(fs::read(&whole).unwrap() == fs::read(&rest).unwrap(), "{args:?} {until}");
            assert!(fs::read(&whole).unwrap() != fs::read(&half).unwrap(), "{args:?} {until}");
        }
    }
}

#[test]
fn broken_and_foreign_checkpoints_are_refused() {
    let runs = Runs::new(&["--format=e5m2"]);
    let (saved, out) = (runs.path("saved"), runs.path("out"));
    runs.train(&["--until=5", "--save", text(&saved)]).unwrap();
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
        (flipped(8), "is of version 5"),
    ];
    for (bytes, expected) in cases {
        let broken = runs.path("broken");
        fs::write(&broken, &bytes).unwrap();
        let error = runs.train(&["--resume", text(&broken), "--save", text(&out)]).unwrap_err();
        assert!(error.contains(expected) && error.contains(text(&broken)), "{error}");
        assert!(!out.exists(), "something was written in spite of: {error}");
    }

    for other in ["--seed=1", "--format=e4m3", "--period=3", "--hidden=24", "--method=amax"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
        command.args(["train", "--epochs=3"]);
        let hidden = if other.starts_with("--hidden") { other } else { "--hidden=16" };
        command.arg(hidden);
        let format = if other.starts_with("--format") { other } else { "--format=e5m2" };
        command.arg(format);
        if !(other.starts_with("--hidden") || other.starts_with("--format")) {
            command.arg(other);
        }
        let output = command.args(["--resume", text(&saved)]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains("belongs to another run"), "{error}");
    }
}

/// A file that cannot be replaced stays what it was.
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_nothing() {
    let runs = Runs::new(&[]);
    let nowhere = runs.path("no-such-folder").join("checkpoint");
    let error = runs.train(&["--until=1", "--save", text(&nowhere)]).unwrap_err();
    assert!(error.contains("cannot be written"), "{error}");
    assert_eq!(fs::read_dir(runs.folder.path()).unwrap().count(), 0);
}
