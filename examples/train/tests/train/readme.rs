//! The command lines that README.md and docs/experiments.md show are ones that the program takes, and it names the tests and benchmarks there are.

use std::{fs, path::Path, process::Command};

/// What stands before the arguments of the program.
const PROGRAM: &str = "cargo run --release -p adaloss-train -- ";

fn root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The commands of the documents' shell blocks, without what is said of them.
fn commands() -> Vec<String> {
    let text = |path: &str| fs::read_to_string(root(path)).expect("a document");
    let documents = ["README.md", "docs/experiments.md"].map(text).concat();
    let blocks = documents.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap_or(line));
    lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Each command of the program, with `--help` behind it: it reads all arguments, and runs nothing.
#[test]
fn the_program_takes_the_arguments_that_the_readme_shows() {
    let commands = commands();
    let arguments = commands.iter().filter_map(|command| command.strip_prefix(PROGRAM));
    let mut count = 0;
    for arguments in arguments {
        let mut program = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
        let output =
            program.args(arguments.split_whitespace()).arg("--help").output().expect("a program");
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "README.md: {PROGRAM}{arguments}: {complained}");
        count += 1;
    }
    assert!(count >= 5, "the README shows the program");
}

/// A misspelt argument is one that the test above would find.
#[test]
fn an_argument_that_does_not_exist_is_refused_before_help() {
    for arguments in [&["train", "--tsk", "digits-mlp"][..], &["train", "--format", "e5m3"]] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_adaloss-train"));
        let output = program.args(arguments).arg("--help").output().expect("a program");
        assert!(!output.status.success(), "{arguments:?}");
    }
}

/// The other commands name packages, scripts and benchmarks that are there.
#[test]
fn what_other_commands_name_is_there() {
    for command in commands().iter().filter(|command| !command.starts_with(PROGRAM)) {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["cargo", "test", "--workspace"] => {}
            ["cargo", "bench", "-p", "adaloss-train", "--bench", bench, ..] => {
                assert!(
                    root("examples/train/benches").join(format!("{bench}.rs")).is_file(),
                    "{command}"
                );
            }
            // Those for C are run by capi/tests/guides.
            [first, ..]
                if ["capi/install.sh", "export", "cc", "./runtime", "cp", "cd"]
                    .contains(&first) => {}
            _ => panic!("README.md: nothing tries `{command}`"),
        }
    }
}
