//! The figures of a comparison for a terminal.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use crate::results::Results;

use super::{
    further,
    group::{Comparison, Group, distinct},
    number::{list, percent},
    tables::{self, part},
    verdict::{Verdict, meaning},
};

/// Returns the table of a task in a format; nothing where there is no run of either.
pub fn print_place(results: &Results, task: &str, format: &str) -> String {
    let comparisons = Comparison::all(results);
    let Some(comparison) = comparisons.iter().find(|comparison| comparison.task.name == task)
    else {
        return String::new();
    };
    let groups = comparison.in_format(format);
    if groups.is_empty() {
        return String::new();
    }
    let columns = tables::columns(comparison).len();
    let of_quantity = columns - further::quantity_columns(comparison)..columns;
    let usual = (0..of_quantity.start).filter(|&index| index != tables::PAGE_ONLY);
    let mut table = table_of(comparison, &groups, &usual.collect::<Vec<_>>()).to_string();
    if !of_quantity.is_empty() {
        let shown: Vec<_> = std::iter::once(0).chain(of_quantity).collect();
        let _ = write!(table, "\nof the quantity\n{}", table_of(comparison, &groups, &shown));
    }
    let of = &comparison.task;
    let target = match of.target > 0.0 {
        true => format!(", target {}", percent(of.target)),
        false => String::new(),
    };
    format!("\n{task} in {format}: test {} in per cent{target}\n{table}", of.metric)
}

/// Returns some columns of the table of a place.
fn table_of(comparison: &Comparison<'_>, groups: &[&Group<'_>], shown: &[usize]) -> Table {
    let columns = tables::columns(comparison);
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(shown.iter().map(|&index| &columns[index]));
    for (column, &index) in table.column_iter_mut().zip(shown) {
        if !tables::is_text(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for group in groups {
        let row = tables::row(comparison, group);
        table.add_row(shown.iter().map(|&index| ascii(&row[index])));
    }
    table
}

/// Returns where each method was as good as f32, and where it failed.
pub fn print_summary(results: &Results) -> String {
    let comparisons = Comparison::all(results);
    let mut printed = format!("\n{}\n", ascii(&wrapped(&meaning())));
    // Writing into a string cannot fail, here and below.
    let _ = writeln!(printed, "{}", wrapped(tables::COLUMNS));
    let _ = writeln!(printed, "{}", wrapped(further::COLUMNS));
    for method in distinct(comparisons.iter().flat_map(|c| c.rivals().map(|(method, _)| method))) {
        let _ = writeln!(printed, "  {method}: {}", words(&comparisons, method));
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

fn windows(comparison: &Comparison<'_>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["method"].iter().chain(&comparison.formats));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (method, _) in comparison.rivals() {
        let share = |group: &Group<'_>| {
            let [visits, windows, kept] = group.windows();
            match visits {
                0 => "-".into(),
                _ => ascii(&format!("{}, {}", part(windows, visits, 1), part(kept, windows, 2))),
            }
        };
        let formats = comparison.formats.iter();
        let cells =
            formats.map(|format| comparison.group(method, format).map_or("-".into(), share));
        table.add_row([method.to_owned()].into_iter().chain(cells));
    }
    table
}

/// Returns in how many places a method was what, and in which it was not as good as f32.
fn words(comparisons: &[Comparison<'_>], method: &str) -> String {
    let mut parts = Vec::new();
    let places: Vec<_> = comparisons
        .iter()
        .flat_map(|comparison| comparison.formats.iter().map(move |format| (comparison, *format)))
        .filter_map(|(comparison, format)| {
            let group = comparison.group(method, format)?;
            Some((comparison, format, group, comparison.verdict(group)))
        })
        .collect();
    let of = |verdict| places.iter().filter(move |place| place.3 == verdict);
    let equal = of(Verdict::Equal).count();
    if equal > 0 {
        parts.push(format!("equal in {equal} of {}", places.len()));
    }
    for verdict in [Verdict::Failed, Verdict::Undecided] {
        let named = of(verdict).map(|&(comparison, format, group, _)| {
            let mean = percent(group.mean());
            let by = comparison.difference(group).map_or(0.0, |difference| difference.mean);
            let stopped = if group.has_stopped() { ", stopped" } else { "" };
            format!("{} in {format} ({mean}, {by:+.1}{stopped})", comparison.task.name)
        });
        let named: Vec<String> = named.collect();
        if !named.is_empty() {
            parts.push(format!("{} in {}", verdict.word(), list(&named)));
        }
    }
    let unknown = of(Verdict::Unknown).count();
    if unknown > 0 {
        parts.push(format!("nothing to compare with in {unknown} of {}", places.len()));
    }
    if parts.is_empty() { "nowhere".into() } else { parts.join("; ") }
}

/// Writes what a terminal may not have the letters for in others.
fn ascii(text: &str) -> String {
    text.replace(['\u{2013}', '\u{2212}'], "-").replace('\u{202f}', "")
}

/// Breaks a sentence into lines that are narrow enough for every terminal.
fn wrapped(text: &str) -> String {
    let (mut lines, mut length) = (String::new(), 0);
    for word in text.split(' ') {
        if length > 0 && length + word.len() >= 80 {
            lines.push('\n');
            length = 0;
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines += word;
        length += word.len();
    }
    lines
}
