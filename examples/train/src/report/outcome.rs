//! Pictures of what came out: the metric at the end, and the steps to the target.

use maud::{Markup, html};

use super::{
    axis::Axis,
    dots::{Dots, Row},
    group::{Comparison, Group, extremes, mean},
    number::{count, list, percent},
    palette::Look,
    tables::points,
};

/// Points below the worst seed of f32 at which the picture of the metric ends; what lies farther
/// below is an arrow, so that it does not squeeze the rest.
const SHOWN_POINTS: f64 = 5.0;

/// Draws the metric at the end by method, one picture per format.
pub(super) fn metric(comparison: &Comparison<'_>) -> Markup {
    let baseline = comparison.baseline();
    let groups = || comparison.formats.iter().flat_map(|format| comparison.rivals_in(format));
    let all = groups().map(|(group, _)| group).chain(baseline);
    let mut axis = Axis::around(all.clone().flat_map(Group::metrics));
    let floor = baseline.and_then(|group| extremes(group.metrics()));
    if let Some((low, _)) = floor.filter(|&(low, _)| axis.reaches_below(low - SHOWN_POINTS / 100.0))
    {
        let floor = low - SHOWN_POINTS / 100.0;
        axis = Axis::around(all.flat_map(Group::metrics).filter(|&metric| metric >= floor));
    }
    html! {
        figure {
            div.panels {
                @for format in &comparison.formats {
                    div.panel {
                        h4 { (format) }
                        (metric_of(comparison, format, &axis))
                    }
                }
            }
            figcaption { (metric_caption(comparison)) }
        }
    }
}

fn metric_of(comparison: &Comparison<'_>, format: &str, axis: &Axis) -> Markup {
    let label = format!(
        "{} at the end of {} in {format}, per cent, by method",
        comparison.task.metric, comparison.task.name
    );
    let rows =
        comparison.rivals_in(format).map(|(group, look)| metric_row(comparison, group, look));
    let band = comparison.baseline().and_then(|group| interval(group.metrics()));
    Dots { label, axis, band, rows: rows.collect() }.draw(percent)
}

fn metric_row(comparison: &Comparison<'_>, group: &Group<'_>, look: Look) -> Row {
    let verdict = comparison.verdict(group);
    let mean = percent(group.mean());
    let seeds: Vec<String> = group.metrics().map(percent).collect();
    let sign = verdict.sign();
    let stopped = if group.has_stopped() { " \u{25a0}" } else { "" };
    let text = format!("{sign}{mean}{stopped}");
    let by = comparison.difference(group).map(|difference| {
        format!(", {} points to f32: {}", points(difference.mean), verdict.word())
    });
    let title = format!(
        "{}: mean {mean}, seeds {}{}{}",
        group.method,
        seeds.join(", "),
        by.unwrap_or_default(),
        if group.has_stopped() { format!("; stopped: {}", reasons(group)) } else { String::new() }
    );
    Row {
        method: group.method.clone(),
        look,
        interval: interval(group.metrics()),
        is_single: group.runs.len() == 1,
        has_failed: verdict.has_failed(),
        text,
        title,
    }
}

fn reasons(group: &Group<'_>) -> String {
    let reasons: Vec<&str> = group.runs.iter().filter_map(|run| run.stopped.as_deref()).collect();
    reasons.join("; ")
}

fn metric_caption(comparison: &Comparison<'_>) -> String {
    let (mut failures, mut stops) = (Vec::new(), Vec::new());
    for format in &comparison.formats {
        for (group, _) in comparison.rivals_in(format) {
            let name = format!("{} in {format}", group.method);
            if group.has_stopped() {
                stops.push(name.clone());
            }
            if let Some(difference) = comparison.difference(group)
                && difference.verdict().has_failed()
            {
                failures.push(format!("{name} ({} points)", points(difference.mean)));
            }
        }
    }
    let failed = match failures.len() {
        0 => "Nothing failed by the test.".into(),
        _ => format!("By the test failed, which crosses and arrows mark: {}.", list(&failures)),
    };
    let stopped = match stops.len() {
        0 => String::new(),
        _ => format!(" Before the end stopped, which squares mark: {}.", list(&stops)),
    };
    let mut groups = comparison.formats.iter().flat_map(|format| comparison.rivals_in(format));
    let singles = match groups.any(|(group, _)| group.runs.len() == 1) {
        true => "; hollow marks are single runs, which can differ from f32 by chance",
        false => "",
    };
    format!(
        "Look for marks to the left of the grey band, the range of f32 over its seeds. \
         {failed}{stopped} \
         Filled marks are means over seeds with the range from least to greatest{singles}."
    )
}

/// Draws the steps to the target by method, one picture per format.
pub(super) fn steps(comparison: &Comparison<'_>) -> Markup {
    let groups = || comparison.formats.iter().flat_map(|format| comparison.rivals_in(format));
    let all = groups().map(|(group, _)| group).chain(comparison.baseline());
    let axis = Axis::around(all.clone().flat_map(reached).chain([0.0]));
    let formats = comparison.formats.iter();
    let late: Vec<String> = formats
        .flat_map(|format| comparison.rivals_in(format).map(move |found| (format, found)))
        .filter(|(_, (group, _))| reached(group).count() < group.runs.len())
        .map(|(format, (group, _))| format!("{} in {format}", group.method))
        .collect();
    html! {
        figure {
            div.panels {
                @for format in &comparison.formats {
                    div.panel { h4 { (format) } (steps_of(comparison, format, &axis)) }
                }
            }
            figcaption {
                "Look for marks to the right of the grey band: these needed more steps than f32 to \
                 reach " (percent(comparison.task.target)) " % " (comparison.task.metric) ". "
                @if late.is_empty() { "Every run reached it." }
                @else { "Not every run reached it: " (list(&late)) "." }
            }
        }
    }
}

fn reached<'a>(group: &'a Group<'_>) -> impl Iterator<Item = f64> + Clone + use<'a> {
    group.runs.iter().filter_map(|run| run.steps_to_target).map(|steps| steps as f64)
}

fn steps_of(comparison: &Comparison<'_>, format: &str, axis: &Axis) -> Markup {
    let label = format!("Steps to the target of {} in {format}, by method", comparison.task.name);
    let rows = comparison.rivals_in(format).map(|(group, look)| {
        let interval = interval(reached(group));
        let mean = interval.map(|[_, mean, _]| count(mean.round() as u64));
        let missed = group.runs.len() - reached(group).count();
        let text = match &mean {
            Some(mean) if missed == 0 => mean.clone(),
            Some(mean) => format!("{mean}, {missed} not"),
            None => "\u{2715} not reached".into(),
        };
        let each = group.runs.iter().map(|run| run.steps_to_target);
        let each: Vec<_> =
            each.map(|s| s.map_or("not reached".into(), |s| s.to_string())).collect();
        let title = format!("{}, steps by seed: {}", group.method, each.join(", "));
        let is_single = group.runs.len() == 1;
        let method = group.method.clone();
        Row { method, look, interval, is_single, has_failed: missed > 0, text, title }
    });
    let band = comparison.baseline().and_then(|group| interval(reached(group)));
    Dots { label, axis, band, rows: rows.collect() }.draw(|steps| count(steps.max(0.0) as u64))
}

/// Returns the least, the mean and the greatest of the finite values.
fn interval(values: impl Iterator<Item = f64> + Clone) -> Option<[f64; 3]> {
    let (low, high) = extremes(values.clone())?;
    let mean = mean(values.filter(|value| value.is_finite()))?;
    Some([low, mean, high])
}
