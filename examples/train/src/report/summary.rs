//! What happened, in words that are worked out from the results.

use maud::{Markup, html};

use crate::results::Results;

use super::{
    group::{Comparison, OURS, TOLERANCE_POINTS, Verdict, distinct, plain},
    number::{counted, duration, list, percent},
    tables::points,
};

/// Writes the summary on top of the page.
pub(super) fn summary(results: &Results, comparisons: &[Comparison<'_>]) -> Markup {
    let methods = distinct(comparisons.iter().flat_map(|c| c.rivals().map(|(method, _)| method)));
    html! {
        p { (scope(results, comparisons, methods.len())) }
        @if comparisons.iter().any(|comparison| comparison.baseline().is_none()) {
            p { strong { "Without runs in f32 a task has nothing to be compared with: there, only \
                runs that stopped count as failed." } }
        }
        div.verdicts { @for comparison in comparisons { (verdicts(comparison)) } }
        p.faint {
            "\u{2713} at most " (TOLERANCE_POINTS) " points below f32, \u{2715} more, \u{25a0} \
                stopped before the end; means over \
             seeds, single runs against the mean of f32."
        }
        ul.findings {
            @for sentence in findings(comparisons, &methods) { li { (sentence) } }
        }
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
    verdict: Verdict,
    /// Whether the 95 % interval of the difference to f32 lies below zero; none without one.
    is_below_chance: Option<bool>,
}

fn places<'a>(comparisons: &'a [Comparison<'_>]) -> Vec<Place<'a>> {
    let mut places = Vec::new();
    for comparison in comparisons {
        for format in &comparison.formats {
            for (method, _) in comparison.rivals() {
                let Some(group) = comparison.group(method, format) else { continue };
                let paired = comparison.baseline().and_then(|baseline| group.paired(baseline));
                let interval = paired.and_then(|(mean, half)| Some(mean + half?));
                places.push(Place {
                    method,
                    name: format!("{format} in {}", comparison.task.name),
                    mean: group.mean(),
                    verdict: comparison.verdict(group),
                    is_below_chance: interval.map(|upper| upper < 0.0),
                });
            }
        }
    }
    places
}

fn findings(comparisons: &[Comparison<'_>], methods: &[&str]) -> Vec<String> {
    let places = places(comparisons);
    let failed = |method: &str| {
        places.iter().any(|place| place.method == method && place.verdict.has_failed())
    };
    let (bad, good): (Vec<&str>, Vec<&str>) = methods.iter().partition(|method| failed(method));
    let mut sentences: Vec<String> = bad.iter().map(|method| failures(&places, method)).collect();
    if bad.is_empty() && !places.is_empty() {
        sentences.push(format!(
            "No method stopped or ended more than {TOLERANCE_POINTS} points below f32 anywhere."
        ));
    } else if !good.is_empty() {
        let everywhere = "stopped nowhere and ended nowhere more than";
        sentences
            .push(format!("{} {everywhere} {TOLERANCE_POINTS} points below f32.", list(&good)));
    }
    sentences.extend(ours(&places));
    sentences.extend(easy(&places));
    sentences
}

fn failures(places: &[Place<'_>], method: &str) -> String {
    let all = || places.iter().filter(|place| place.method == method);
    let failed = all().filter_map(|place| match place.verdict {
        Verdict::Below(points) => Some(format!("{} ({points:.1} points below f32)", place.name)),
        Verdict::Stopped => Some(format!("{} (stopped)", place.name)),
        _ => None,
    });
    let failed: Vec<String> = failed.collect();
    format!("{method} failed in {} of {}: {}.", failed.len(), all().count(), list(&failed))
}

/// Says how ours compares with f32 and with the others.
fn ours(places: &[Place<'_>]) -> Vec<String> {
    let own: Vec<&Place<'_>> = places.iter().filter(|place| plain(place.method) == OURS).collect();
    if own.is_empty() {
        return Vec::new();
    }
    let judged = own.iter().filter(|place| place.is_below_chance.is_some()).count();
    let within = own.iter().filter(|place| matches!(place.verdict, Verdict::Within(_)));
    let below = own.iter().filter(|place| place.is_below_chance == Some(true));
    let below: Vec<&str> = below.map(|place| place.name.as_str()).collect();
    let mut sentence = format!(
        "{OURS} is within {TOLERANCE_POINTS} points of f32 in {} of {}.",
        within.count(),
        counted(own.len(), "place")
    );
    if judged > 0 {
        sentence +=
            &format!(" Of the {judged} with several seeds, its 95 % interval lies below f32 ");
        sentence +=
            &if below.is_empty() { "nowhere.".into() } else { format!("in {}.", list(&below)) };
    }
    let mut better = Vec::new();
    for place in &own {
        let rivals = places.iter().filter(|rival| {
            rival.name == place.name && plain(rival.method) != OURS && rival.mean > place.mean
        });
        let by = rivals.map(|rival| (rival.mean - place.mean, rival, &place.name));
        better.extend(by.max_by(|a, b| a.0.total_cmp(&b.0)));
    }
    let most = better.iter().max_by(|a, b| a.0.total_cmp(&b.0));
    let beside = match most {
        None => format!("No other method ended higher than {OURS} anywhere."),
        Some((by, rival, name)) => {
            let has_single = better.iter().any(|(_, rival, _)| rival.is_below_chance.is_none());
            format!(
                "In {} of {} another method ended higher than {OURS}, at most by {} points ({}, \
                 {name}){}.",
                better.len(),
                counted(own.len(), "place"),
                points(*by).trim_start_matches('+'),
                rival.method,
                if has_single { "; single runs are among them" } else { "" },
            )
        }
    };
    vec![sentence, beside]
}

/// Says where the choice does not matter.
fn easy(places: &[Place<'_>]) -> Option<String> {
    let names = distinct(places.iter().map(|place| place.name.as_str()));
    let easy = names.iter().copied().filter(|name| {
        let mut here = places.iter().filter(|place| place.name == *name);
        here.all(|place| matches!(place.verdict, Verdict::Within(_)))
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
    let mean = percent(group.mean());
    match comparison.verdict(group) {
        Verdict::Stopped => html! { td.n.bad { "\u{25a0} stopped" } },
        Verdict::Below(by) => {
            let by = format!("(\u{2212}{by:.1})");
            html! { td.n.bad { span { "\u{2715} " (mean) } " " span { (by) } } }
        }
        Verdict::Within(_) => html! { td.n.good { span { "\u{2713} " (mean) } } },
        Verdict::Baseline | Verdict::Unknown => html! { td.n { (mean) } },
    }
}
