//! The figures of a comparison for a terminal.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use crate::results::Results;

use super::{
    group::{Comparison, Group, TOLERANCE_POINTS, Verdict, distinct, extremes},
    number::percent,
    tables::part,
};

/// Returns the tables of metrics and windows of every task, and what failed where.
pub fn print(results: &Results) -> String {
    let comparisons = Comparison::all(results);
    let mut printed = String::new();
    for comparison in &comparisons {
        let task = &comparison.task;
        // Writing into a string cannot fail, here and below.
        let _ = writeln!(
            printed,
            "\n{}: test {} in per cent, by gradient format\n{}\n\n\
             Of all gradient tensors: the share with a window, and of those the share kept\n{}",
            task.name,
            task.metric,
            metrics(comparison),
            windows(comparison)
        );
    }
    let _ = writeln!(printed, "\nMore than {TOLERANCE_POINTS} points below f32, or stopped:");
    for method in distinct(comparisons.iter().flat_map(|c| c.rivals().map(|(method, _)| method))) {
        let places = failures(&comparisons, method);
        let places = if places.is_empty() { "nowhere".into() } else { places.join("; ") };
        let _ = writeln!(printed, "  {method}: {places}");
    }
    printed
}

/// Returns, for each task, how often a window existed and how often underflow stayed within twice the
/// tolerance; with a row per method and period.
pub fn print_windows(results: &Results) -> String {
    let mut printed = String::from(
        "Of all gradient tensors at all steps: the share for which a scale exists that keeps\n\
         underflow within the tolerance and overflow at zero; and of those, the share in which\n\
         real underflow stayed within twice the tolerance.\n",
    );
    for comparison in &Comparison::all(results) {
        let _ = writeln!(printed, "\n{}\n{}", comparison.task.name, windows(comparison));
    }
    printed
}

fn table(comparison: &Comparison<'_>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["method"].iter().chain(&comparison.formats));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn row(
    comparison: &Comparison<'_>,
    method: &str,
    of: impl Fn(&Group<'_>) -> String,
) -> Vec<String> {
    let cell = |format: &&str| comparison.group(method, format).map_or("-".into(), &of);
    [method.to_owned()].into_iter().chain(comparison.formats.iter().map(cell)).collect()
}

fn metrics(comparison: &Comparison<'_>) -> Table {
    let mut rows = table(comparison);
    for method in &comparison.methods {
        rows.add_row(row(comparison, method, metric));
    }
    rows
}

fn metric(group: &Group<'_>) -> String {
    let mut text = percent(group.mean());
    if let Some((low, high)) = extremes(group.metrics()).filter(|_| group.runs.len() > 1) {
        text += &format!(" ({}..{})", percent(low), percent(high));
    }
    if group.has_stopped() {
        text += ", stopped";
    } else if group.skipped() > 0 {
        text += &format!(", {} skipped", group.skipped());
    }
    if group.recovered() > 0 {
        text += &format!(", {} replayed", group.recovered());
    }
    text
}

fn windows(comparison: &Comparison<'_>) -> Table {
    let mut rows = table(comparison);
    for (method, _) in comparison.rivals() {
        rows.add_row(row(comparison, method, |group| {
            let [visits, windows, kept] = group.windows();
            if visits == 0 {
                return "-".into();
            }
            format!("{}, {}", part(windows, visits, 1), part(kept, windows, 2))
                .replace('\u{2013}', "-")
        }));
    }
    rows
}

fn failures(comparisons: &[Comparison<'_>], method: &str) -> Vec<String> {
    let mut places = Vec::new();
    for comparison in comparisons {
        for format in &comparison.formats {
            let Some(group) = comparison.group(method, format) else { continue };
            let mean = percent(group.mean());
            let found = match comparison.verdict(group) {
                Verdict::Below(points) => format!("{mean}, {points:.1} below f32"),
                Verdict::Stopped => format!("{mean}, stopped"),
                _ => continue,
            };
            places.push(format!("{format} in {} ({found})", comparison.task.name));
        }
    }
    places
}
