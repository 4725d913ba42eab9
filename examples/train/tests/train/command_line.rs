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
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/data").join(name)
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
    assert_eq!(runs.len(), 8 * 2);
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
    let method = run["method"].as_str().unwrap();
    let decides_by_period = ["normal", "range"].contains(&method);
    assert_eq!(run["period"], if decides_by_period { 10 } else { 100 });
    for field in ["seed", "skipped_steps", "recovered_steps", "certificates", "broken_promises"] {
        assert!(run[field].is_u64(), "{field}");
    }
    let certifies = decides_by_period || ["amax", "measured"].contains(&method);
    assert_eq!(run["certificates"] != 0, certifies, "{method}");
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
        // Of each tensor the one of the first step is due, and of others than these none: an epoch has
        // 21 steps, and all are sampled.
        let measures = ["amax", "measured"].contains(&method);
        assert_eq!(cell["measuring_passes"], u64::from(measures), "{method}");
        let [extra, replays] =
            ["extra_passes", "replays"].map(|field| cell[field].as_u64().unwrap());
        match method {
            // And one for the first scale of all.
            "amax" | "measured" => assert_eq!(extra, replays + 2, "{method}"),
            _ => assert_eq!(extra, replays, "{method}"),
        }
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

/// The commands of docs/datasets.md, in a folder of their own.
#[test]
fn the_guide_to_data_sets_as_it_stands() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/datasets.md");
    let guide = fs::read_to_string(guide).unwrap();
    let block = guide.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = TempDir::new().unwrap();
    for line in block.lines() {
        let arguments = line.strip_prefix("adaloss-train ").unwrap().split_whitespace();
        let mut program = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
        let output = program.args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(block.lines().count(), 3);
    assert!(fs::read(folder.path().join("streets.png")).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(fs::read_dir(folder.path().join("streets/train")).unwrap().count(), 24);
}

/// A run whose samples are read ahead saves the same checkpoint, resumed or not; broken files are counted.
#[test]
fn reading_ahead_changes_no_bit_and_broken_files_are_said() {
    let folder = TempDir::new().unwrap();
    let streets = folder.path().join("streets");
    success(&["generate", "camvid", text(&streets), "--train=10", "--test=5", "--size=32"]);
    fs::write(streets.join("train/train_00003.png"), "no image").unwrap();
    let saved = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let task =
            ["train", "--task=scenes-segnet", "--epochs=2", "--batch=4", "--micro-batches=2"];
        let data = ["--data", text(&streets), "--save", text(&path)];
        let printed = success(&[&task[..], &data, more].concat());
        (printed, fs::read(path).unwrap())
    };
    let skip = "--on-broken=skip";
    let (printed, at_once) = saved("at-once", &[skip, "--readers=0"]);
    let said = "samples that could not be read and were left out: 1; ";
    assert!(printed.contains(said) && printed.contains("train_00003.png"), "{printed}");
    assert!(!printed.contains("samples were read by"), "{printed}");
    let (printed, ahead) = saved("ahead", &[skip, "--readers=3", "--ahead=2"]);
    assert!(printed.contains("samples were read by 3 threads; "), "{printed}");
    assert_eq!(ahead, at_once);
    saved("half", &[skip, "--until=3"]);
    let half = folder.path().join("half");
    let (_, resumed) = saved("resumed", &[skip, "--resume", text(&half)]);
    assert_eq!(resumed, at_once);
    let (_, shared) = saved("shared", &[skip, "--ranks=2", "--readers=2"]);
    assert_eq!(shared, at_once);
    let stopped =
        failure(&["train", "--task=scenes-segnet", "--batch=4", "--data", text(&streets)]);
    let said = "a sample is broken, and was not to be skipped: ";
    assert!(stopped.contains(said) && stopped.contains("train_00003.png"), "{stopped}");
}

