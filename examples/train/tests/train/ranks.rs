//! Ranks that are threads: the same bits at any number of them, sums in few bits, and what ends a run.

use std::{
    collections::HashMap,
    fs,
    process::{Command, Output},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use adaloss_core::format::f16;
use adaloss_cpu::Cpu;
use adaloss_train::{
    data::Source,
    layer::NoObserver,
    method::Method,
    ranks::{Elsewhere, OnRank, Reducer, Reduction, Team, share},
    task::Task,
    trainer::{Ranks, Settings, Trainer},
};
use anyhow::{Result, anyhow, bail};
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
    command.arg("train").args(args).output().unwrap()
}

/// Trains on some ranks, and returns the checkpoint and what was printed.
fn trained(args: &[&str], ranks: &str, folder: &TempDir) -> (Vec<u8>, String) {
    let path = folder.path().join("saved");
    let more = ["--threads=1", "--ranks", ranks, "--save", path.to_str().unwrap()];
    let output = run(&[args, &more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (fs::read(path).unwrap(), String::from_utf8(output.stdout).unwrap())
}

const SEGMENTATION: &[&str] = &[
    "--task=scenes-segnet",
    "--scene-size=32",
    "--train-scenes=24",
    "--test-scenes=4",
    "--batch=8",
    "--epochs=2",
    "--format=e5m2",
];
const TEXT: &[&str] = &[
    "--task=text-transformer",
    "--network=transformer:dropout=0.1",
    "--text-length=16",
    "--batch=32",
    "--until=12",
];

#[test]
fn any_number_of_ranks_has_the_same_bits() {
    let folder = TempDir::new().unwrap();
    for args in [
        &["--task=digits-mlp", "--epochs=2", "--period=7"][..],
        &["--task=digits-resnet", "--until=6"],
        // Gains of zero: some tensors are zero in the first step.
        &["--task=digits-resnet", "--network=resnet8:zero", "--format=e4m3", "--until=6"],
        &["--task=digits-units-20", "--method=backoff-per-loss:7", "--until=12"],
        // Where one of two losses overflows in one part.
        &["--task=digits-towers-10-normalised", "--method=backoff-per-loss:7", "--epochs=2"],
        &["--task=digits-mlp", "--method=mx", "--format=e4m3", "--until=8", "--clip=0.5"],
        &["--task=customers-mlp", "--until=8"],
        &["--task=helmholtz-30", "--network=pinn:hidden=16:depth=2", "--until=8"],
        &["--task=digits-wgan", "--format=e5m2", "--until=8"],
        SEGMENTATION,
        TEXT,
    ] {
        let args = [args, &["--micro-batches=4"]].concat();
        let (one, said) = trained(&args, "1", &folder);
        for ranks in ["2", "4"] {
            let (several, also) = trained(&args, ranks, &folder);
            assert!(one == several, "{args:?} on {ranks} ranks: {said}{also}");
            // But for how many certificates there were, and what was sent.
            let lines = |text: &str| text.lines().filter(|line| line.starts_with("step")).count();
            let steps =
                |text: &str| text.lines().take(lines(text)).map(String::from).collect::<Vec<_>>();
            assert_eq!(steps(&said), steps(&also));
        }
    }
}

#[test]
fn a_run_goes_on_with_fewer_or_more_ranks() {
    let folder = TempDir::new().unwrap();
    for reduce in ["f32", "e5m2:measured"] {
        let base = ["--task=digits-mlp", "--epochs=2", "--micro-batches=8", "--reduce", reduce];
        let until = |step| [&base[..], &[step]].concat();
        let (straight, _) = trained(&until("--until=30"), "4", &folder);
        let half = folder.path().join("half");
        let (saved, _) = trained(&until("--until=15"), "4", &folder);
        fs::write(&half, saved).unwrap();
        let resumed = [&until("--until=30")[..], &["--resume", half.to_str().unwrap()]].concat();
        assert!(trained(&resumed, "4", &folder).0 == straight, "{reduce}");
        for ranks in ["1", "2", "8"] {
            let (other, said) = trained(&resumed, ranks, &folder);
            // Sums in few bits are rounded once per rank.
            assert!((other == straight) == (reduce == "f32"), "{reduce} on {ranks} ranks: {said}");
        }
    }
}

/// What the last line says of sums: how many, and how many again in f32; and how many steps were skipped.
fn sums(said: &str) -> [u64; 3] {
    let number = |before: &str| {
        let words = said.split(before).next().unwrap().split_whitespace();
        words.last().unwrap().parse().unwrap()
    };
    [number(" of them"), number(" again in f32"), number(" skipped")]
}

#[test]
fn sums_in_few_bits_train_as_well() {
    let folder = TempDir::new().unwrap();
    let args = ["--task=digits-mlp", "--epochs=4", "--micro-batches=4", "--bucket=16"];
    let accuracy = |said: &str| {
        let last = said.lines().filter_map(|line| line.split("samples ").nth(1)).next_back();
        last.and_then(|text| text.split(' ').next()).unwrap().parse::<f64>().unwrap()
    };
    let with = |reduce: &str| trained(&[&args[..], &["--reduce", reduce]].concat(), "4", &folder).1;
    let plain = with("f32");
    assert!(sums(&plain)[0] > 84, "several buckets a step: {plain}");
    for format in ["binary16", "bfloat16", "e5m2", "e4m3"] {
        for scaling in ["agreed", "measured"] {
            let said = with(&format!("{format}:{scaling}"));
            let [_, again, skipped] = sums(&said);
            assert_eq!((skipped, scaling == "measured" || again == 0), (0, true), "{said}");
            assert!((accuracy(&said) - accuracy(&plain)).abs() < 5.0, "{format}: {said}{plain}");
            assert!(said.contains(&format!("sums in {format}:{scaling}")), "{said}");
        }
    }
    // A scale that is too large skips every step, on every rank; one that is too small leaves nothing.
    let said = run(&[&args[..], &["--threads=1", "--ranks=4", "--reduce=e5m2:fixed:40"]].concat());
    let error = String::from_utf8(said.stderr).unwrap();
    assert!(error.contains("non-finite values in the weight gradient"), "{error}");
    assert!(accuracy(&with("e5m2:fixed:-20")) < 40.0);
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let cases = [
        (&["--ranks=3"][..], "a step of 1 micro-batches cannot be shared by 3 ranks"),
        (&["--ranks=2", "--micro-batches=6", "--batch=60"], "1, 2, 4, 8"),
        (&["--ranks=0"], "have to be 1 to 256"),
        (&["--ranks=2", "--micro-batches=2", "--method=normal"], "several ranks cannot share it"),
        (&["--ranks=2", "--reduce=e5m2:often"], "one of agreed, measured, fixed:K"),
        (&["--ranks=2", "--reduce=e5m2:fixed:200"], "a whole K from -126 to 126"),
        (&["--ranks=2", "--reduce=f32:agreed"], "f32 is summed without a scale"),
        (&["--ranks=2", "--reduce=binary16-flushing"], "no format for them"),
        (&["--ranks=2", "--deadline=0"], "0 is not in"),
        (&["--ranks=2", "--micro-batches=2", "--save=/dev/full", "--until=3"], "No space left"),
        (&["--ranks=2", "--micro-batches=2", "--resume=/dev/null"], "no checkpoint"),
        (&["--ranks=2", "--micro-batches=2", "--resume=/nowhere"], "/nowhere cannot be read"),
    ];
    for (args, expected) in cases {
        let began = Instant::now();
        let output = run(&[&["--task=digits-mlp", "--epochs=1"], args].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(expected), "{args:?}: {error}");
        assert_eq!(error.matches("error:").count(), 1, "{args:?}: {error}");
        assert!(
            !error.contains("panicked") && began.elapsed() < Duration::from_secs(60),
            "{error}"
        );
    }
    assert!(share(12, 2, 3).is_ok_and(|own| own == (8..12)));
    assert!(share(12, 0, 1).is_ok_and(|own| own == (0..12)));
    assert!(share(12, 0, 2).is_err() && share(2, 0, 4).is_err());
}

/// Without MPI, ranks that mpirun started say how to build with it, instead of training side by side.
#[cfg(not(feature = "mpi"))]
#[test]
fn ranks_of_mpirun_need_a_program_with_mpi() {
    for (rank, size) in [("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE")]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
        command.args(["train", "--task=digits-mlp"]).env(rank, "0").env(size, "2");
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains("--features mpi"), "{error}");
    }
}

