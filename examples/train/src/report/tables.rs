//! Tables of the page.

use maud::{Markup, html};

use crate::results::RunReport;

use super::{
    group::{Comparison, Group, Verdict, distinct},
    number::{count, counted, percent},
};

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

/// Writes the metric, and its paired difference to f32 with the 95 % interval.
pub(super) fn differences(comparison: &Comparison<'_>) -> Markup {
    html! {
        p {
            "At the end: " (comparison.task.metric) " in per cent, and its difference to f32 in \
                points: the mean over the seeds that both have, with the 95 % interval of \
                Student's distribution where there are two or more."
        }
        div.scroll tabindex="0" {
            table aria-label={ "Differences to f32 in " (comparison.task.name) } {
                thead { tr {
                    th scope="col" { "method" }
                    th.n scope="col" { "mean" } th.n scope="col" { "by seed" }
                    th.n scope="col" { "to f32" } th.n scope="col" { "95 % interval" }
                } }
                @for format in &comparison.formats {
                    tbody {
                        (heading(format, 5))
                        @for (group, _) in comparison.rivals_in(format) {
                            (difference_of(comparison, group))
                        }
                    }
                }
            }
        }
    }
}

fn difference_of(comparison: &Comparison<'_>, group: &Group<'_>) -> Markup {
    let paired = comparison.baseline().and_then(|baseline| group.paired(baseline));
    let seeds: Vec<String> = group.metrics().map(percent).collect();
    html! {
        tr {
            th scope="row" { (group.method) }
            td.n { (percent(group.mean())) (flag(comparison.verdict(group))) }
            td.n { (seeds.join(", ")) }
            td.n { (paired.map_or("\u{2013}".into(), |(mean, _)| points(mean))) }
            td.n {
                @match paired {
                    Some((mean, Some(half))) => {
                        (points(mean - half)) " to " (points(mean + half))
                    }
                    Some((_, None)) => "one seed",
                    None => "\u{2013}",
                }
            }
        }
    }
}

/// Marks a failure in words.
fn flag(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Stopped => " \u{25a0} stopped",
        Verdict::Below(_) => " \u{2715}",
        _ => "",
    }
}

/// Writes a difference of shares in points, with its sign.
pub(super) fn points(difference: f64) -> String {
    let text = format!("{:+.1}", 100.0 * difference);
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
