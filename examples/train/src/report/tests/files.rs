//! Every file is complete, and only our own is read back.

use std::fs;

use super::synthetic::{lost, results};
use crate::{
    report::{print_place, print_summary, read, write},
    results::{Point, Results, RunReport, TaskReport},
};

fn records(csv: &str) -> Vec<csv::StringRecord> {
    csv::Reader::from_reader(csv.as_bytes()).records().map(Result::unwrap).collect()
}

#[test]
fn every_file_is_written_and_json_comes_back_bit_for_bit() {
    let (folder, results) = (tempfile::tempdir().unwrap(), results());
    let folder = folder.path().join("made/on/the/way");
    write(&folder, &results).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "cells.csv",
            "curves.csv",
            "index.html",
            "lost.svg",
            "price.svg",
            "results.json",
            "runs.csv",
            "weights.csv",
        ]
    );
    let again = read(&folder.join("results.json")).unwrap();
    assert_eq!(again, results);
    let bits = |results: &Results| -> Vec<u64> {
        let cells = results.runs.iter().flat_map(|run| &run.cells);
        cells.map(|cell| cell.lost_mass.to_bits()).collect()
    };
    assert_eq!(bits(&again), bits(&results));
    assert!(fs::metadata(folder.join("index.html")).unwrap().len() < 3 << 20);
}

#[test]
fn sheets_have_a_row_for_everything_and_exact_numbers() {
    let (folder, results) = (tempfile::tempdir().unwrap(), results());
    write(folder.path(), &results).unwrap();
    let rows = |name: &str| records(&fs::read_to_string(folder.path().join(name)).unwrap());
    let sum = |of: fn(&RunReport) -> usize| results.runs.iter().map(of).sum::<usize>();
    let runs = rows("runs.csv");
    assert_eq!(runs.len(), results.runs.len());
    for (row, run) in runs.iter().zip(&results.runs) {
        assert_eq!([&row[0], &row[1], &row[2]], [&run.task, &run.format, &run.method]);
        assert_eq!(row[6].parse::<f64>().unwrap().to_bits(), run.metric.to_bits());
        assert_eq!(row[7].parse().ok(), run.steps_to_target);
    }
    let cells = rows("cells.csv");
    assert_eq!(cells.len(), sum(|run| run.cells.len()));
    let losses = results.runs.iter().flat_map(|run| &run.cells).map(|cell| cell.lost_mass);
    assert!(cells.iter().zip(losses).all(|(row, loss)| row[13].parse() == Ok(loss)));
    let passes = results.runs.iter().flat_map(|run| &run.cells);
    let passes = passes.map(|cell| [cell.extra_passes, cell.replays, cell.measuring_passes]);
    for (row, passes) in cells.iter().zip(passes) {
        let read = [18, 19, 20].map(|column| row[column].parse::<u64>().unwrap());
        assert_eq!(read, passes);
    }
    assert_eq!(rows("curves.csv").len(), sum(|run| run.curve.len()));
    assert_eq!(rows("weights.csv").len(), sum(|run| run.weights.len() * run.probed_steps.len()));
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let good = serde_json::to_vec(&results()).unwrap();
    let of_version =
        |version| serde_json::to_vec(&Results { version, ..Results::default() }).unwrap();
    let (older, newer) = (of_version(1), of_version(4));
    for (bytes, reason) in [
        (&b""[..], "empty or truncated"),
        (&good[..good.len() - 1], "empty or truncated"),
        (b"task,format\n", "no JSON"),
        (b"[1, 2]", "no JSON of a comparison"),
        (b"\"text\"", "no results"),
        (b"{\"name\": \"adaloss\"}", "no results"),
        (b"{\"version\": 2}", "malformed"),
        (&older, "of version 1, and only 2 to 3 can be read"),
        (&newer, "of version 4, and only 2 to 3 can be read"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains(reason), "{error}");
        assert!(error.contains("results.json"), "{error}");
    }
    assert!(read(&folder.path().join("missing")).is_err());
}

