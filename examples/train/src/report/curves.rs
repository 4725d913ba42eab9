//! Pictures of the way there: training loss and test metric over steps.

use maud::{Markup, html};

use crate::results::{Point, RunReport};

use super::{
    axis::Axis,
    group::{Comparison, Group, distinct, mean},
    lines::{Lines, Place, Series},
    number::{self, list, percent, significant},
    palette::Look,
    svg,
};

/// Points below f32 at the end at which the picture of the metric ends.
const SHOWN_POINTS: f64 = 30.0;

/// What a curve is of.
#[derive(Clone, Copy, PartialEq)]
enum Quantity {
    Loss,
    Metric,
}

impl Quantity {
    fn of(self, point: &Point) -> Option<f64> {
        let value = if self == Self::Loss { point.loss } else { Some(point.metric) };
        value.filter(|value| value.is_finite())
    }

    fn written(self, value: f64) -> String {
        if self == Self::Loss { significant(value) } else { percent(value) }
    }

    fn tick(self, value: f64) -> String {
        if self == Self::Loss { number::tick(value) } else { format!("{:.0}", 100.0 * value) }
    }
}

/// Draws the curves of every format.
pub(super) fn curves(comparison: &Comparison<'_>) -> Markup {
    let metric = &comparison.task.metric;
    let looks = comparison.methods.iter().map(String::as_str).zip(comparison.looks.iter().copied());
    html! {
        figure {
            (svg::legend(looks))
            h4 { "Training loss, logarithmic" }
            div.panels { (panels(comparison, Quantity::Loss)) }
            h4 { "Test " (metric) ", per cent" }
            div.panels { (panels(comparison, Quantity::Metric)) }
            figcaption { (caption(comparison)) }
        }
    }
}

fn panels(comparison: &Comparison<'_>, quantity: Quantity) -> Markup {
    let runs = || {
        let formats = comparison.formats.iter();
        let groups = formats.flat_map(|format| comparison.rivals_in(format));
        groups.map(|(group, _)| group).chain(comparison.baseline()).flat_map(|group| &group.runs)
    };
    let points = || runs().flat_map(|run| &run.curve);
    let steps = Axis::around(points().map(|point| point.step as f64).chain([0.0]));
    let values = points().filter_map(|point| quantity.of(point));
    let values = match quantity {
        Quantity::Loss => Axis::logarithmic(values),
        Quantity::Metric => {
            let end = comparison.baseline().map_or(1.0, Group::mean);
            Axis::around(values.map(|value| value.max(end - SHOWN_POINTS / 100.0)))
        }
    };
    html! {
        @for format in &comparison.formats {
            div.panel {
                h5 { (format) }
                (panel(comparison, format, quantity, &steps, &values))
            }
        }
    }
}

fn panel(
    comparison: &Comparison<'_>,
    format: &str,
    quantity: Quantity,
    steps: &Axis,
    values: &Axis,
) -> Markup {
    let what = if quantity == Quantity::Loss { "Training loss" } else { "Test metric" };
    let methods = comparison.methods.iter().zip(&comparison.looks);
    let series = methods.filter_map(|(method, &look)| {
        Some(series(comparison.group(method, format)?, look, quantity))
    });
    let label = format!("{what} over steps of {} in {format}, by method", comparison.task.name);
    let (across, series) = ("step", series.collect());
    Lines { label, across, steps, values, series }.draw(|value| quantity.tick(value))
}

fn series(group: &Group<'_>, look: Look, quantity: Quantity) -> Series {
    let places = |run: &RunReport| -> Vec<Place> {
        run.curve.iter().map(|point| (point.step as f64, quantity.of(point))).collect()
    };
    let mut steps = distinct(group.runs.iter().flat_map(|run| &run.curve).map(|point| point.step));
    steps.sort_unstable();
    let middle = |&step: &u64| {
        let points = group.runs.iter().flat_map(|run| &run.curve).filter(|p| p.step == step);
        (step as f64, mean(points.filter_map(|point| quantity.of(point))))
    };
    let stopped = group.runs.iter().filter(|run| run.stopped.is_some());
    let stop = |run: &&RunReport| {
        let mut points = run.curve.iter().rev();
        let (step, value) = points.find_map(|point| Some((point.step, quantity.of(point)?)))?;
        Some((step as f64, value, run.steps as f64))
    };
    let mean: Vec<Place> = steps.iter().map(middle).collect();
    let end = mean.last().and_then(|&(step, value)| Some((step, value?)));
    let end = end.map_or("no finite value at the end".into(), |(step, value)| {
        format!("{} at step {step}", quantity.written(value))
    });
    Series {
        look,
        mean,
        seeds: group.runs.iter().map(|run| places(run)).collect(),
        stops: stopped.filter_map(stop).collect(),
        title: format!("{}: {end}", group.method),
    }
}

fn caption(comparison: &Comparison<'_>) -> String {
    let mut broken = Vec::new();
    for format in &comparison.formats {
        for (group, _) in comparison.rivals_in(format) {
            // Before the first step there is no loss.
            let mut points = group.runs.iter().flat_map(|run| &run.curve).filter(|p| p.step > 0);
            if group.has_stopped() || points.any(|point| Quantity::Loss.of(point).is_none()) {
                broken.push(format!("{} in {format}", group.method));
            }
        }
    }
    let found = if broken.is_empty() {
        "No run stopped, and no training loss was infinite or NaN.".into()
    } else {
        format!(
            "Stopped, or without a finite training loss at times, where the line is broken: {}.",
            list(&broken)
        )
    };
    format!(
        "Look for lines that leave the bundle of f32. {found} Thick lines are means over seeds, \
         thin ones single seeds; an open square is where a run stopped. What lies more than \
         {SHOWN_POINTS} points below the end of f32 is drawn on the lower edge."
    )
}
