//! Tables of the page.

use maud::{Markup, html};

use crate::results::RunReport;

use super::{
    further,
    group::{Comparison, Group, distinct, extremes},
    number::{count, counted, digits, percent, significant},
    verdict::Difference,
};

/// The columns that the table of every place has.
const PLACE: [&str; 10] = [
    "method", "mean", "by seed", "to f32", "by test", "error %", "lost %", "extra", "skipped",
    "replayed",
];

/// The column that a terminal has no room for: the interval beside it says nearly as much.
pub(super) const PAGE_ONLY: usize = 2;

/// What the columns of numbers are that their names do not say.
pub(super) const COLUMNS: &str = "error: the relative L2 error of a weight's gradient, against the same way back in f32 from \
    the same activations, the median over weights and the few steps that are probed, and that of the worst weight. lost: the share of the \
    gradients' mass that underflowed or was clipped, or all of it where a step was skipped, the mean over the steps that are \
    looked at; an upper bound. extra: passes beyond one a visit, per 1000 visits, those for certificates among them. skipped, \
    replayed: steps and visits, those of all seeds.";

/// Returns the columns of the table of a place.
pub(super) fn columns(comparison: &Comparison<'_>) -> Vec<String> {
    PLACE.map(String::from).into_iter().chain(further::names(comparison)).collect()
}

/// Returns the row of a method in such a table.
pub(super) fn row(comparison: &Comparison<'_>, group: &Group<'_>) -> Vec<String> {
    place_row(comparison, group).into_iter().chain(further::cells(comparison, group)).collect()
}

/// Tells whether a column of such a table holds words.
pub(super) const fn is_text(column: usize) -> bool {
    matches!(column, 0 | 4)
}

/// Returns the cells of a method in the columns of every place.
fn place_row(comparison: &Comparison<'_>, group: &Group<'_>) -> [String; 10] {
    let spread = extremes(group.metrics()).filter(|_| group.runs.len() > 1);
    let spread = spread.map(|(low, high)| format!("{}..{}", percent(low), percent(high)));
    let difference = comparison.difference(group).map(to_baseline);
    let stopped = group.runs.iter().filter(|run| run.stopped.is_some()).count();
    let mut word = comparison.verdict(group).word().to_owned();
    if stopped > 0 {
        word += &format!("{}{stopped} stopped", if word.is_empty() { "" } else { ", " });
    }
    let none = || "\u{2013}".to_owned();
    [
        group.method.clone(),
        percent(group.mean()),
        spread.unwrap_or_else(none),
        difference.unwrap_or_else(none),
        word,
        errors(group.gradient_errors()).unwrap_or_else(none),
        group.gone_mass().map_or_else(none, in_percent),
        group.extra_passes().map_or_else(none, few),
        count(group.skipped()),
        count(group.recovered()),
    ]
}

/// Writes the median and the greatest error in per cent; nothing where there is no median.
fn errors([median, worst]: [Option<f64>; 2]) -> Option<String> {
    let written = |error: f64| digits(100.0 * error, 2);
    let (median, worst) = (written(median?), worst.map_or("\u{2013}".into(), written));
    Some(if median == worst { median } else { format!("{median}..{worst}") })
}

/// Writes a share in per cent with three digits, of any size.
fn in_percent(share: f64) -> String {
    if share < 1e-8 && share > 0.0 { "<1e-6".into() } else { significant(100.0 * share) }
}

/// Writes a number with one decimal, and as less than that what would be rounded to zero.
fn few(number: f64) -> String {
    if number > 0.0 && number < 0.05 { "<0.1".into() } else { format!("{number:.1}") }
}

/// Writes a difference with its interval.
fn to_baseline(difference: Difference) -> String {
    let mean = points(difference.mean);
    match difference.interval() {
        Some((low, high)) => format!("{mean} ({}..{})", points(low), points(high)),
        None => mean,
    }
}

/// Writes the tables of a task, one per format.
pub(super) fn places(comparison: &Comparison<'_>) -> Markup {
    let columns = columns(comparison);
    html! {
        p {
            "At the end: " (comparison.task.metric) " in per cent, mean and range over seeds; the mean \
                difference to f32 in points with its 95 % interval; the error of the weights' gradients and the \
                mass that was lost, in per cent (see " a href="#terms" { "the terms" } "); passes beyond one a visit, per 1000 visits of \
                the whole runs; steps that were skipped, and visits that were replayed."
                (further::meaning(comparison))
        }
        div.scroll tabindex="0" {
            table.place aria-label={ "What came out in " (comparison.task.name) } {
                thead { tr {
                    @for (index, column) in columns.iter().enumerate() {
                        th.n[!is_text(index)] scope="col" { (column) }
                    }
                } }
                @for format in &comparison.formats {
                    tbody {
                        (heading(format, columns.len()))
                        @for group in comparison.in_format(format) { (place_of(comparison, group)) }
                    }
                }
            }
        }
    }
}