#[test]
fn a_folder_of_something_else_is_told_what_is_expected() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let train = |task: &str| failure(&["train", "--task", task, "--data", text(&empty)]);
    for (task, expected) in [
        (
            "digits-resnet",
            "for ImageNet train/ with a folder of photographs for each class, and val/",
        ),
        ("scenes-segnet", "train/, trainannot/, test/ and testannot/ are expected in it"),
        ("text-transformer", "is a folder, which images are read from"),
    ] {
        let error = train(task);
        assert!(error.contains(expected), "{error}");
    }
    let error = failure(&["generate", "voc", text(folder.path())]);
    assert!(error.contains("has files in it already"), "{error}");
}

#[test]
fn calibrate_compares_periods() {
    let tasks = "--tasks=digits-mlp:binary16";
    let printed = success(&["calibrate", tasks, "--periods=1,7", "--epochs=1"]);
    for row in ["| normal/1 |", "| normal/7 |", "| measured |"] {
        assert_eq!(printed.matches(row).count(), 1, "{row} in {printed}");
    }
}

/// Evidence is taken more or less often, and what is learnt is the same.
#[test]
fn certificates_move_no_scale() {
    let train = |method: &str, period: &str| {
        let task = ["train", "--task=digits-mlp", "--epochs=2", "--format=e4m3"];
        let printed = success(&[&task[..], &[method, period]].concat());
        let (said, totals) = printed.trim_end().rsplit_once('\n').unwrap();
        (said.to_owned(), totals.to_owned())
    };
    for method in ["--method=measured", "--method=amax"] {
        let (often, seldom) = (train(method, "--period=1"), train(method, "--period=4294967295"));
        assert_eq!(often.0, seldom.0);
        // 42 steps of three tensors.
        assert!(often.1.contains(", 126 certificates, "), "{}", often.1);
        assert!(seldom.1.contains(", 0 certificates, "), "{}", seldom.1);
    }
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
        (put("foreign", b"a text"), "no IDX file"),
        (
            put("packed", b"\x1f\x8b\x08\x00 a gzip file"),
            "compressed by gzip, and truncated or damaged",
        ),
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
        (&["compare", "--gallery", "--period=0"], "period must be at least 1"),
        (&["compare", "--full", "--period=0"], "period must be at least 1"),
        (&["compare", "--gallery", "--full"], "cannot be used with"),
        (&["compare", "--gallery", "--tasks=digits-mlp"], "cannot be used with"),
        (&["compare", "--tasks=digits-mlp@1,digits-mlp@2"], "named with 1 and with 2 epochs"),
        (&["compare", "--tasks=digits-mlp@x"], "epochs of \"digits-mlp@x\" are no whole number"),
        (&["compare", "--tasks=digits-mlp@0"], "at least one epoch"),
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
        (&["train", "--network=vgg15"], "vgg15 is none of [11, 13, 16, 19]"),
        (&["train", "--network=lenet"], "unknown network \"lenet\""),
        (&["train", "--network=segnet"], "cannot learn digits-resnet"),
        (
            &[
                "train",
                "--task=scenes-segnet",
                "--network=segnet:widths=2-2-2-2-2",
                "--scene-size=16",
            ],
            "cannot be halved",
        ),
        (&["inspect", "--steps=100000"], "there is no step after 100000"),
        (&["compare", "--out=no/such/folder/report"], "cannot be written"),
        (&["compare", "--seeds=1001"], "1001 seeds are more than 1000"),
        (&["compare", "--jobs=0"], "runs at a time have to be 1 to 1024"),
        (&["compare", "--jobs=100000"], "runs at a time have to be 1 to 1024"),
        (&["compare", "--epochs=18446744073709551615"], "more steps than can be counted"),
        (&["train", "--epochs=439208192231179801"], "more steps than can be counted"),
        (&["train", "--threads=100000"], "100000 threads are more than 1024"),
        (&["train", "--network=resnet20:width=99999999999"], "is no number from 1 to 65536"),
        (&["train", "--network=resnet20:width=65536"], "at most 268435456 can be trained here"),
        (
            &["train", "--network=segnet:kernel=2"],
            "\"kernel=2\" of segnet: a kernel has an odd number",
        ),
        (&["train", "--task=scenes-segnet", "--scene-size=512", "--train-scenes=100000"], "pixels"),
        (&["train", "--save-every=5"], "--save <FILE>"),
        (&["train", "--save-every=0", "--save=x"], "0 is not in 1.."),
    ] {
        let error = failure(args);
        assert!(error.contains(expected), "{args:?} says {error}");
    }
}