/// The files of the version before had other names for less.
#[test]
fn results_of_the_version_before_are_read() {
    let mut results = results();
    results.version = Results::OLDEST;
    for run in &mut results.runs {
        (run.broken_promises, run.visits, run.extra_passes) = (0, 0, 0);
        run.gone = None;
        for cell in &mut run.cells {
            (cell.extra_passes, cell.replays, cell.measuring_passes) = (0, 0, 0);
            (cell.clipped_mass, cell.gone_mass) = (None, None);
        }
    }
    let mut json = serde_json::to_value(&results).unwrap();
    for run in json["runs"].as_array_mut().unwrap() {
        let run = run.as_object_mut().unwrap();
        let certificates = run.remove("certificates").unwrap();
        run.insert("decisions".into(), certificates);
        for counted in ["broken_promises", "visits", "extra_passes", "gone"] {
            assert!(run.remove(counted).is_some());
        }
        for cell in run["cells"].as_array_mut().unwrap() {
            let cell = cell.as_object_mut().unwrap();
            for counted in
                ["extra_passes", "replays", "measuring_passes", "clipped_mass", "gone_mass"]
            {
                assert!(cell.remove(counted).is_some());
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    fs::write(&path, json.to_string()).unwrap();
    let read = read(&path).unwrap();
    assert_eq!(read, results);
    write(folder.path(), &read).unwrap();
    let page = fs::read_to_string(folder.path().join("index.html")).unwrap();
    assert!(page.contains("In results of version 2 a window left one or two binades free"));
    // What was not counted is not said to be zero.
    let rows = cells(&print_place(&results, "digits-deep", "e4m3"));
    assert!(rows[1..].iter().all(|row| row[5..7] == ["-"; 2]), "{rows:?}");
}

#[test]
fn a_number_that_is_not_finite_is_said_and_loses_nothing() {
    let mut results = results();
    results.runs[4].metric = f64::NAN;
    results.runs[5].curve[3].metric = f64::INFINITY;
    let folder = tempfile::tempdir().unwrap();
    let error = write(folder.path(), &results).unwrap_err().to_string();
    assert!(error.contains("not finite"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 8);
}

#[test]
fn empty_and_sparse_results_make_a_page() {
    let run = RunReport {
        task: "not described".into(),
        method: "measured".into(),
        curve: vec![Point::default()],
        ..RunReport::default()
    };
    let empty = Results { version: Results::VERSION, ..Results::default() };
    let sparse = Results { runs: vec![run.clone()], ..empty.clone() };
    let tasks = vec![TaskReport::default()];
    let without_runs = Results { tasks, ..empty.clone() };
    let baseline = RunReport { method: "f32".into(), format: "f32".into(), ..run };
    let baseline_only = Results { runs: vec![baseline], ..empty.clone() };
    for results in [empty, sparse, without_runs, baseline_only] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &results).unwrap();
        assert!(print_summary(&results).contains("undecided otherwise."));
        assert_eq!(print_place(&results, "no task", "e4m3"), "");
    }
}

/// Cuts a table of a terminal into its cells, by row.
fn cells(table: &str) -> Vec<Vec<String>> {
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells =
        |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().into()).collect();
    rows.map(cells).collect()
}

#[test]
fn the_terminal_shows_every_method_of_a_place() {
    let results = results();
    let printed = print_place(&results, "digits-deep", "e4m3");
    assert!(printed.contains("digits-deep in e4m3: test accuracy in per cent"), "{printed}");
    let rows = cells(&printed);
    assert_eq!(rows.len(), 1 + 9, "{printed}");
    let row = |method: &str| rows.iter().find(|row| row[0] == method).unwrap();
    let runs = |method: &str| {
        let here = move |run: &&RunReport| {
            run.task == "digits-deep"
                && run.method == method
                && (method == "f32" || run.format == "e4m3")
        };
        results.runs.iter().filter(here).collect::<Vec<_>>()
    };
    for method in ["none", "fixed:20", "backoff", "measured"] {
        let (own, f32) = (runs(method), runs("f32"));
        let mean = |of: &[&RunReport]| of.iter().map(|run| run.metric).sum::<f64>() / 3.0;
        assert_eq!([own.len(), f32.len()], [3; 2]);
        assert_eq!(row(method)[1], format!("{:.1}", 100.0 * mean(&own)));
        let by = format!("{:+.1}", 100.0 * (mean(&own) - mean(&f32)));
        assert_eq!(row(method)[2].split(' ').next().unwrap(), by, "{method}");
        let sum = |of: fn(&RunReport) -> u64| own.iter().map(|run| of(run)).sum::<u64>();
        assert_eq!(row(method)[7], sum(|run| run.skipped_steps).to_string());
        assert_eq!(row(method)[8], sum(|run| run.recovered_steps).to_string());
    }
    assert_eq!([&row("measured")[3][..], &row("none")[3]], ["equal", "failed"]);
    assert_eq!(row("fixed:20")[3], "failed, 3 stopped");
    assert_eq!(row("f32")[2..5], ["-", "", "-"]);
    // One pass a step, at which fifty tensors are visited.
    assert_eq!([&row("measured")[6][..], &row("none")[6]], ["20.0", "0.0"]);
}

#[test]
fn the_terminal_names_every_failure() {
    let results = results();
    let printed = print_summary(&results);
    let line = |method: &str| {
        let start = format!("  {method}: ");
        printed.lines().find_map(|line| line.strip_prefix(start.as_str())).unwrap().to_owned()
    };
    assert!(line("measured").starts_with("equal in "), "{printed}");
    assert!(!line("measured").contains("failed"), "{printed}");
    let failed = line("fixed:20");
    let by = lost(&results, "digits-deep");
    let expected = format!("failed in digits-deep in e4m3 (11.2, -{by}, stopped) and shapes-unet");
    assert!(failed.contains(&expected), "{failed}");
    let none = line("none");
    assert!(none.starts_with("equal in 4 of 8; failed in ") && none.contains("in e4m3"), "{none}");
}

/// Without f32 there is nothing to compare with, and nothing has failed.
#[test]
fn without_a_baseline_nothing_is_said_to_have_failed() {
    let mut results = results();
    results.runs.retain(|run| run.method != "f32");
    let printed = print_summary(&results);
    let said = printed.split("undecided otherwise.").nth(1).unwrap();
    assert!(!said.contains("failed") && !said.contains("equal"), "{said}");
    assert!(said.contains("measured: nothing to compare with in 8 of 8"), "{said}");
    let rows = cells(&print_place(&results, "digits-deep", "e4m3"));
    assert!(rows.iter().all(|row| row[3] != "failed"), "{rows:?}");
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &results).unwrap();
    let page = fs::read_to_string(folder.path().join("index.html")).unwrap();
    assert!(page.contains("nothing is said to have failed") && !page.contains("id=\"overview\""));
}

