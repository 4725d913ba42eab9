//! The baselines that others have: losses divided by their first sizes.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_adaloss-train")).args(args).output().unwrap()
}

/// Runs a command that has to fail, and returns what it says.
fn failure(args: &[&str]) -> String {
    let output = run(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !error.contains("panicked"), "{args:?}: {error}");
    error
}

/// Compares in a folder, with one seed, and returns the contents of `results.json`.
fn compared(folder: &Path, args: &[&str]) -> Value {
    let out = ["compare", "--seeds=1", "--out", folder.to_str().unwrap()];
    let output = run(&[&out, args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&fs::read(folder.join("results.json")).unwrap()).unwrap()
}

/// Returns the runs of a method, in the order of the tasks.
fn of<'a>(results: &'a Value, method: &str) -> Vec<&'a Value> {
    let runs = results["runs"].as_array().unwrap();
    runs.iter().filter(|run| run["method"] == method).collect()
}

/// Divided by their first sizes, losses are as far apart as their later sizes alone, whatever unit they were given in.
#[test]
fn normalised_losses_forget_their_unit() {
    let folder = TempDir::new().unwrap();
    let tasks =
        "--tasks=digits-units-20-normalised@2,digits-units-40-normalised@2,digits-units-40@2";
    let results = compared(folder.path(), &[tasks, "--methods=f32,backoff"]);
    for method in ["f32", "backoff"] {
        let [small, large, plain] = of(&results, method)[..] else { panic!("three runs") };
        for figure in ["curve", "weights", "skipped_steps"] {
            assert_eq!(small[figure], large[figure], "{figure} of {method}");
        }
        assert!(large["curve"] != plain["curve"], "{method}");
    }
    let schedule = results["tasks"][0]["schedule"].as_str().unwrap();
    assert!(schedule.contains("divided by its size at the first batch"), "{schedule}");
    for name in ["digits-units-normalised", "digits-units-61-normalised", "digits-units-20-other"] {
        let error = failure(&["compare", "--tasks", name]);
        assert!(error.contains("no whole number of binades from 0 to 60"), "{error}");
    }
}
