//! Columns of a place's table that not every place has: the steps to its target, and how well a quantity is predicted.

use crate::results::{QuantityReport, RunReport};

use super::{
    group::{Comparison, Group, mean},
    number::{count, percent},
    tables::points,
};

/// Below this, in per cent, the variance explained is of a network that predicts nothing, and its digits say nothing.
const WORST_PERCENT: f64 = -999.0;

/// What these columns are, in a line for all places.
pub(super) const COLUMNS: &str = "steps: the first evaluated step at which the target was reached, the mean over the seeds that \
    did. Of a quantity, in per cent: R2: the variance that is explained; bias: the mean prediction minus the true mean, over \
    that mean or over the standard deviation (sd).";

/// Returns the names of these columns.
pub(super) fn names(comparison: &Comparison<'_>) -> Vec<String> {
    let mut names = Vec::new();
    if has_target(comparison) {
        names.push("steps".into());
    }
    if let Some(quantity) = quantity_of(comparison) {
        if !is_metric(comparison) {
            names.push("R2".into());
        }
        names.push(match &quantity.relative_to[..] {
            QuantityReport::DEVIATION => "bias/sd".into(),
            _ => "bias/mean".into(),
        });
    }
    names
}

/// Returns how many of these columns are of a quantity; they are the last ones, which a terminal shows by themselves.
pub(super) fn quantity_columns(comparison: &Comparison<'_>) -> usize {
    names(comparison).len() - usize::from(has_target(comparison))
}

/// Returns the cells of a method in these columns.
pub(super) fn cells(comparison: &Comparison<'_>, group: &Group<'_>) -> Vec<String> {
    let mut cells = Vec::new();
    if has_target(comparison) {
        cells.push(steps(group));
    }
    if quantity_of(comparison).is_some() {
        if !is_metric(comparison) {
            cells.push(over_seeds(group, |quantity| quantity.explained_variance, explained));
        }
        cells.push(over_seeds(group, |quantity| quantity.bias, |bias| points(100.0 * bias)));
    }
    cells
}

/// Says what these columns hold.
pub(super) fn meaning(comparison: &Comparison<'_>) -> String {
    let mut meaning = String::new();
    if has_target(comparison) {
        let (target, metric) = (percent(comparison.task.target), &comparison.task.metric);
        meaning += &format!(
            " Steps: to {target} per cent, the first evaluated step at which the {metric} was as high, mean over the \
             seeds that reached it, and how many did not."
        );
    }
    if let Some(quantity) = quantity_of(comparison) {
        if !is_metric(comparison) {
            meaning += " R2: the variance of the quantity that is explained, in per cent; 0 is no better than its mean.";
        }
        let to = &quantity.relative_to;
        meaning += &format!(
            " Bias: the mean prediction of the quantity minus its true mean, in per cent of its {to}. Both at the end, \
             mean over seeds; none where they are not defined, as where a prediction is not finite."
        );
    }
    meaning
}

fn has_target(comparison: &Comparison<'_>) -> bool {
    comparison.task.target > 0.0
}

/// Tells whether the metric is the variance explained, so that it has a column already.
fn is_metric(comparison: &Comparison<'_>) -> bool {
    comparison.task.metric == "explained variance"
}

/// Returns what is said of the quantity in some run that has one and is not lost.
fn quantity_of<'a>(comparison: &Comparison<'a>) -> Option<&'a QuantityReport> {
    let quantities = || comparison.runs().filter_map(|run| run.quantity.as_ref());
    quantities().find(|quantity| !quantity.relative_to.is_empty()).or_else(|| quantities().next())
}

fn steps(group: &Group<'_>) -> String {
    let reached = || group.runs.iter().filter_map(|run| run.steps_to_target);
    let missed = group.runs.len() - reached().count();
    match mean(reached().map(|steps| steps as f64)) {
        None => "not".into(),
        Some(mean) if missed == 0 => count(mean.round() as u64),
        Some(mean) => format!("{}, {missed} not", count(mean.round() as u64)),
    }
}

/// Writes the mean of a figure over the seeds for which it is defined, and for how many it is not.
fn over_seeds(
    group: &Group<'_>,
    figure: impl Fn(&QuantityReport) -> Option<f64>,
    write: impl Fn(f64) -> String,
) -> String {
    let of = |run: &&RunReport| run.quantity.as_ref().and_then(&figure);
    let defined = || group.runs.iter().filter_map(&of);
    let missing = group.runs.len() - defined().count();
    match mean(defined()) {
        None => "none".into(),
        Some(mean) if missing == 0 => write(mean),
        Some(mean) => format!("{}, {missing} none", write(mean)),
    }
}

fn explained(share: f64) -> String {
    match 100.0 * share {
        percent if percent < WORST_PERCENT => format!("< {}", points(WORST_PERCENT)),
        _ => percent(share),
    }
}