/// Training without scaling in bfloat16 stands beside every format of 16 bits, and is none of its own.
#[test]
fn what_needs_no_scale_stands_beside_16_bits() {
    let mut results = results();
    let none = |run: &RunReport| run.method == "none" && run.format == "binary16";
    let twins: Vec<_> = results.runs.iter().filter(|run| none(run)).cloned().collect();
    let twins = twins.into_iter().map(|run| RunReport { format: "bfloat16".into(), ..run });
    results.runs.extend(twins);
    for (format, expected) in [("binary16", 1), ("binary16-flushing", 1), ("e5m2", 0), ("e4m3", 0)]
    {
        let rows = cells(&print_place(&results, "digits-deep", format));
        let found = rows.iter().filter(|row| row[0] == "bfloat16").count();
        assert_eq!(found, expected, "{format}");
    }
    let own = cells(&print_place(&results, "digits-deep", "binary16"));
    let row = |method: &str| own.iter().find(|row| row[0] == method).unwrap()[1..].to_vec();
    assert_eq!(row("bfloat16"), row("none"));
    // Where other methods are in bfloat16, it is a format like any other.
    let own = results.runs.iter().find(|run| run.method == "measured").cloned().unwrap();
    results.runs.push(RunReport { format: "bfloat16".into(), ..own });
    let rows = cells(&print_place(&results, "digits-deep", "bfloat16"));
    let methods: Vec<_> = rows.iter().map(|row| &row[0][..]).collect();
    assert_eq!(methods, ["method", "f32", "none", "measured"]);
    let rows = cells(&print_place(&results, "digits-deep", "binary16"));
    assert!(rows.iter().all(|row| row[0] != "bfloat16"));
}