/// Scales far too large overflow every step: the run ends with a reason instead of looping.
#[test]
fn a_run_that_cannot_go_on_ends() {
    let error = failure(&["train", "--task=digits-mlp", "--method=fixed:100"]);
    assert!(error.contains("at step 31: training cannot go on: overflow in"), "{error}");
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

/// Starts a program whose standard output nobody reads.
#[cfg(target_os = "linux")]
fn unheard(args: &[&str], output: impl Into<std::process::Stdio>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
    command.args(args).stdout(output).stderr(std::process::Stdio::piped());
    command.spawn().unwrap().wait_with_output().unwrap()
}

/// The reader of a pipe goes away, or a disk is full: files are written, and no run is lost.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_said_costs_no_run() {
    let folder = TempDir::new().unwrap();
    let saved = folder.path().join("saved");
    let train = ["train", "--task=digits-mlp", "--epochs=1", "--decisions", "--save", text(&saved)];
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let closed = unheard(&train, writer);
    assert!(closed.status.success(), "{}", String::from_utf8_lossy(&closed.stderr));
    assert!(saved.exists());
    fs::remove_file(&saved).unwrap();
    let full = unheard(&train, fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let error = String::from_utf8_lossy(&full.stderr);
    assert!(!full.status.success() && saved.exists(), "{error}");
    assert!(
        error.contains("standard output cannot be written") && !error.contains("panicked"),
        "{error}"
    );

    let out = folder.path().join("report");
    let compare = [
        "compare",
        "--tasks=digits-mlp",
        "--methods=measured",
        "--seeds=1",
        "--epochs=1",
        "--out",
        text(&out),
    ];
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(unheard(&compare, writer).status.success() && out.join("index.html").exists());
}

/// An argument that is no text is a path like any other.
#[cfg(target_os = "linux")]
#[test]
fn an_argument_that_is_no_text_is_taken() {
    use std::os::unix::ffi::OsStringExt;

    let folder = TempDir::new().unwrap();
    let out = folder.path().join(std::ffi::OsString::from_vec(b"report-\xff".to_vec()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
    command.args([
        "compare",
        "--tasks=digits-mlp",
        "--methods=measured",
        "--seeds=1",
        "--epochs=1",
        "--out",
    ]);
    let output = command.arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.join("results.json").exists());
}

/// What was named twice runs once, and what an earlier comparison has left is not run again.
#[test]
fn a_comparison_goes_on_from_what_is_there() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("report");
    let base = ["compare", "--epochs=1", "--seeds=1", "--out", text(&out)];
    let done = |more: &[&str]| {
        let output = run(&[&base[..], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stderr).unwrap();
        (said.lines().count(), said.lines().filter(|line| line.ends_with(", done before")).count())
    };
    let twice =
        ["--tasks=digits-mlp:e5m2+e5m2,digits-mlp:e5m2", "--methods=measured,amax,measured"];
    assert_eq!(done(&twice), (2, 0));
    assert_eq!(done(&["--tasks=digits-mlp:e5m2", "--methods=measured,amax,f32"]), (3, 2));
    assert_eq!(done(&["--tasks=digits-mlp:e5m2", "--methods=measured", "--again"]), (1, 0));
    assert_eq!(
        done(&["--tasks=digits-mlp:e5m2", "--methods=measured", "--learning-rate=0.01"]),
        (1, 0)
    );
    // What is damaged is run again.
    for stored in fs::read_dir(out.join("runs")).unwrap() {
        let path = stored.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(done(&["--tasks=digits-mlp:e5m2", "--methods=measured"]), (1, 0));
}

/// Runs begin place by place, a table is printed as soon as its runs have ended, and the same comparison prints the
/// same again.
#[test]
fn the_first_table_stands_first() {
    use std::io::Read;

    let folder = TempDir::new().unwrap();
    let out = folder.path().join("report");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
    let comparison = [
        "compare",
        "--tasks=digits-mlp@1:binary16+e5m2",
        "--methods=none,f32",
        "--seeds=2",
        "--jobs=1",
        "--out",
        text(&out),
    ];
    command.args(comparison);
    let mut child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    drop(command);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    let expected = [
        "1 of 8: digits-mlp in f32 by f32, seed 0: ",
        "2 of 8: digits-mlp in f32 by f32, seed 1: ",
        "3 of 8: digits-mlp in bfloat16 by none, seed 0: ",
        "4 of 8: digits-mlp in bfloat16 by none, seed 1: ",
        "5 of 8: digits-mlp in binary16 by none, seed 0: ",
        "6 of 8: digits-mlp in binary16 by none, seed 1: ",
        "digits-mlp in binary16: test accuracy in per cent",
        "| f32 ",
        "| bfloat16 ",
        "| none ",
        "7 of 8: digits-mlp in e5m2 by none, seed 0: ",
        "8 of 8: digits-mlp in e5m2 by none, seed 1: ",
        "digits-mlp in e5m2: test accuracy in per cent",
        "| f32 ",
        "| none ",
        "  bfloat16: ",
        "  none: ",
        "The report: ",
    ];
    let skipped = |line: &&str| {
        let is_heading = line.starts_with("| method") || line.starts_with("|--");
        !is_heading && ["|", "  ", "The", "d"].iter().any(|start| line.starts_with(start))
            || line.starts_with(|c: char| c.is_ascii_digit())
    };
    let found: Vec<&str> = said.lines().filter(skipped).collect();
    assert_eq!(found.len(), expected.len(), "{said}");
    for (line, start) in found.iter().zip(expected) {
        assert!(line.starts_with(start), "{line} instead of {start} in\n{said}");
    }
    // Both tables are complete at once now.
    let is_progress = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
    let printed: Vec<&str> = said.lines().filter(|line| !is_progress(line)).collect();
    let again = String::from_utf8(run(&comparison).stdout).unwrap();
    assert_eq!(printed, again.lines().collect::<Vec<_>>());
}

/// Waits until a file is there, or a minute is over.
#[cfg(unix)]
fn wait_for(is_there: impl Fn() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_there() {
        assert!(std::time::Instant::now() < until, "it did not come to pass");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Begins a command, interrupts it when something is there, and returns what it says of that.
#[cfg(unix)]
pub(crate) fn interrupted(args: &[&str], is_there: impl Fn() -> bool) -> String {
    use std::process::Stdio;

    let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
    let command = command.args(args).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for(is_there);
    let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(130) && error.contains("interrupted"), "{error}");
    error
}

/// A run that is interrupted leaves a checkpoint, whose next steps are what they would have been.
#[cfg(unix)]
#[test]
fn an_interrupted_run_can_be_resumed() {
    let folder = TempDir::new().unwrap();
    let saved = folder.path().join("saved");
    let base = ["train", "--task=digits-mlp", "--epochs=400"];
    let args = [&base[..], &["--save-every=10", "--save", text(&saved)]].concat();
    let error = interrupted(&args, || saved.exists());
    let step: u64 =
        error.split("at step ").nth(1).unwrap().split(':').next().unwrap().trim().parse().unwrap();
    let until = format!("--until={}", step + 5);
    let [resumed, straight] = ["resumed", "straight"].map(|name| folder.path().join(name));
    success(&[&base[..], &[&until, "--resume", text(&saved), "--save", text(&resumed)]].concat());
    success(&[&base[..], &[&until, "--save", text(&straight)]].concat());
    assert!(fs::read(&resumed).unwrap() == fs::read(&straight).unwrap());
}

/// A comparison that is interrupted reports what it has, and goes on.
#[cfg(unix)]
#[test]
fn an_interrupted_comparison_reports_what_it_has() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("report");
    let args = [
        "compare",
        "--tasks=digits-mlp",
        "--methods=measured",
        "--seeds=200",
        "--epochs=2",
        "--jobs=1",
        "--out",
        text(&out),
    ];
    let stored = || fs::read_dir(out.join("runs")).map_or(0, Iterator::count);
    let error = interrupted(&args, || stored() >= 2);
    assert!(error.contains("of 200 runs: interrupted"), "{error}");
    let json = fs::read(out.join("results.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let runs = json["runs"].as_array().unwrap().len();
    assert!((2..200).contains(&runs) && runs == stored(), "{runs}");
}

/// A comparison that is interrupted takes the place of no report that has other runs.
#[cfg(unix)]
#[test]
fn an_interrupted_comparison_spares_an_earlier_report() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("report");
    let base = ["compare", "--tasks=digits-mlp", "--jobs=1", "--out", text(&out)];
    success(&[&base[..], &["--methods=amax", "--seeds=1", "--epochs=1"]].concat());
    let earlier = fs::read(out.join("results.json")).unwrap();
    let args = [&base[..], &["--methods=measured", "--seeds=200", "--epochs=2"]].concat();
    let stored = || fs::read_dir(out.join("runs")).map_or(0, Iterator::count);
    let error = interrupted(&args, || stored() >= 2);
    assert!(error.contains("the earlier report stays"), "{error}");
    assert!(fs::read(out.join("results.json")).unwrap() == earlier);
}

/// What has no name of its own, as the pipe that standard output may be, is written into.
#[cfg(unix)]
#[test]
fn a_pipe_without_a_name_takes_a_checkpoint() {
    let folder = TempDir::new().unwrap();
    let saved = folder.path().join("saved");
    let base = ["train", "--task=digits-mlp", "--until=2", "--save"];
    success(&[&base[..], &[text(&saved)]].concat());
    let piped = run(&[&base[..], &["/dev/stdout"]].concat());
    assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
    let checkpoint = fs::read(&saved).unwrap();
    assert!(piped.stdout.windows(checkpoint.len()).any(|window| window == checkpoint));
}

/// The folder of runs is tried before anything is run.
#[test]
fn a_comparison_that_could_not_keep_its_runs_does_not_begin() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("runs"), "a file").unwrap();
    let error = failure(&["compare", "--tasks=digits-mlp", "--out", text(folder.path())]);
    assert!(error.contains("runs cannot be written: it is no folder"), "{error}");
}

/// A loss at the end of what numbers there are has a page, too.
#[test]
fn a_report_ends_whatever_the_numbers_are() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("report");
    success(&[
        "compare",
        "--tasks=digits-mlp",
        "--methods=measured",
        "--seeds=1",
        "--epochs=1",
        "--out",
        text(&out),
    ]);
    let path = out.join("results.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["runs"][0]["curve"][0]["loss"] = 1e-308.into();
    json["runs"][0]["curve"][1]["loss"] = 1e308.into();
    fs::write(&path, json.to_string()).unwrap();
    let again = folder.path().join("again");
    success(&["report", text(&path), "--out", text(&again)]);
    assert!(again.join("index.html").exists());
}

/// What stands at the end of a path stays what it is, and what could not be written is known at once.
#[cfg(unix)]
#[test]
fn outputs_are_tried_before_anything_is_run() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
    let train = ["train", "--task=digits-mlp", "--epochs=400000"];
    let missing = folder.path().join("no").join("such");
    for (path, what) in [
        (&file, "it is read-only"),
        (&folder.path().to_path_buf(), "it is a folder"),
        (&missing, "No such file"),
    ] {
        let error = failure(&[&train[..], &["--save", text(path)]].concat());
        assert!(error.contains("cannot be written") && error.contains(what), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let out = folder.path().join("report");
    fs::create_dir_all(out.join("index.html")).unwrap();
    let error = failure(&["compare", "--epochs=400", "--out", text(&out)]);
    assert!(error.contains("index.html cannot be written: it is a folder"), "{error}");
    // To a device it is written.
    success(&["train", "--task=digits-mlp", "--epochs=1", "--until=2", "--save=/dev/null"]);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}