fn place_of(comparison: &Comparison<'_>, group: &Group<'_>) -> Markup {
    let verdict = comparison.verdict(group);
    html! {
        tr {
            @for (index, cell) in row(comparison, group).iter().enumerate() {
                @match index {
                    0 => th scope="row" { (cell) },
                    4 => td.(verdict.class()) { (verdict.sign()) (cell) },
                    _ => td.n { (cell) },
                }
            }
        }
    }
}

/// Writes a table of what each method needed and kept, per format.
pub(super) fn costs(comparison: &Comparison<'_>) -> Markup {
    let seconds = comparison.baseline().and_then(Group::seconds_per_step);
    html! {
        p {
            "Steps, replays and certificates (of normal and range: decisions), summed over seeds; \
             time per step relative to f32 in the same comparison (wall-clock, counting for this \
             report included; runs share the machine); windows and what was kept of them."
        }
        div.scroll tabindex="0" {
            table aria-label={ "Costs in " (comparison.task.name) } {
                thead { tr {
                    th scope="col" { "method" }
                    th.n scope="col" { "seeds" } th.n scope="col" { "steps" }
                    th.n scope="col" { "skipped" }
                    th.n scope="col" { "replayed" } th.n scope="col" { "certificates" }
                    th.n scope="col" { "time" } th.n scope="col" { "overflows" }
                    th.n scope="col" { "window" } th.n scope="col" { "kept" }
                } }
                @if let Some(baseline) = comparison.baseline() {
                    tbody { (costs_of(baseline, seconds)) }
                }
                @for format in &comparison.formats {
                    tbody {
                        (heading(format, 10))
                        @for (group, _) in comparison.rivals_in(format) {
                            (costs_of(group, seconds))
                        }
                    }
                }
            }
        }
    }
}

fn costs_of(group: &Group<'_>, baseline: Option<f64>) -> Markup {
    let sum = |of: fn(&RunReport) -> u64| count(group.runs.iter().map(|run| of(run)).sum());
    let [visits, windows, kept] = group.windows();
    let overflows = group.cells().map(|cell| cell.overflows).sum();
    let time = group.seconds_per_step().zip(baseline).map(|(own, f32)| format!("{:.2}", own / f32));
    html! {
        tr {
            th scope="row" { (group.method) }
            td.n { (group.runs.len()) }
            td.n { (sum(|run| run.steps)) }
            td.n { (sum(|run| run.skipped_steps)) }
            td.n { (sum(|run| run.recovered_steps)) }
            td.n { (sum(|run| run.certificates)) }
            td.n { (time.unwrap_or("\u{2013}".into())) }
            td.n { (count(overflows)) }
            td.n { (part(windows, visits, 1)) }
            td.n { (part(kept, windows, 2)) }
        }
    }
}

/// Writes the format above the rows that are of it.
fn heading(format: &str, columns: usize) -> Markup {
    html! { tr { th.group scope="rowgroup" colspan=(columns) { (format) } } }
}

/// Writes a part in per cent; a dash where there is no whole.
pub(super) fn part(part: u64, whole: u64, decimals: usize) -> String {
    if whole == 0 {
        return "\u{2013}".into();
    }
    format!("{:.decimals$} %", 100.0 * part as f64 / whole as f64)
}

/// Writes a difference in points, with its sign.
pub(super) fn points(difference: f64) -> String {
    let text = format!("{difference:+.1}");
    if text == "-0.0" { "+0.0".into() } else { text.replace('-', "\u{2212}") }
}

/// Lists the distinct configurations of methods, and how many runs had each.
pub(super) fn configurations(comparison: &Comparison<'_>) -> Markup {
    let groups = comparison.formats.iter().flat_map(|format| comparison.rivals_in(format));
    html! {
        dl.configuration {
            @for (group, format) in groups.map(|(group, _)| (group, group.format)) {
                dt { (group.method) " in " (format) }
                dd {
                    "forward in " (list_of(group, |run| &run.forward_format)) (period(group)) ". "
                    code { (list_of(group, |run| &run.configuration)) }
                }
            }
        }
    }
}

/// Says what happens once a period, if anything does.
fn period(group: &Group<'_>) -> String {
    let Some(run) = group.runs.first() else { return String::new() };
    let (what, unit) = match &run.method[..] {
        "normal" | "range" => ("decision", "visit"),
        "amax" | "measured" => ("certificate", "step"),
        _ => return String::new(),
    };
    format!(", a {what} every {}", counted(run.period as usize, unit))
}

fn list_of<'a>(group: &Group<'a>, of: impl Fn(&'a RunReport) -> &'a str) -> String {
    distinct(group.runs.iter().map(|run| of(run))).join("; ")
}
