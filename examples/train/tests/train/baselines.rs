//! The baselines that others have: a dynamic scale for each loss, losses divided by their first sizes, and a scale for
//! each block of 32 elements.

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

fn metric(run: &Value) -> f64 {
    run["metric"].as_f64().unwrap()
}

/// Losses 2^40 apart have no scale in common in binary16, and two scales do for them.
#[test]
fn a_scale_for_each_loss_learns_what_one_for_both_does_not() {
    let folder = TempDir::new().unwrap();
    let results = compared(
        folder.path(),
        &["--tasks=digits-units-40@15:binary16", "--methods=f32,backoff,backoff-per-loss"],
    );
    let [f32, one, each] =
        ["f32", "backoff", "backoff-per-loss"].map(|method| of(&results, method)[0]);
    let [f32_metric, one_metric, each_metric] = [f32, one, each].map(metric);
    assert!(f32_metric > 0.8 && one_metric < f32_metric - 0.3, "{f32_metric}, {one_metric}");
    assert!((each_metric - f32_metric).abs() < 0.03, "{f32_metric}, {each_metric}");

    // What is shared is visited once more at each step, and nothing else is.
    let steps: Value = each["sampled_steps"].as_array().unwrap().len().into();
    for cell in each["cells"].as_array().unwrap() {
        let is_again = cell["name"].as_str().unwrap().ends_with(" again");
        let expected = if is_again { &steps } else { &0.into() };
        assert_eq!(&cell["extra_passes"], expected, "{cell}");
    }
    let names = |run: &Value| -> Vec<String> {
        let cells = run["cells"].as_array().unwrap();
        cells.iter().map(|cell| cell["name"].as_str().unwrap().into()).collect()
    };
    assert!(names(each).contains(&"trunk.2 again".into()), "{:?}", names(each));
    assert!(names(one).iter().all(|name| !name.ends_with(" again")));
    // The scale of the quantity falls by its 2^40, one skipped step for each power of two; that of the classes does not.
    let skipped = each["skipped_steps"].as_u64().unwrap();
    assert!((20..80).contains(&skipped), "{skipped} steps were skipped");
    let lowest = |name: &str| {
        let cells = each["cells"].as_array().unwrap();
        let cell = cells.iter().find(|cell| cell["name"] == name).unwrap();
        cell["scales_log2"].as_array().unwrap().iter().filter_map(Value::as_i64).min().unwrap()
    };
    assert!(lowest("loss") > 0 && lowest("quantity.loss") < -10, "{}", lowest("quantity.loss"));
}

#[test]
fn a_scale_for_each_of_one_loss_is_backoff() {
    let run = |methods: &str| {
        let folder = TempDir::new().unwrap();
        compared(folder.path(), &["--tasks=digits-mlp@2:binary16", &format!("--methods={methods}")])
    };
    let [one, each] = ["backoff", "backoff-per-loss"].map(run);
    let [one, each] = [of(&one, "backoff")[0], of(&each, "backoff-per-loss")[0]];
    for figure in ["curve", "cells", "weights", "steps", "skipped_steps", "configuration"] {
        assert_eq!(one[figure], each[figure], "{figure}");
    }
    let both = run("backoff,backoff-per-loss");
    assert_eq!(of(&both, "backoff").len(), 1);
    assert!(of(&both, "backoff-per-loss").is_empty());
    let other = run("backoff,backoff-per-loss:10");
    assert_eq!(of(&other, "backoff-per-loss:10").len(), 1);
}

/// Divided by their first sizes, losses are as far apart as their later sizes alone, whatever unit they were given in.
#[test]
fn normalised_losses_forget_their_unit() {
    let folder = TempDir::new().unwrap();
    let tasks =
        "--tasks=digits-units-20-normalised@2,digits-units-40-normalised@2,digits-units-40@2";
    let results = compared(folder.path(), &[tasks, "--methods=f32,backoff,backoff-per-loss"]);
    for method in ["f32", "backoff", "backoff-per-loss"] {
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

#[test]
fn blocks_learn_in_8_bits_without_a_scale_to_show() {
    let folder = TempDir::new().unwrap();
    let tasks = "--tasks=digits-mlp@6:e4m3+e5m2+binary16";
    let results = compared(folder.path(), &[tasks, "--methods=f32,none,mx"]);
    let f32 = metric(of(&results, "f32")[0]);
    let formats: Vec<_> = of(&results, "mx").iter().map(|run| run["format"].as_str()).collect();
    assert_eq!(formats, [Some("e4m3"), Some("e5m2")], "mx is left out in binary16");
    let none = of(&results, "none");
    for (run, none) in of(&results, "mx").into_iter().zip(&none[1..]) {
        assert!((metric(run) - f32).abs() < 0.05, "{} and {f32}", metric(run));
        assert_eq!(run["format"], none["format"]);
        assert_eq!((&run["skipped_steps"], &run["recovered_steps"]), (&0.into(), &0.into()));
        assert_eq!(run["forward_format"], "binary16");
        let cells = run["cells"].as_array().unwrap().iter();
        for (cell, none) in cells.zip(none["cells"].as_array().unwrap()) {
            assert_eq!(cell["name"], none["name"]);
            assert!(cell["visits"].as_u64() > Some(0) && cell["extra_passes"] == 0, "{cell}");
            assert!(cell["scales_log2"].as_array().unwrap().iter().all(Value::is_null), "{cell}");
            // The scale of a block keeps more than the scale 2^0 of everything, and not all.
            let lost = |cell: &Value| cell["underflow_real"].as_f64().unwrap();
            assert!(lost(cell) < lost(none), "{}: {} {}", cell["name"], lost(cell), lost(none));
            assert!(cell["lost_mass"].as_f64().unwrap() <= lost(cell), "{cell}");
        }
    }
    // Runs are stored under their method, and found again.
    let again = compared(folder.path(), &[tasks, "--methods=f32,none,mx,backoff"]);
    let new = of(&again, "backoff").len() as u64;
    let all = again["runs"].as_array().unwrap().len() as u64;
    assert_eq!(again["done_before"].as_u64(), Some(all - new));
    assert_eq!(of(&again, "mx"), of(&results, "mx"));
}

#[test]
fn blocks_are_refused_where_there_are_none() {
    let out = TempDir::new().unwrap();
    let out = out.path().to_str().unwrap();
    let error =
        failure(&["compare", "--tasks=digits-mlp:binary16", "--methods=f32,mx", "--out", out]);
    assert!(error.contains("mx is for 8-bit formats"), "{error}");
    for format in ["binary16", "bfloat16", "f32"] {
        let error = failure(&["train", "--task=digits-mlp", "--method=mx", "--format", format]);
        assert!(error.contains("its formats are e4m3 and e5m2"), "{error}");
    }
    let error = failure(&["inspect", "--task=digits-mlp", "--format=e4m3", "--methods=mx"]);
    assert!(error.contains("mx has one for each block"), "{error}");
    let error = failure(&["train", "--method=backoff-per-loss:x"]);
    assert!(error.contains("the interval of"), "{error}");
}

#[test]
fn help_says_where_each_method_applies() {
    let output = run(&["compare", "--help"]);
    let help: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().split_whitespace().collect();
    let help = help.join(" ");
    for text in ["is backoff where there is one loss", "is left out in other formats"] {
        assert!(help.contains(text), "{text}: {help}");
    }
}
