//! The program as its users meet it: what it writes, and what it says of bad input.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_adaloss-train")).args(args).output().unwrap()
}

/// Runs a command that has to fail, and returns what it says.
fn failure(args: &[&str]) -> String {
    let output = run(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{args:?} succeeded");
    assert!(!error.contains("panicked"), "{args:?} panicked: {error}");
    error
}

/// Runs a command that has to succeed, and returns what it prints.
fn success(args: &[&str]) -> String {
    let output = run(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?} failed: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn compare_writes_every_figure() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("results.json");
    let printed = success(&[
        "compare",
        "--tasks=digits-residual",
        "--formats=e5m2",
        "--methods=f32,none,fixed:20,backoff,amax,normal,range,measured",
        "--seeds=2",
        "--epochs=1",
        "--hidden=16",
        "--out",
        text(&out),
    ]);
    assert!(printed.contains("| measured |"), "{printed}");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    let runs = json["runs"].as_array().unwrap();
    // Two seeds of f32, none and measured, one of the five others.
    assert_eq!(runs.len(), 3 * 2 + 5);
    for run in runs {
        assert_eq!(run["task"], "digits-residual");
        let method = run["method"].as_str().unwrap();
        let formats = if method == "f32" { ("f32", "f32") } else { ("e5m2", "binary16") };
        assert_eq!((run["format"].as_str(), run["forward_format"].as_str()), {
            let (gradient, forward) = formats;
            (Some(gradient), Some(forward))
        });
        let accuracy = run["accuracy"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&accuracy));
        assert_eq!(run["period"], 10);
        for field in ["seed", "skipped_steps", "recovered_steps", "decisions"] {
            assert!(run[field].is_u64(), "{field}");
        }
        assert!(run["seconds"].as_f64().unwrap() > 0.0);
        assert!(run["steps_to_target"].is_null() || run["steps_to_target"].is_u64());
        // The loss, the head, and three cells of each of the two residual blocks.
        let cells = run["cells"].as_array().unwrap();
        assert_eq!(cells.len(), 8);
        for cell in cells {
            for share in ["window_share", "share_kept", "underflow_real", "lost_mass"] {
                assert!((0.0..=1.0).contains(&cell[share].as_f64().unwrap()), "{share}");
            }
        }
    }
    assert!(json["target"].is_string() && runs[0]["configuration"].is_string());
    assert!(json["peak_memory_bytes"].is_u64() || !cfg!(target_os = "linux"));
    assert_eq!(json["configuration"]["epochs"], 1);
}

#[test]
fn a_run_is_a_function_of_its_settings() {
    let train = ["train", "--epochs=1", "--hidden=16", "--format=e4m3", "--decisions"];
    assert_eq!(success(&train), success(&train));
    let other = [&train[..], &["--seed=1"]].concat();
    assert_ne!(success(&train), success(&other));
}

#[test]
fn inspect_shows_every_tensor() {
    let printed = success(&["inspect", "--steps=3", "--hidden=16", "--format=e5m2"]);
    for tensor in ["loss", "head", "block1.second", "block1.first", "block1.join", "block0.join"] {
        assert!(printed.contains(&format!("| {tensor} ")), "{tensor} is missing in {printed}");
    }
}

#[test]
fn calibrate_compares_periods() {
    let printed = success(&[
        "calibrate",
        "--tasks=digits-mlp",
        "--formats=binary16",
        "--periods=1,7",
        "--epochs=1",
        "--hidden=16",
    ]);
    assert!(printed.contains("| measured |      7 |"), "{printed}");
}

#[test]
fn broken_data_sets_are_named() {
    let folder = TempDir::new().unwrap();
    let images = fs::read(data("digits-images-idx3-ubyte")).unwrap();
    let labels = fs::read(data("digits-labels-idx1-ubyte")).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let good = put("labels", &labels);
    let cases = [
        (put("truncated", &images[..images.len() - 1]), "ask for 115008 bytes and 115007 follow"),
        (put("oversized", &[&images[..], &[0]].concat()), "ask for 115008 bytes and 115009 follow"),
        (put("header", &images[..9]), "ends within dimension 1"),
        (put("mislabelled", &labels), "images have 3 dimension(s) and this IDX file has 1"),
        (put("foreign", b"\x1f\x8b\x08\x00 a gzip file"), "no IDX file"),
        (put("empty", b""), "has 0 bytes"),
        (folder.path().join("missing"), "cannot be read"),
    ];
    for (path, expected) in cases {
        let out = folder.path().join("results.json");
        let args = ["--images", text(&path), "--labels", text(&good)];
        let error = failure(&[&["compare", "--out", text(&out)], &args[..]].concat());
        assert!(error.contains(expected) && error.contains(text(&path)), "{error}");
        assert!(!out.exists(), "a report was written in spite of: {error}");
    }
}

#[test]
fn impossible_configurations_are_refused() {
    for (args, expected) in [
        (&["compare", "--period=0"][..], "period must be at least 1"),
        (&["compare", "--seeds=0"], "at least one seed"),
        (&["compare", "--methods=fixed:300"], "outside 2^-126..=2^126"),
        (&["compare", "--methods=magic"], "unknown method \"magic\""),
        (&["compare", "--formats=fp8"], "unknown format \"fp8\""),
        (&["compare", "--tasks=mnist"], "unknown task \"mnist\""),
        (&["compare", "--epochs=0"], "at least one epoch"),
        (&["train", "--batch=0"], "a batch of 0"),
        (&["train", "--batch=1401"], "a batch of 1401"),
        (&["train", "--hidden=0"], "at least one unit"),
        (&["train", "--learning-rate=NaN"], "learning rate"),
        (&["train", "--warp=2"], "warped by 0 or more and less than 1"),
        (&["inspect", "--steps=100000"], "there is no step after 100000"),
        (&["compare", "--out=no/such/folder/results.json"], "cannot be written"),
    ] {
        let error = failure(args);
        assert!(error.contains(expected), "{args:?} says {error}");
    }
}

/// Scales far too large overflow every step: the run ends with a reason instead of looping.
#[test]
fn a_run_that_cannot_go_on_ends() {
    let error = failure(&["train", "--method=fixed:100", "--hidden=16"]);
    assert!(error.contains("training cannot go on at step 31: overflow"), "{error}");
}
