//! What happened, in words that are worked out from the results.

use maud::{Markup, html};

use crate::results::Results;

use super::{
    group::{Comparison, OURS, distinct, plain},
    number::{counted, duration, list, percent},
    tables::points,
    verdict::{Difference, Verdict},
};

/// Writes the summary on top of the page.
pub(super) fn summary(results: &Results, comparisons: &[Comparison<'_>]) -> Markup {
    let methods = distinct(comparisons.iter().flat_map(|c| c.rivals().map(|(method, _)| method)));
    html! {
        p { (scope(results, comparisons, methods.len())) }
        @if comparisons.iter().any(|comparison| comparison.baseline().is_none()) {
            p { strong { "Without runs in f32 a task has nothing to be compared with: there, nothing is said \
                to have failed." } }
        }
        ul.findings {
            @for sentence in findings(comparisons, &methods) { li { (sentence) } }
        }
        div.verdicts { @for comparison in comparisons { (verdicts(comparison)) } }
        p.faint { "\u{2713} equal, \u{2715} failed, ? undecided; \u{25a0} a run stopped before its end, and counts \
            with the metric that it had then." }
    }
}

fn scope(results: &Results, comparisons: &[Comparison<'_>], methods: usize) -> String {
    let formats = distinct(comparisons.iter().flat_map(|comparison| comparison.formats.iter()));
    let before = match results.done_before {
        0 => String::new(),
        runs => format!(" but for {} that had been done before", counted(runs, "run")),
    };
    format!(
        "{} of {} in {}, by {} beside f32; {}{before} on {} with {}.",
        counted(results.runs.len(), "run"),
        counted(comparisons.len(), "task"),
        counted(formats.len(), "gradient format"),
        counted(methods, "method"),
        duration(results.seconds),
        results.target,
        counted(results.threads, "thread"),
    )
}

/// What one method did in one format of one task.
struct Place<'a> {
    method: &'a str,
    name: String,
    mean: f64,
    difference: Option<Difference>,
    verdict: Verdict,
    has_stopped: bool,
}

impl Place<'_> {
    /// Names it with its difference to f32.
    fn described(&self) -> String {
        let by = self.difference.map_or(String::new(), |difference| points(difference.mean));
        format!("{} ({by}{})", self.name, if self.has_stopped { ", stopped" } else { "" })
    }
}

fn places<'a>(comparisons: &'a [Comparison<'_>]) -> Vec<Place<'a>> {
    let mut places = Vec::new();
    for comparison in comparisons {
        for format in &comparison.formats {
            for (method, _) in comparison.rivals() {
                let Some(group) = comparison.group(method, format) else { continue };
                places.push(Place {
                    method,
                    name: format!("{} in {format}", comparison.task.name),
                    mean: group.mean(),
                    difference: comparison.difference(group),
                    verdict: comparison.verdict(group),
                    has_stopped: group.has_stopped(),
                });
            }
        }
    }
    places
}

fn findings(comparisons: &[Comparison<'_>], methods: &[&str]) -> Vec<String> {
    let places = places(comparisons);
    let mut sentences: Vec<String> =
        methods.iter().filter_map(|method| words(&places, method)).collect();
    sentences.extend(ours(&places));
    sentences.extend(easy(&places));
    sentences
}

/// Says what a method is, by the test, in how many places; where it failed, and where nothing is decided.
fn words(places: &[Place<'_>], method: &str) -> Option<String> {
    let all = || places.iter().filter(|place| place.method == method);
    let judged = all().filter(|place| place.difference.is_some()).count();
    let named = |verdict| -> Vec<String> {
        all().filter(|place| place.verdict == verdict).map(Place::described).collect()
    };
    let (failed, undecided) = (named(Verdict::Failed), named(Verdict::Undecided));
    let mut parts = vec![format!("equal to f32 in {} of {judged}", named(Verdict::Equal).len())];
    if !failed.is_empty() {
        parts.push(format!("failed in {}", list(&failed)));
    }
    if !undecided.is_empty() {
        parts.push(format!("undecided in {}", list(&undecided)));
    }
    (judged > 0).then(|| format!("{method}: {}.", parts.join("; ")))
}

/// Says how ours compares with the others.
fn ours(places: &[Place<'_>]) -> Option<String> {
    let own: Vec<&Place<'_>> = places.iter().filter(|place| plain(place.method) == OURS).collect();
    let mut better = Vec::new();
    for place in &own {
        let rivals = places.iter().filter(|rival| {
            rival.name == place.name && plain(rival.method) != OURS && rival.mean > place.mean
        });
        let by = rivals.map(|rival| (100.0 * (rival.mean - place.mean), rival, &place.name));
        better.extend(by.max_by(|a, b| a.0.total_cmp(&b.0)));
    }
    let most = better.iter().max_by(|a, b| a.0.total_cmp(&b.0));
    (!own.is_empty()).then(|| match most {
        None => format!("The mean of no other method is above that of {OURS} anywhere."),
        Some((by, rival, name)) => format!(
            "In {} of {} the mean of another method is above that of {OURS}, at most by {by:.1} points \
             ({}, {name}).",
            better.len(),
            counted(own.len(), "place"),
            rival.method,
        ),
    })
}

/// Says where the choice does not matter.
fn easy(places: &[Place<'_>]) -> Option<String> {
    let names = distinct(places.iter().map(|place| place.name.as_str()));
    let easy = names.iter().copied().filter(|name| {
        let mut here = places.iter().filter(|place| place.name == *name);
        here.all(|place| place.verdict == Verdict::Equal)
    });
    let easy: Vec<&str> = easy.collect();
    (!easy.is_empty()).then(|| {
        let none = places.iter().any(|place| place.method == "none");
        let even = if none { ", even none, that is no loss scaling" } else { "" };
        format!(
            "In {} every method is as good{even}: by the metric alone there is nothing to choose \
             there.",
            list(&easy)
        )
    })
}

/// Writes the table of verdicts of a task.
fn verdicts(comparison: &Comparison<'_>) -> Markup {
    html! {
        div.scroll tabindex="0" {
            table {
                caption {
                    strong { (comparison.task.name) }
                    ": " (comparison.task.metric) " at the end, per cent"
                    @if let Some(baseline) = comparison.baseline() {
                        "; f32: " (percent(baseline.mean()))
                    }
                }
                thead { tr {
                    th scope="col" { "method" }
                    @for format in &comparison.formats { th.n scope="col" { (format) } }
                } }
                tbody {
                    @for (method, _) in comparison.rivals() {
                        tr {
                            th scope="row" { (method) }
                            @for format in &comparison.formats {
                                (verdict(comparison, method, format))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn verdict(comparison: &Comparison<'_>, method: &str, format: &str) -> Markup {
    let Some(group) = comparison.group(method, format) else {
        return html! { td.n { "\u{2013}" } };
    };
    let verdict = comparison.verdict(group);
    let by =
        comparison.difference(group).map(|difference| format!("({})", points(difference.mean)));
    html! {
        td.n.(verdict.class()) {
            span { (verdict.sign()) (percent(group.mean())) @if group.has_stopped() { " \u{25a0}" } }
            @if let Some(by) = by { " " span { (by) } }
        }
    }
}
