//! What `normal` and `range` have in common: they decide, from the operands of a layer, the factor that it adds.

use super::{
    Cell, Certificate, Config, Recovery, Rule, Terms, Trigger, backoff::floor_log2, due, outgoing,
    recover,
};
use crate::{
    scale::Scale,
    statistics::{LogStatistics, Outcome, Statistics},
};

/// What `normal` and `range` decide from: the operands of a layer instead of its results.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, u8)]
pub enum Operands {
    /// The incoming gradient and the weight of a linear layer or a convolution.
    Product {
        /// Statistics of the incoming gradient, scale included.
        gradient: Statistics,
        /// Statistics of the weight.
        weight: Statistics,
        /// The number of products in one sum of the input gradient: output features, or output
        /// channels times the kernel's area, divided by the groups.
        fan_in: u32,
    },
    /// A gradient that is only narrowed, under the Gaussian model.
    Cast(Statistics),
    /// A gradient that is only narrowed, under the log-normal model.
    LogCast(LogStatistics),
    /// The extremes of the products themselves.
    Terms(Terms),
}

impl Operands {
    /// Tells whether there are no products at all, whose sums would all be zero.
    const fn is_empty(&self) -> bool {
        match self {
            Self::Product { fan_in, .. } => *fan_in == 0,
            Self::Terms(terms) => terms.fan_in == 0,
            Self::Cast(_) | Self::LogCast(_) => false,
        }
    }
}

/// What a cell of `normal` or `range` remembers; of a cell of another policy, numbers without a meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// What the scale of arriving values is multiplied by, as it was decided: before caps, and before it is floored
    /// to a power of two; 1 before there was a decision.
    pub factor: f64,
    /// Visits since it was decided.
    pub visits: u32,
}

impl Factor {
    /// Reads a cell.
    pub const fn of(cell: &Cell) -> Self {
        Self { factor: cell.real(), visits: cell.age }
    }

    /// Keeps a factor that is positive and finite.
    const fn remember(factor: f64, cell: &mut Cell) {
        cell.set_real(factor);
    }

    pub(super) fn is_possible(self) -> bool {
        self.factor.is_finite() && self.factor > 0.0
    }
}

/// Returns the scale that values leave with which arrive at `incoming`: the greatest power of two within a factor.
pub(super) fn scaled(incoming: Scale, factor: f64) -> Scale {
    Scale::saturating(incoming.log2() + floor_log2(factor))
}

/// Decides a cell's factor from the operands of its layer.
///
/// Operands with non-finite elements leave the factor alone, and so do sums of no products, and
/// policies that decide from histograms or serve the whole model.
pub fn decide_from_operands(
    config: &Config,
    operands: &Operands,
    incoming: Scale,
    cell: &mut Cell,
) -> Certificate {
    let trigger = due(config, cell).unwrap_or_default();
    let before = outgoing(config, cell, incoming);
    if operands.is_empty() {
        return Certificate::new(Rule::Empty, trigger, before, before);
    }
    let policy = config.policy();
    if !policy.wants_operands() {
        return Certificate::new(Rule::Unused, trigger, before, before);
    }
    let Some(factor) = policy.wanted_factor(operands) else {
        return Certificate::new(Rule::NonFinite, trigger, before, before);
    };
    // A factor of zero (the products exceed f32) still has to be a factor.
    Factor::remember(f64::from(factor.clamp(f32::MIN_POSITIVE, f32::MAX)), cell);
    let scale = outgoing(config, cell, incoming);
    cell.decided(scale);
    Certificate::new(policy.rule(), trigger, before, scale)
}

/// Decides the scale of a join under `normal` and `range`, from what became of the sum when it was narrowed
/// to the scale `incoming` that the branches were brought to, and a way to pick among the branches'
/// scales, such as [`join_target`](super::join_target); where none fits, the sum keeps `incoming`.
///
/// Under other policies the sum keeps `incoming`, and so does the cell.  A sum of zeros fits every scale; one that is not finite fits those that its finite elements fit.
pub fn decide_join(
    config: &Config,
    outcome: &Outcome,
    incoming: Scale,
    pick: impl FnOnce(&dyn Fn(Scale) -> bool) -> Option<Scale>,
    cell: &mut Cell,
) -> Certificate {
    let (trigger, before) = (due(config, cell).unwrap_or_default(), cell.scale);
    if !config.policy().wants_operands() {
        return Certificate::new(Rule::Unused, trigger, before, incoming);
    }
    let shifts = config.narrowing().shifts(outcome.max_abs());
    let greatest =
        shifts.map_or(i32::MAX, |shifts| shifts.greatest.saturating_add(incoming.log2()));
    let scale = pick(&|scale| scale.log2() <= greatest).unwrap_or(incoming);
    cell.decided(scale);
    Certificate::new(Rule::Join, trigger, before, scale)
}

/// Takes note of a visit: what overflowed makes the cell recover at once, and decide at its next visit.
pub(super) fn note(
    config: &Config,
    outcome: &Outcome,
    incoming: Scale,
    cell: &mut Cell,
) -> Option<Scale> {
    cell.grow_older();
    if outcome.nonfinite > 0 || outcome.overflow == 0 || config.recovery() == Recovery::Skip {
        return None;
    }
    let scale = recover(config, outcome, incoming);
    if let Some(scale) = scale {
        cell.scale = scale;
        Factor::remember(libm::ldexp(1.0, (scale / incoming).log2()), cell);
    }
    cell.trigger = Trigger::Overflow;
    scale.filter(|_| config.replays())
}
