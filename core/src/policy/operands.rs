//! What `normal` and `range` have in common: they decide, from the operands of a layer, the factor that it adds.

use super::{Cell, Certificate, Config, Policy, Rule, Terms, due, outgoing};
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
    let (rule, factor) = match config.policy() {
        Policy::Normal(normal) => (Rule::Normal, normal.factor(operands)),
        Policy::Range(range) => (Rule::Range, range.factor(operands)),
        _ => return Certificate::new(Rule::Unused, trigger, before, before),
    };
    let Some(factor) = factor else {
        return Certificate::new(Rule::NonFinite, trigger, before, before);
    };
    // A factor of zero (the products exceed f32) still has to be a factor.
    cell.set_real(f64::from(factor.clamp(f32::MIN_POSITIVE, f32::MAX)));
    let scale = outgoing(config, cell, incoming);
    cell.decided(scale);
    Certificate::new(rule, trigger, before, scale)
}

/// Decides the scale of a join under `normal` and `range`, from what became of the sum when it was narrowed
/// to the scale `incoming` that the branches were brought to, and a way to pick among the branches'
/// scales, such as [`join_target`]; where none fits, the sum keeps `incoming`.
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
