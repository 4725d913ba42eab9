//! Every file is complete, and only our own is read back.

use std::fs;

use super::synthetic::results;
use crate::{
    report::{print, read, write},
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
        ["cells.csv", "curves.csv", "index.html", "results.json", "runs.csv", "weights.csv"]
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
        let read = [16, 17, 18].map(|column| row[column].parse::<u64>().unwrap());
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
        run.broken_promises = 0;
        for cell in &mut run.cells {
            (cell.extra_passes, cell.replays, cell.measuring_passes) = (0, 0, 0);
        }
    }
    let mut json = serde_json::to_value(&results).unwrap();
    for run in json["runs"].as_array_mut().unwrap() {
        let run = run.as_object_mut().unwrap();
        let certificates = run.remove("certificates").unwrap();
        run.insert("decisions".into(), certificates);
        assert!(run.remove("broken_promises").is_some());
        for cell in run["cells"].as_array_mut().unwrap() {
            let cell = cell.as_object_mut().unwrap();
            for counted in ["extra_passes", "replays", "measuring_passes"] {
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
}

#[test]
fn a_number_that_is_not_finite_is_said_and_loses_nothing() {
    let mut results = results();
    results.runs[4].metric = f64::NAN;
    results.runs[5].curve[3].metric = f64::INFINITY;
    let folder = tempfile::tempdir().unwrap();
    let error = write(folder.path(), &results).unwrap_err().to_string();
    assert!(error.contains("not finite"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
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
        assert!(print(&results).contains("or stopped:"));
    }
}

#[test]
fn the_terminal_names_every_failure() {
    let printed = print(&results());
    assert!(printed.contains("digits-deep: test accuracy in per cent"), "{printed}");
    assert!(printed.contains("shapes-unet: test mean IoU in per cent"), "{printed}");
    let line = |method: &str| {
        let start = format!("  {method}: ");
        printed.lines().find_map(|line| line.strip_prefix(start.as_str())).unwrap().to_owned()
    };
    assert_eq!(line("measured"), "nowhere");
    assert_eq!(
        line("fixed:20"),
        "e4m3 in digits-deep (11.2, stopped); e4m3 in shapes-unet (11.2, stopped)"
    );
    assert!(line("none").contains("e4m3 in digits-deep (87."), "{}", line("none"));
}
