//! The test runner: one test per file of vectors, and the table that libtest would swallow.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

use adaloss_oracle::tolerance::{
    GAUSSIAN_FACTOR, LOG_NORMAL_FACTOR, NORMALISATION, NUMPY_LOGARITHMS, NUMPY_MOMENTS,
    POWER_OF_TWO, SCIPY_ERFINV, SUM_OF_BRANCHES,
};

use crate::{
    files::{self, Schema, VectorFile},
    json::Node,
    network, readings,
    report::{Case, Tally, print_table},
};

/// What the command line asks for; flags of libtest that mean nothing here are taken and ignored.
#[derive(Default)]
struct Arguments {
    list: bool,
    terse: bool,
    exact: bool,
    ignored: bool,
    filters: Vec<String>,
    skips: Vec<String>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut parsed = Self::default();
        while let Some(argument) = arguments.next() {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) if flag.starts_with('-') => (flag, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            match flag {
                "--list" => parsed.list = true,
                "--exact" => parsed.exact = true,
                "--ignored" => parsed.ignored = true,
                "--format" | "--skip" | "--test-threads" | "--color" | "--logfile"
                | "--shuffle-seed" | "-Z" => {
                    let Some(value) = value.or_else(|| arguments.next()) else { continue };
                    match flag {
                        "--format" => parsed.terse = value == "terse",
                        "--skip" => parsed.skips.push(value),
                        _ => {}
                    }
                }
                _ if flag.starts_with('-') => {}
                _ => parsed.filters.push(argument),
            }
        }
        parsed
    }

    fn selects(&self, name: &str) -> bool {
        let matches = |pattern: &String| {
            if self.exact { name == pattern } else { name.contains(pattern.as_str()) }
        };
        // No test is ignored, so that a run of only the ignored ones is empty.
        !self.ignored
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}

/// Runs the tests that the command line selects.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse(std::env::args().skip(1));
    let files = match files::find() {
        Ok(files) => files,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let all = files.len();
    let selected: Vec<_> = files.into_iter().filter(|file| arguments.selects(&file.name)).collect();
    if arguments.list {
        selected.iter().for_each(|file| println!("{}: test", file.name));
        if !arguments.terse {
            println!("\n{} tests, 0 benchmarks", selected.len());
        }
        return ExitCode::SUCCESS;
    }
    run(&selected, all - selected.len())
}

fn run(files: &[VectorFile], filtered_out: usize) -> ExitCode {
    println!("\nrunning {} tests", files.len());
    let start = Instant::now();
    let tallies: Vec<Tally> = files
        .iter()
        .map(|file| {
            let tally = check(file);
            println!("test {} ... {}", file.name, if tally.is_ok() { "ok" } else { "FAILED" });
            tally
        })
        .collect();
    println!();
    print_table(&tallies);
    let failed = tallies.iter().filter(|tally| !tally.is_ok()).count();
    if failed == 0 && filtered_out == 0 && files::are_ours() {
        assert_tolerances_are_needed();
    }
    if failed > 0 {
        println!("\nfailures:");
        for message in tallies.iter().flat_map(Tally::failures) {
            println!("    {message}");
        }
    }
    let (verdict, passed) = (if failed == 0 { "ok" } else { "FAILED" }, tallies.len() - failed);
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
         {filtered_out} filtered out; finished in {:.2}s\n",
        start.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The vectors that ship with the crate use each tolerance.
fn assert_tolerances_are_needed() {
    GAUSSIAN_FACTOR.assert_needed();
    LOG_NORMAL_FACTOR.assert_needed();
    NUMPY_MOMENTS.assert_needed();
    NUMPY_LOGARITHMS.assert_needed();
    SCIPY_ERFINV.assert_needed();
    POWER_OF_TWO.assert_needed();
    SUM_OF_BRANCHES.assert_needed();
    network::witness::check(&mut Case::default()).expect("within the tolerances");
    NORMALISATION.assert_needed();
    readings::check().expect("records that are read");
}

fn check(file: &VectorFile) -> Tally {
    let mut tally = Tally::new(&file.name);
    let records = match file.records() {
        Ok(records) => records,
        Err(message) => {
            tally.fail(format!("{}: {message}", file.name));
            return tally;
        }
    };
    let first = records.iter().find_map(|(_, record)| record.as_ref().ok());
    let Some(schema) = first.and_then(|first| Schema::of(file, first)) else {
        tally.fail(format!("{}: unknown file: its records have no known schema", file.name));
        return tally;
    };
    for (line, record) in &records {
        let mut case = Case::default();
        let (id, checked) = match record {
            Err(message) => (None, Err(format!("malformed record: {message}"))),
            Ok(record) => {
                let root = Node::root(record);
                let checked = catch_unwind(AssertUnwindSafe(|| (schema.check)(root, &mut case)));
                let id = ["id", "case"].iter().find_map(|name| root.optional(name)?.text().ok());
                (id, checked.unwrap_or_else(|panic| Err(describe(&*panic))))
            }
        };
        let place = match id {
            Some(id) => format!("{}:{line}: {id}", file.name),
            None => format!("{}:{line}", file.name),
        };
        tally.count(&place, case, checked);
    }
    tally
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", message.unwrap_or("no message"))
}