/// A rank that is interrupted ends all behind the same step, and what was saved goes on as if nothing had been.
#[cfg(unix)]
#[test]
fn interrupted_ranks_can_be_resumed() {
    let folder = TempDir::new().unwrap();
    let saved = folder.path().join("saved");
    let base = ["train", "--task=digits-mlp", "--epochs=400", "--micro-batches=2"];
    let save = ["--ranks=2", "--save-every=10", "--save", saved.to_str().unwrap()];
    let error = super::command_line::interrupted(&[&base[..], &save].concat(), || saved.exists());
    let step = error.split("at step ").nth(1).unwrap().split(':').next().unwrap();
    let until = format!("--until={}", step.trim().parse::<u64>().unwrap() + 5);
    let resume = [&base[1..], &[&until, "--resume", saved.to_str().unwrap()]].concat();
    let (resumed, _) = trained(&resume, "2", &folder);
    let (straight, _) = trained(&[&base[1..], &[&until]].concat(), "1", &folder);
    assert!(resumed == straight);
}

/// Runs ranks of this process, each with its own settings, and returns what came of them.
fn ranks(
    size: usize,
    deadline: Duration,
    train: impl Fn(&Team) -> Result<()> + Sync,
) -> Vec<Result<()>> {
    let train = &train;
    thread::scope(|scope| {
        let members = adaloss_threads::team(size, deadline).into_iter();
        let threads: Vec<_> = members
            .map(|member| {
                scope.spawn(move || train(&Team::begin(|| Ok((member, ())), |_| {}).unwrap()))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Trains a rank for some steps; `odd` changes the task and the settings of the last rank.
fn rank(
    team: &Team,
    odd: impl Fn(&mut Task, &mut Settings),
    mut before: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut task: Task = "digits-mlp".parse()?;
    task.schedule.micro_batches = 4;
    let (method, period) = (Method::MEASURED, 100);
    let mut settings = Settings { format: "binary16".parse()?, method, seed: 0, period };
    if team.rank() + 1 == team.size() {
        odd(&mut task, &mut settings);
    }
    let dataset = Source::Embedded(Default::default()).open()?;
    let mut trainer = Trainer::<_, f16, f16>::new(&task, &*dataset, settings, Cpu::new(1)?)?;
    let reducer = Reducer::new(Reduction::default(), Reducer::BUCKET);
    trainer.share(Ranks { team, reducer, normalises_together: false })?;
    while trainer.step_count() < 10 {
        before(trainer.step_count())?;
        trainer.train_step(&mut NoObserver)?;
    }
    Ok(())
}

const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_rank_that_was_started_differently_is_named_by_all() {
    type Odd = fn(&mut Task, &mut Settings);
    let odd: [(Odd, &str); 4] = [
        (|_, settings| settings.seed = 1, "seed: 1"),
        (|_, settings| settings.format = "binary16-flushing".parse().unwrap(), "Flush"),
        (|_, settings| settings.period = 99, "period: 99"),
        (|task, _| task.schedule.batch = 32, "batch: 32"),
    ];
    for (odd, said) in odd {
        for result in ranks(4, LONG, |team| rank(team, odd, |_| Ok(()))) {
            let error = format!("{:#}", result.unwrap_err());
            assert!(error.contains("rank 3 has another run than rank 0"), "{error}");
            assert!(error.contains(said), "{error}");
        }
    }
}

#[test]
fn a_rank_that_leaves_or_comes_late_ends_the_others() {
    let left = |error: String| assert!(error.contains("rank 3 left the group"), "{error}");
    let ended = ranks(4, LONG, |team| {
        let leaves =
            |step| if team.rank() == 3 && step == 4 { bail!("a broken file") } else { Ok(()) };
        rank(team, |_, _| {}, leaves)
    });
    for (nth, result) in ended.into_iter().enumerate() {
        let error = format!("{:#}", result.unwrap_err());
        if nth == 3 { assert_eq!(error, "a broken file") } else { left(error) }
    }
    let began = Instant::now();
    let ended = ranks(2, Duration::from_secs(1), |team| {
        rank(
            team,
            |_, _| {},
            |step| {
                if team.rank() == 1 && step == 2 {
                    thread::sleep(Duration::from_secs(5));
                }
                Ok(())
            },
        )
    });
    for result in ended {
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains("rank 1 did not come before the deadline"), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn what_fails_on_one_rank_is_said_by_that_one() {
    let ended = ranks(3, LONG, |team| {
        team.all_or_none(Ok(()))?;
        team.all_or_none(if team.rank() == 0 { Ok(()) } else { Err(anyhow!("no room")) })
    });
    let errors: Vec<_> = ended.into_iter().map(Result::unwrap_err).collect();
    assert!(errors[0].is::<Elsewhere>() && errors[2].is::<Elsewhere>());
    assert!(errors[1].is::<OnRank>() && format!("{:#}", errors[1]) == "rank 1: no room");
}

#[test]
fn ranks_gather_and_hand_out_what_they_have() {
    let ended = ranks(3, LONG, |team| {
        let own = vec![team.rank() as u8; team.rank()];
        assert_eq!(team.gather_any(&own)?, [vec![], vec![1], vec![2, 2]]);
        assert_eq!(team.gather_any(&[])?, [[], [], []] as [[u8; 0]; 3]);
        let first = if team.is_first() { vec![7; 1000] } else { Vec::new() };
        assert_eq!(team.from_first(first)?, [7; 1000]);
        assert_eq!(team.sum(vec![1, team.rank() as u64])?, [3, 3]);
        assert!(team.sent()?.bytes > 0);
        Ok(())
    });
    ended.into_iter().for_each(Result::unwrap);
}

#[test]
fn reductions_have_names() {
    for name in ["f32", "e5m2:agreed", "binary16:measured", "bfloat16:fixed:-3"] {
        assert_eq!(name.parse::<Reduction>().unwrap().to_string(), name);
    }
    assert_eq!("e4m3".parse::<Reduction>().unwrap().to_string(), "e4m3:agreed");
    assert!("f33".parse::<Reduction>().is_err());
}

/// The weights and running means after some steps of a residual network in f32 on so many ranks.
fn residual(size: usize, micro_batches: usize, normalises_together: bool) -> Vec<f32> {
    let found = Mutex::new(Vec::new());
    let ended = ranks(size, LONG, |team| {
        let mut task: Task = "digits-resnet".parse()?;
        task.schedule.micro_batches = micro_batches;
        let (method, period) = (Method::F32, 100);
        let settings = Settings { format: "f32".parse()?, method, seed: 0, period };
        let dataset = Source::Embedded(Default::default()).open()?;
        let mut trainer = Trainer::<_, f32, f32>::new(&task, &*dataset, settings, Cpu::new(1)?)?;
        let reducer = Reducer::new(Reduction::default(), Reducer::BUCKET);
        trainer.share(Ranks { team, reducer, normalises_together })?;
        for _ in 0..3 {
            trainer.train_step(&mut NoObserver)?;
        }
        let pieces = trainer.checkpoint()?.pieces;
        let values = pieces.into_iter().flat_map(|piece| piece.values).collect();
        *found.lock().unwrap() = values;
        Ok(())
    });
    ended.into_iter().for_each(Result::unwrap);
    found.into_inner().unwrap()
}

/// Batches that ranks normalise together train as one batch of them all, but for the order of sums in f32; each by itself is
/// something else.
#[test]
fn batches_can_be_normalised_together() {
    let whole = residual(1, 1, false);
    let distance = |other: Vec<f32>| {
        let squares = whole.iter().zip(&other).map(|(x, y)| f64::from(x - y).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let [together, two, alone] =
        [residual(4, 4, true), residual(2, 2, true), residual(4, 4, false)].map(distance);
    assert!(100.0 * together < alone && 100.0 * two < alone, "{together}, {two}, {alone}");
}

/// The comparison of sums: errors are those of the formats, f32 has none, and what is sent halves with the bits.
#[test]
fn sums_are_compared() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sums.csv");
    let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
    let args = ["sums", "--task=digits-towers-30", "--epochs=2", "--seeds=1", "--ranks=4", "--out"];
    let reduce = "--reduce=f32,binary16:agreed,e5m2:measured,e5m2:fixed:12";
    let output = command.args(args).arg(&path).arg(reduce).output().unwrap();
    let [said, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{error}");
    assert!(said.contains("stopped at step 32"), "a scale for all buckets and steps: {said}");
    let mut reader = csv::Reader::from_path(&path).unwrap();
    let rows: Vec<HashMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let number = |name: &str| row[name].parse::<f64>().unwrap_or(f64::NAN);
        let share = 1.0 - 1.0 / number("ranks");
        let (bits, error) = match &row["sums"][..] {
            "f32" => (32.0, 0.0..1.0e-12),
            "binary16:agreed" => (16.0, 1.0e-4..1.0e-3),
            "e5m2:measured" => (8.0, 1.0e-2..0.2),
            _ => continue,
        };
        assert!(error.contains(&number("error")), "{row:?}");
        // The first step of measured is in f32.
        let bytes = number("bytes_per_value") / (2.0 * share * bits / 8.0);
        assert!((0.99..1.2).contains(&bytes), "{bytes}: {row:?}");
        assert!(number("metric") > 0.5 && number("skipped") == 0.0, "{row:?}");
    }
}
