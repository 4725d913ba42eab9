//! `policies` as its users meet it: what it writes, and what it refuses before anything is trained.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

fn policies(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
    command.arg("policies").args(args).output().unwrap()
}

/// Runs a command that has to fail, and returns what it says.
fn failure(args: &[&str]) -> String {
    let output = policies(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{args:?} succeeded");
    assert!(!error.contains("panicked") && output.stdout.is_empty(), "{args:?}: {error}");
    error
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn tables_and_plots_are_written_whole() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("policies");
    let args =
        ["--tasks=digits-mlp:e4m3+binary16-flushing", "--epochs=1", "--out", out.to_str().unwrap()];
    let output = policies(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let files =
        ["digits-mlp-binary16-flushing.svg", "digits-mlp-e4m3.svg", "policies.csv", "policies.md"];
    assert_eq!(names(&out), files);
    assert!(printed.starts_with(&fs::read_to_string(out.join("policies.md")).unwrap()));
    for format in ["e4m3", "binary16-flushing"] {
        let title = format!("**digits-mlp in {format}**: 63 visits in 21 steps");
        assert!(printed.contains(&title), "{printed}");
    }
    let svg = fs::read_to_string(out.join("digits-mlp-e4m3.svg")).unwrap();
    roxmltree::Document::parse(&svg).unwrap();

    let mut sheet = csv::Reader::from_path(out.join("policies.csv")).unwrap();
    let headers = sheet.headers().unwrap().clone();
    let records: Vec<csv::StringRecord> = sheet.records().map(Result::unwrap).collect();
    let column = |name| headers.iter().position(|header| header == name).unwrap();
    let of = |policy: &str, name| {
        let found = records.iter().find(|record| {
            &record[column("policy")] == policy && &record[column("format")] == "e4m3"
        });
        found.unwrap()[column(name)].parse::<f64>().unwrap()
    };
    // Three cells have a first visit each, of 63; current scaling measures at every one.
    assert_eq!(of("measured", "measuring_per_1000"), 3000.0 / 63.0);
    assert_eq!(of("current scaling", "extra_passes_per_1000"), 1000.0);
    assert_eq!(of("current scaling", "kept"), 1.0);
    // What overflows nowhere loses no less than at the greatest scale at which nothing does.
    for record in records.iter().filter(|record| &record[column("format")] == "e4m3") {
        let [clipped, skipped, lost] =
            ["clipped_visits_per_1000", "skipped_steps_per_1000", "lost_mass"]
                .map(|name| record[column(name)].parse::<f64>().unwrap());
        if clipped + skipped == 0.0 {
            assert!(lost >= of("current scaling", "lost_mass"), "{record:?}");
        }
    }

    // The same again, over what is there.
    let before = files.map(|file| fs::read(out.join(file)).unwrap());
    assert!(policies(&args).status.success());
    assert!(before == files.map(|file| fs::read(out.join(file)).unwrap()));
    assert_eq!(names(&out), files);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_trained() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    // As many epochs as take days: it has to be found before.
    let task = "--tasks=digits-mlp:e4m3+e5m2";
    let error = failure(&[task, "--epochs=1000000", "--out", file.to_str().unwrap()]);
    assert!(error.contains("no folder"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    for name in ["policies.csv", "policies.md", "digits-mlp-e5m2.svg"] {
        let out = folder.path().join(format!("out-{name}"));
        fs::create_dir_all(out.join(name)).unwrap();
        let error = failure(&[task, "--epochs=1000000", "--out", out.to_str().unwrap()]);
        assert!(error.contains(name) && error.contains("cannot be written"), "{error}");
        assert_eq!(names(&out), [name]);
    }
    for (args, words) in [
        (["--tasks=digits-mlp:fp8"], "unknown format"),
        (["--tasks=digits"], "unknown task"),
        (["--tasks=digits-mlp:e4m3,digits-mlp:e5m2"], "asked for twice"),
        (["--epochs=0"], "at least one epoch"),
        (["--threads=100000"], "more than"),
    ] {
        let error = failure(&args);
        assert!(error.contains(words), "{error}");
    }
}
