//! What a tensor deserves: from statistics to a scale, the triggers, and recovery.
//!
//! [`decide`] is the one function that the scaler, a C caller, firmware and a GPU call.  For
//! `measured` and `amax` it is a pure function of integers: the same histogram gives the same
//! decision on any machine.  `normal` and `range` decide from [`Operands`] with
//! [`decide_from_operands`], in f64 and through libm only, never the platform's mathematics.
//!
//! `fixed`, `backoff`, `amax` and `measured` decide an absolute scale; `normal` and `range` decide,
//! as the paper does, the factor that a layer adds.  [`outgoing`] turns either into the scale that a
//! tensor leaves with.

mod amax;
mod backoff;
mod cell;
mod certificate;
mod config;
mod erfinv;
mod measured;
mod normal;
mod range;
mod recovery;

pub use amax::Amax;
pub use backoff::Backoff;
pub use cell::Cell;
pub use certificate::{Certificate, Expected, Rule, Trigger, Window};
pub use config::{Config, ConfigError, Fraction, Policy, Preset, Recovery};
pub use measured::Measured;
pub use normal::Normal;
pub use range::{Range, ShapeError, Terms};
pub use recovery::{join_target, paper_join_target, recover};

use crate::{
    scale::Scale,
    statistics::{Histogram, LogStatistics, Outcome, Statistics},
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

/// Returns why a cell decides at this visit, or `None` where it keeps its scale.
pub const fn due(config: &Config, cell: &Cell) -> Option<Trigger> {
    if config.policy().is_whole_model() {
        return None;
    }
    match cell.trigger {
        Trigger::None if cell.age < config.period() => None,
        Trigger::None => Some(Trigger::Period),
        trigger => Some(trigger),
    }
}

/// Decides a cell's scale from the histogram of the f32 results, before they are narrowed.
///
/// A histogram without nonzero elements, with non-finite ones, or for another format, leaves the
/// scale alone and is no calibration: the cell decides again at its next visit.  Policies that decide
/// from operands, and those that serve the whole model, keep their scale.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::Format, policy::{Config, Rule, decide}, scale::Scale, statistics::Histogram};
/// let config = Config::for_format(Format::BINARY16);
/// let mut histogram = Histogram::new(config.narrowing());
/// histogram.observe(&[1.0e-9, -2.0e-6, 3.0e-5], Scale::ONE);
/// let mut cell = config.cell();
/// let certificate = decide(&config, &histogram, &mut cell);
/// assert_eq!(certificate.rule, Rule::Window);
/// assert_eq!(histogram.underflow(cell.scale()), 0);
/// assert_eq!(histogram.overflow(cell.scale()), 0);
/// ```
pub fn decide(config: &Config, histogram: &Histogram, cell: &mut Cell) -> Certificate {
    let trigger = due(config, cell).unwrap_or_default();
    let mut certificate = Certificate::new(Rule::Empty, trigger, cell.scale, cell.scale);
    let (seen, wanted) = (histogram.narrowing(), config.narrowing());
    if (seen.format, seen.rounding) != (wanted.format, wanted.rounding) {
        certificate.rule = Rule::OtherFormat;
        return certificate;
    }
    if histogram.nonfinite() > 0 {
        certificate.rule = Rule::NonFinite;
        return certificate.expecting(histogram);
    }
    if histogram.nonzero() == 0 {
        cell.trigger = Trigger::Empty;
        return certificate;
    }
    match config.policy() {
        Policy::Measured(measured) => measured.decide(config, histogram, cell, certificate),
        Policy::Amax(amax) => amax.decide(histogram, cell, certificate),
        Policy::Fixed(_) | Policy::Backoff(_) | Policy::Normal(_) | Policy::Range(_) => {
            certificate.rule = Rule::Kept;
            certificate.expecting(histogram)
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
        _ => return Certificate::new(Rule::Kept, trigger, before, before),
    };
    let Some(factor) = factor else {
        return Certificate::new(Rule::NonFinite, trigger, before, before);
    };
    // A factor of zero (the products exceed f32) still has to be a factor.
    cell.real = f64::from(factor.clamp(f32::MIN_POSITIVE, f32::MAX));
    let scale = outgoing(config, cell, incoming);
    cell.decided(scale, 0);
    Certificate::new(rule, trigger, before, scale)
}

/// Decides the scale of a join under `normal` and `range`, from the histogram of the sum and a way to
/// pick among the branches' scales, such as [`join_target`]; where none fits, the sum keeps the
/// scale `incoming` that the branches were brought to.
pub fn decide_join(
    config: &Config,
    histogram: &Histogram,
    incoming: Scale,
    pick: impl FnOnce(&dyn Fn(Scale) -> bool) -> Option<Scale>,
    cell: &mut Cell,
) -> Certificate {
    let (trigger, before) = (due(config, cell).unwrap_or_default(), cell.scale);
    let scale = pick(&|scale| histogram.overflow(scale) == 0).unwrap_or(incoming);
    cell.decided(scale, 0);
    Certificate::new(Rule::Join, trigger, before, scale).expecting(histogram)
}

/// Returns the scale that a tensor leaves with, when its values arrive at `incoming`.
pub fn outgoing(config: &Config, cell: &Cell, incoming: Scale) -> Scale {
    let factor = match config.policy() {
        Policy::Normal(normal) => f64::from(normal.bounded(cell.real as f32, incoming)),
        Policy::Range(_) => cell.real,
        _ => return cell.scale,
    };
    Scale::saturating(incoming.log2() + backoff::floor_log2(factor))
}

/// Takes note of what narrowing did at one visit, and sets the trigger that it pulls.
///
/// An outcome with non-finite elements tells nothing of the scale and pulls no trigger.
pub fn note(config: &Config, outcome: &Outcome, incoming: Scale, cell: &mut Cell) {
    if config.policy().is_whole_model() {
        return;
    }
    cell.age = cell.age.saturating_add(1);
    if outcome.nonfinite > 0 {
        return;
    }
    if let (Policy::Amax(amax), Some(shifts)) =
        (config.policy(), config.narrowing().shifts(outcome.max_abs()))
    {
        amax.remember(shifts.greatest + incoming.log2(), cell);
    }
    if config.recovery() == Recovery::Skip {
        return;
    }
    if outcome.overflow > 0 {
        if let Some(scale) = recover(config, outcome, incoming) {
            lower(config, scale, incoming, cell);
        }
        cell.trigger = Trigger::Overflow;
    } else if let Policy::Measured(measured) = config.policy() {
        let twice = measured.tolerance.of(2 * outcome.nonzero());
        if cell.flags & cell::PROMISED != 0 && outcome.underflow > twice {
            cell.trigger = Trigger::Underflow;
        }
    }
}

/// Moves a cell to the scale that an overflow showed, until it decides again.
fn lower(config: &Config, scale: Scale, incoming: Scale, cell: &mut Cell) {
    cell.scale = scale;
    cell.flags &= !cell::PROMISED;
    if config.policy().wants_operands() {
        let factor = scale / incoming;
        cell.real = libm::ldexp(1.0, factor.log2());
    }
}

/// Moves the scale of a policy that serves the whole model, after a step that was clean or not.
///
/// A step is clean where every gradient is finite and none overflowed.  One in which values
/// saturated is usable and not clean: infinities would have shown that the scale is too large.
pub fn step(config: &Config, clean: bool, cell: &mut Cell) {
    if let Policy::Backoff(backoff) = config.policy() {
        backoff.step(clean, cell);
    }
}
