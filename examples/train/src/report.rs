//! Figures for people, and the same figures for programs.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::{checkpoint::write_whole, schedule::Schedule, trainer::RunReport};

/// Points below f32 from which a method counts as having failed.
const TOLERANCE: f64 = 1.5;

/// Everything that `results.json` holds.
#[derive(Serialize)]
struct Results<'a> {
    /// The format of this file.
    version: u32,
    /// Of this project.
    adaloss: &'a str,
    /// Architecture and operating system.
    target: String,
    configuration: &'a Schedule,
    /// The most memory the process held, where the system tells.
    peak_memory_bytes: Option<u64>,
    threads: usize,
    runs: &'a [RunReport],
}

/// Writes the figures of all runs as JSON.
pub fn write(path: &Path, schedule: &Schedule, runs: &[RunReport]) -> Result<()> {
    let results = Results {
        version: 1,
        adaloss: env!("CARGO_PKG_VERSION"),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        configuration: schedule,
        peak_memory_bytes: peak_memory(),
        threads: rayon::current_num_threads(),
        runs,
    };
    let mut json = serde_json::to_vec_pretty(&results).context("the report cannot be written")?;
    json.push(b'\n');
    write_whole(path, &json)?;
    println!("\nEvery figure of the {} runs: {}", runs.len(), path.display());
    Ok(())
}

/// Returns the peak resident memory from Linux's process file system.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The runs of one method in one format that differ in the seed only.
#[derive(Clone, Debug, Default)]
struct Group {
    accuracies: Vec<f64>,
    skipped: u64,
    recovered: u64,
    stopped: bool,
}

impl Group {
    fn of<'a>(runs: impl Iterator<Item = &'a RunReport>) -> Option<Self> {
        let mut group = Self::default();
        for run in runs {
            group.accuracies.push(100.0 * run.accuracy);
            group.skipped += run.skipped_steps;
            group.recovered += run.recovered_steps;
            group.stopped |= run.stopped.is_some();
        }
        (!group.accuracies.is_empty()).then_some(group)
    }

    fn mean(&self) -> f64 {
        self.accuracies.iter().sum::<f64>() / self.accuracies.len() as f64
    }

    fn has_failed(&self, baseline: f64) -> bool {
        self.stopped || self.mean() < baseline - TOLERANCE
    }
}

/// Returns the values of a field in the order of their first appearance.
fn distinct<'a>(runs: &'a [RunReport], field: impl Fn(&'a RunReport) -> &'a str) -> Vec<&'a str> {
    let mut values = Vec::new();
    for value in runs.iter().map(field) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let columns = header.len();
    table.set_header(header);
    for column in table.column_iter_mut().skip(1).take(columns) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Prints accuracy by method and format, and what failed where.
pub fn print_comparison(runs: &[RunReport]) {
    let methods = distinct(runs, |run| &run.method);
    let mut failures = BTreeMap::<&str, Vec<String>>::new();
    for task in distinct(runs, |run| &run.task) {
        let here: Vec<_> = runs.iter().filter(|run| run.task == task).cloned().collect();
        let formats: Vec<_> =
            distinct(&here, |run| &run.format).into_iter().filter(|&f| f != "f32").collect();
        let pick = |method: &str, format: &str| {
            Group::of(here.iter().filter(|run| run.method == method && run.format == format))
        };
        let baseline = pick("f32", "f32");
        println!("\n{task}: test accuracy in per cent, by gradient format");
        let header = ["method"].into_iter().chain(formats.iter().copied()).map(String::from);
        let mut rows = table(header.collect());
        for &method in &methods {
            let mut row = vec![method.to_string()];
            for &format in &formats {
                let format = if method == "f32" { "f32" } else { format };
                let group = pick(method, format);
                row.push(group.as_ref().map_or_else(|| "-".into(), text));
                let (Some(group), Some(baseline)) = (group, &baseline) else { continue };
                if group.has_failed(baseline.mean()) {
                    failures.entry(method).or_default().push(format!(
                        "{format} in {task} ({:.1}, {:.1} below f32{})",
                        group.mean(),
                        baseline.mean() - group.mean(),
                        if group.stopped { ", stopped" } else { "" }
                    ));
                }
            }
            rows.add_row(row);
        }
        println!("{rows}");
        print_windows(&here, &formats);
    }
    println!("\nMore than {TOLERANCE} points below f32, or stopped:");
    for method in methods.into_iter().filter(|&method| method != "f32") {
        let places = failures.remove(method);
        println!("  {method}: {}", places.map_or("nowhere".into(), |places| places.join("; ")));
    }
}

fn text(group: &Group) -> String {
    let mut text = format!("{:.1}", group.mean());
    if group.accuracies.len() > 1 {
        let (low, high) = group
            .accuracies
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), &x| (low.min(x), high.max(x)));
        text += &format!(" ({low:.1}..{high:.1})");
    }
    if group.stopped {
        text += ", stopped";
    } else if group.skipped > 0 {
        text += &format!(", {} skipped", group.skipped);
    }
    if group.recovered > 0 {
        text += &format!(", {} replayed", group.recovered);
    }
    text
}

/// Prints how often a window existed and how often underflow stayed within twice the tolerance.
fn print_windows(runs: &[RunReport], formats: &[&str]) {
    println!("\nOf all gradient tensors: the share with a window, and of those the share kept");
    let header = ["method"].into_iter().chain(formats.iter().copied()).map(String::from);
    let mut rows = table(header.collect());
    for method in distinct(runs, |run| &run.method).into_iter().filter(|&method| method != "f32") {
        let cells = formats.iter().map(|&format| {
            let chosen = runs.iter().filter(|run| run.method == method && run.format == format);
            calibration(chosen).unwrap_or_else(|| "-".into())
        });
        rows.add_row([method.to_string()].into_iter().chain(cells));
    }
    println!("{rows}");
}

/// Returns "window share, share kept" over all cells and steps of some runs.
fn calibration<'a>(runs: impl Iterator<Item = &'a RunReport>) -> Option<String> {
    let (mut visits, mut windows, mut kept) = (0, 0, 0);
    for cell in runs.flat_map(|run| &run.cells) {
        visits += cell.visits;
        windows += cell.windows;
        kept += cell.kept;
    }
    let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole as f64;
    match (visits, windows) {
        (0, _) => None,
        (_, 0) => Some("0.0 %, -".into()),
        _ => Some(format!("{:.1} %, {:.2} %", percent(windows, visits), percent(kept, windows))),
    }
}

/// Prints window share and share kept by method and period.
pub fn print_calibration(runs: &[RunReport]) {
    let formats = distinct(runs, |run| &run.format);
    println!(
        "\nOf all gradient tensors at all steps: the share for which a scale exists that keeps"
    );
    println!(
        "underflow within the tolerance and overflow at zero; and of those, the share in which"
    );
    println!("real underflow stayed within twice the tolerance.");
    let header = ["method", "period"].into_iter().chain(formats.iter().copied()).map(String::from);
    let mut rows = table(header.collect());
    let mut periods: Vec<_> = runs.iter().map(|run| run.period).collect();
    periods.sort_unstable();
    periods.dedup();
    for method in distinct(runs, |run| &run.method) {
        for &period in &periods {
            let cells = formats.iter().map(|&format| {
                let chosen = runs.iter().filter(|run| {
                    run.method == method && run.format == format && run.period == period
                });
                calibration(chosen).unwrap_or_else(|| "-".into())
            });
            rows.add_row([method.to_string(), period.to_string()].into_iter().chain(cells));
        }
    }
    println!("{rows}");
}
