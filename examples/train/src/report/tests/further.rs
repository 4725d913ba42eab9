//! The columns that not every place has.

use crate::{
    report::{print_place, write},
    results::{QuantityReport, Results, RunReport, TaskReport},
};

fn quantity(explained_variance: Option<f64>, bias: Option<f64>) -> Option<QuantityReport> {
    let relative_to = QuantityReport::DEVIATION.into();
    Some(QuantityReport { explained_variance, bias, relative_to })
}

/// One task of three seeds, by f32, by a method that is as good, and by one that is lost at times.
fn results(metric: &str) -> Results {
    let task = |name: &str, target| TaskReport {
        name: name.into(),
        metric: metric.into(),
        target,
        ..TaskReport::default()
    };
    let run = |method: &str, seed, steps_to_target, quantity| RunReport {
        task: "two".into(),
        format: if method == "f32" { "f32".into() } else { "e4m3".into() },
        method: method.into(),
        seed,
        metric: 0.9,
        steps_to_target,
        quantity,
        ..RunReport::default()
    };
    let good = || quantity(Some(0.987), Some(-0.0123));
    let lost = Some(QuantityReport::default());
    let runs = (0..3).flat_map(|seed| {
        let first = seed == 0;
        [
            run("f32", seed, Some(400 + 10 * seed), good()),
            run("backoff", seed, Some(12_000).filter(|_| first), lost.clone().filter(|_| !first)),
            run("measured", seed, Some(410), if first { quantity(None, None) } else { good() }),
            run("none", seed, None, quantity(Some(-1e20), Some(-0.5))),
        ]
    });
    let mut runs: Vec<RunReport> = runs.collect();
    runs.push(RunReport { task: "one".into(), ..run("f32", 0, None, None) });
    Results {
        version: Results::VERSION,
        tasks: vec![task("two", 0.85), task("one", 0.0)],
        runs,
        ..Results::default()
    }
}

/// Returns the cells of a method in each of the tables that were printed, after those of every place.
fn further(printed: &str, first: &str) -> Vec<Vec<String>> {
    let start = format!("| {first} ");
    let lines = printed.lines().filter(|line| line.starts_with(&start));
    let cells = |line: &str| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let mut tables: Vec<_> = lines.map(cells).collect();
    tables[0].drain(..9);
    tables.iter_mut().skip(1).for_each(|table| drop(table.remove(0)));
    tables
}

#[test]
fn a_place_has_the_columns_that_its_task_has() {
    let results = results("accuracy");
    let printed = print_place(&results, "two", "e4m3");
    assert!(printed.contains("two in e4m3: test accuracy in per cent, target 85.0"), "{printed}");
    for (method, steps, quantity) in [
        ("method", "steps", ["R2", "bias/sd"]),
        ("f32", "410", ["98.7", "-1.2"]),
        ("measured", "410", ["98.7, 1 none", "-1.2, 1 none"]),
        ("backoff", "12000, 2 not", ["none", "none"]),
        ("none", "not", ["< -999.0", "-50.0"]),
    ] {
        assert_eq!(further(&printed, method), [&[steps][..], &quantity], "{method}");
    }
    let plain = print_place(&results, "one", "f32");
    assert_eq!(further(&plain, "method"), [[""; 0]], "{plain}");
}

#[test]
fn a_metric_has_no_second_column() {
    let printed = print_place(&results("explained variance"), "two", "e4m3");
    assert_eq!(further(&printed, "method"), [["steps"], ["bias/sd"]]);
}

#[test]
fn the_page_and_the_sheet_have_them() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &results("accuracy")).unwrap();
    let page = std::fs::read_to_string(folder.path().join("index.html")).unwrap();
    for words in
        ["Steps: to 85.0 per cent", "bias/sd", "in per cent of its standard deviation", "98.7"]
    {
        assert!(page.contains(words), "{words}");
    }
    let sheet = csv::Reader::from_path(folder.path().join("runs.csv"));
    let mut sheet = sheet.unwrap();
    let header = sheet.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|header| header == name).unwrap();
    let columns = ["explained_variance", "bias", "bias_relative_to"].map(column);
    let rows: Vec<_> = sheet.records().map(Result::unwrap).collect();
    let read = |row: usize| columns.map(|column| rows[row][column].to_owned());
    assert_eq!(read(0), ["0.987", "-0.0123", "standard deviation"]);
    assert_eq!(read(1), ["", "", ""]);
    assert_eq!(read(2), ["", "", "standard deviation"]);
}
