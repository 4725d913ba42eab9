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
    let out = folder.path().join("report");
    let printed = success(&[
        "compare",
        "--tasks=digits-mlp:e5m2",
        "--methods=f32,none,fixed:20,backoff,amax,normal,range,measured",
        "--seeds=2",
        "--epochs=1",
        "--out",
        text(&out),
    ]);
    assert!(printed.contains("measured"), "{printed}");
    let json = fs::read(out.join("results.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let runs = json["runs"].as_array().unwrap();
    // Two seeds of f32, none and measured, one of the five others.
    assert_eq!(runs.len(), 3 * 2 + 5);
    runs.iter().for_each(check_run);
    let task = &json["tasks"][0];
    assert_eq!((&task["name"], &task["metric"]), (&"digits-mlp".into(), &"accuracy".into()));
    assert_eq!(task["parameters"], 64 * 128 + 128 * 128 + 128 * 10 + 10);
    assert!(json["target"].is_string() && json["command"].as_str().unwrap().contains("compare"));
    assert!(json["peak_memory_bytes"].is_u64() || !cfg!(target_os = "linux"));
    for file in ["index.html", "runs.csv", "cells.csv", "curves.csv", "weights.csv"] {
        assert!(fs::metadata(out.join(file)).unwrap().len() > 100, "{file}");
    }

    // The page can be made again from the figures.
    let again = folder.path().join("again");
    success(&["report", text(&out.join("results.json")), "--out", text(&again)]);
    let page = |folder: &Path| fs::read(folder.join("index.html")).unwrap();
    assert!(page(&out) == page(&again));
}

fn check_run(run: &serde_json::Value) {
    assert_eq!(run["task"], "digits-mlp");
    let expected = match run["method"].as_str().unwrap() {
        "f32" => ["f32", "f32"],
        _ => ["e5m2", "binary16"],
    };
    assert_eq!([run["format"].as_str(), run["forward_format"].as_str()], expected.map(Some));
    assert!((0.0..=1.0).contains(&run["metric"].as_f64().unwrap()));
    assert_eq!(run["period"], 10);
    for field in ["seed", "skipped_steps", "recovered_steps", "decisions"] {
        assert!(run[field].is_u64(), "{field}");
    }
    assert!(run["configuration"].is_string() && run["seconds"].as_f64().unwrap() > 0.0);
    assert!(run["steps_to_target"].is_null() || run["steps_to_target"].is_u64());
    let steps = run["steps"].as_u64().unwrap();
    let curve = run["curve"].as_array().unwrap();
    assert_eq!(curve.last().unwrap()["step"], steps);
    // The loss, the head and the hidden layer; the first layer has no cell.
    let cells = run["cells"].as_array().unwrap();
    let names: Vec<_> = cells.iter().map(|cell| cell["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["loss", "head", "hidden"]);
    let samples = run["sampled_steps"].as_array().unwrap().len();
    for cell in cells {
        for share in ["window_share", "share_kept", "underflow_real", "lost_mass"] {
            assert!((0.0..=1.0).contains(&cell[share].as_f64().unwrap()), "{share}");
        }
        assert_eq!(cell["scales_log2"].as_array().unwrap().len(), samples);
    }
    let probes = run["probed_steps"].as_array().unwrap().len();
    let weights = run["weights"].as_array().unwrap();
    assert_eq!(weights.len(), 3);
    for weight in weights {
        let cosine = weight["cosine"].as_array().unwrap();
        assert_eq!(cosine.len(), probes);
        // The same batch and the same forward pass: only gradients are rounded.
        assert!(
            cosine
                .iter()
                .flat_map(serde_json::Value::as_f64)
                .all(|x| (-1.0..=1.0 + 1e-9).contains(&x))
        );
        if run["method"] == "f32" {
            assert!(cosine.iter().all(|x| x.as_f64().unwrap() > 1.0 - 1e-9));
            assert!(weight["relative_l2"].as_array().unwrap().iter().all(|x| x == 0.0));
        }
    }
}

#[test]
fn a_run_is_a_function_of_its_settings() {
    let train = ["train", "--task=digits-mlp", "--epochs=1", "--format=e4m3", "--decisions"];
    assert_eq!(success(&train), success(&train));
    let other = [&train[..], &["--seed=1"]].concat();
    assert_ne!(success(&train), success(&other));
}

/// Both devices learn, and what they learn differs by rounding only.
#[test]
fn the_portable_device_trains_as_well() {
    let train = ["train", "--task=digits-mlp", "--epochs=2", "--format=binary16"];
    let accuracy = |device: &str| -> f64 {
        let printed = success(&[&train[..], &[device]].concat());
        let line = printed.lines().rfind(|line| line.contains("on the test samples")).unwrap();
        let number = line.trim_end_matches(" %").rsplit(' ').next().unwrap();
        number.parse().unwrap()
    };
    let [cpu, portable] = ["--device=cpu", "--device=portable"].map(accuracy);
    assert!(cpu > 50.0 && (cpu - portable).abs() < 10.0, "{cpu} and {portable}");
}

#[test]
fn inspect_shows_every_tensor() {
    let printed = success(&["inspect", "--steps=3", "--format=e5m2"]);
    for tensor in ["loss", "head", "average", "stage1.block1.conv2", "stage2.block1.norm1"] {
        assert!(printed.contains(&format!("| {tensor} ")), "{tensor} is missing in {printed}");
    }
    let printed = success(&["inspect", "--steps=3", "--task=text-transformer"]);
    for tensor in ["block1.attention", "block2.join1", "block2.up", "last.norm"] {
        assert!(printed.contains(&format!("| {tensor} ")), "{tensor} is missing in {printed}");
    }
}

#[test]
fn look_draws_images_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("samples.png");
    let look = ["look", "--train-scenes=4", "--test-scenes=1", "--samples=4", "--out", text(&out)];
    success(&look);
    assert!(fs::read(&out).unwrap().starts_with(b"\x89PNG"));
    fs::remove_file(&out).unwrap();
    for (more, expected) in [
        (["--task=text-transformer"], "text"),
        (["--samples=5"], "5 of 4 training samples"),
        (["--samples=0"], "0 of 4 training samples"),
        (["--columns=0"], "0 side by side"),
    ] {
        let args: Vec<&str> = look
            .iter()
            .copied()
            .filter(|arg| !more[0].starts_with("--samples") || !arg.starts_with("--samples"))
            .chain(more)
            .collect();
        let error = failure(&args);
        assert!(error.contains(expected), "{more:?}: {error}");
        assert!(!out.exists(), "{more:?}");
    }
}

#[test]
fn calibrate_compares_periods() {
    let tasks = "--tasks=digits-mlp:binary16";
    let printed = success(&["calibrate", tasks, "--periods=1,7", "--epochs=1"]);
    assert!(printed.contains("| measured/7 |"), "{printed}");
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
        let out = folder.path().join("report");
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
        (&["compare", "--tasks=digits-mlp:fp8"], "unknown format \"fp8\""),
        (&["compare", "--tasks=mnist"], "unknown task \"mnist\""),
        (&["compare", "--epochs=0"], "at least one epoch"),
        (&["compare", "--tasks=digits-mlp:bfloat16-flushing", "--methods=fixed:"], "whole number"),
        (&["train", "--batch=0"], "a batch of 0"),
        (&["train", "--batch=1401"], "a batch of 1401"),
        (&["train", "--micro-batches=3"], "in 3 equal parts"),
        (&["train", "--micro-batches=0"], "in 0 equal parts"),
        (&["train", "--learning-rate=NaN"], "learning rate"),
        (&["train", "--clip=-1"], "clipped to must be positive"),
        (&["train", "--threads=0"], "without threads"),
        (&["train", "--network=resnet21"], "is not 6m + 2"),
        (&["train", "--network=vgg"], "unknown network \"vgg\""),
        (&["train", "--network=segnet"], "does not learn what digits-resnet is about"),
        (&["train", "--task=scenes-segnet", "--scene-size=40"], "cannot be halved"),
        (&["inspect", "--steps=100000"], "there is no step after 100000"),
        (&["compare", "--out=no/such/folder/report"], "cannot be written"),
    ] {
        let error = failure(args);
        assert!(error.contains(expected), "{args:?} says {error}");
    }
}

/// Scales far too large overflow every step: the run ends with a reason instead of looping.
#[test]
fn a_run_that_cannot_go_on_ends() {
    let error = failure(&["train", "--task=digits-mlp", "--method=fixed:100"]);
    assert!(error.contains("training cannot go on at step 31: overflow"), "{error}");
}

/// Steps far too wide lose the weights: the run ends and says which, and a comparison goes on.
#[test]
fn a_network_that_is_lost_is_named() {
    let lost = "before the step: stem: overflow, and the network is lost";
    let wide = ["--learning-rate=1e30", "--epochs=1"];
    let folder = TempDir::new().unwrap();
    let (saved, out) = (folder.path().join("saved"), folder.path().join("report"));
    let train = ["train", "--task=digits-mlp", "--save", text(&saved)];
    let error = failure(&[&train[..], &wide].concat());
    assert!(error.contains(&format!("step 1: {lost}")) && !saved.exists(), "{error}");

    let compare = ["compare", "--tasks=digits-mlp:e5m2", "--methods=measured", "--seeds=1"];
    success(&[&compare[..], &wide, &["--out", text(&out)]].concat());
    let json = fs::read(out.join("results.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let run = &json["runs"][0];
    assert_eq!(run["stopped"], format!("at step 1, {lost}"));
    assert_eq!((&run["metric"], &run["steps"]), (&0.0.into(), &1.into()));
}
