//! What a tensor deserves: from what its steps showed to a scale, evidence, and recovery.
//!
//! `measured` and `amax` follow the largest magnitude of each step: [`note`] takes down what narrowing did at
//! a visit and says whether the tensor has to be narrowed once more, [`finish`] ends the step and
//! decides the next one's scale.  Both are pure functions of integers: the same values, the same scale,
//! on any machine, however a step is split.  [`certify`] takes evidence from an exact histogram now and then; it
//! moves nothing.
//!
//! `normal` and `range` decide from [`Operands`] with [`decide_from_operands`], in f64 and through libm
//! only, never the platform's mathematics; they decide, as the paper does, the factor that a layer adds.
//! The other policies decide an absolute scale.  [`outgoing`] turns either into the scale that a
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
mod track;

pub use amax::Amax;
pub use backoff::Backoff;
pub use cell::{Cell, Seen};
pub use certificate::{Certificate, Expected, Rule, Trigger, Window};
pub use config::{Config, ConfigError, Fraction, Policy, Preset, Recovery};
pub use measured::Measured;
pub use normal::Normal;
pub use range::{Range, ShapeError, Terms};
pub use recovery::{join_target, paper_join_target, recover};
pub use track::{Record, repeat};

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

/// Returns why a cell leaves a certificate at this visit, or decides; `None` where it does neither.
pub const fn due(config: &Config, cell: &Cell) -> Option<Trigger> {
    let policy = config.policy();
    if policy.is_whole_model() || policy.follows_maxima() && config.period() == Config::NEVER {
        return None;
    }
    match cell.trigger {
        Trigger::None if cell.age < config.period() => None,
        Trigger::None => Some(Trigger::Period),
        trigger => Some(trigger),
    }
}

/// Certifies what becomes of a tensor at `scale`, from the histogram of its f32 results before they are
/// narrowed; moves no scale.
///
/// A histogram without nonzero elements, with non-finite ones, or for another format, promises nothing; nor
/// do policies that do not follow maxima.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::Format, policy::{Config, certify}, scale::Scale, statistics::Histogram};
/// let config = Config::for_format(Format::BINARY16);
/// let mut histogram = Histogram::new(config.narrowing());
/// histogram.observe(&[1.0e-9, -2.0e-6, 3.0e-5], Scale::ONE);
/// let certificate = certify(&config, &histogram, Scale::new(20)?, &mut config.cell());
/// assert!(certificate.promised);
/// assert_eq!((certificate.window.least, certificate.window.greatest), (5, 31));
/// # Ok::<(), adaloss_core::scale::ScaleError>(())
/// ```
pub fn certify(
    config: &Config,
    histogram: &Histogram,
    scale: Scale,
    cell: &mut Cell,
) -> Certificate {
    let trigger = due(config, cell).unwrap_or_default();
    let mut certificate = Certificate::new(Rule::Unused, trigger, cell.scale, scale);
    let (rule, tolerance) = match config.policy() {
        Policy::Measured(measured) => (Rule::Measured, Some(measured.tolerance)),
        Policy::Amax(_) => (Rule::Amax, None),
        _ => return certificate,
    };
    let (seen, wanted) = (histogram.narrowing(), config.narrowing());
    if (seen.format, seen.rounding) != (wanted.format, wanted.rounding) {
        certificate.rule = Rule::OtherFormat;
        return certificate;
    }
    (cell.age, cell.trigger) = (0, Trigger::None);
    cell.flags &= !cell::PROMISED;
    certificate.rule = match (histogram.nonfinite(), histogram.nonzero()) {
        (0, 0) => Rule::Empty,
        (0, _) => rule,
        _ => Rule::NonFinite,
    };
    certificate = certificate.expecting(histogram);
    if certificate.rule == rule
        && let Some(tolerance) = tolerance
    {
        certificate.allowed = tolerance.of(histogram.nonzero());
        let least = histogram.least_scale(certificate.allowed);
        certificate.window = Window::new(least, histogram.greatest_scale());
        certificate.promised = certificate.expected[1].underflow <= certificate.allowed;
        cell.flags |= if certificate.promised { cell::PROMISED } else { 0 };
    }
    certificate
}

/// Tells whether an outcome breaks what the cell's last certificate promised: more than twice the
/// tolerated share underflowed.
///
/// Nothing follows from it; [`Totals`](crate::scaler::Totals) counts them.
pub const fn breaks_promise(config: &Config, outcome: &Outcome, cell: &Cell) -> bool {
    match config.policy() {
        Policy::Measured(measured) if cell.is_promised() && outcome.nonfinite == 0 => {
            outcome.underflow > measured.tolerance.of(2 * outcome.nonzero())
        }
        _ => false,
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

/// Returns the scale that a tensor leaves with, when its values arrive at `incoming`.
pub fn outgoing(config: &Config, cell: &Cell, incoming: Scale) -> Scale {
    let factor = match config.policy() {
        Policy::Normal(normal) => f64::from(normal.bounded(cell.real_scale() as f32, incoming)),
        Policy::Range(_) => cell.real_scale(),
        _ => return cell.scale,
    };
    Scale::saturating(incoming.log2() + backoff::floor_log2(factor))
}

/// Takes note of what narrowing to [`outgoing`] did at one visit; returns the scale to narrow the tensor to
/// once more, if that is needed.
///
/// It is needed where the tensor overflowed and the configuration [replays](Config::replays), and, under
/// `measured` and `amax`, at the first visit, whose scale nobody could know.  One more time is enough:
/// nothing overflows then, and its outcome is not to be noted.
///
/// An outcome with non-finite elements tells nothing of the scale.
///
/// # Examples
///
/// Without a scaler, for a device of one's own:
///
/// ```
/// use adaloss_core::{
///     apply::Apply, format::{E4M3, Format, Noise}, scale::Scale, statistics::Outcome,
///     policy::{Config, finish, note, outgoing},
/// };
/// let config = Config::for_format(Format::E4M3);
/// let (mut cell, incoming) = (config.cell(), Scale::ONE);
/// let results = [3.0e-5_f32, -7.0e-6];
///
/// let mut narrowed = [E4M3::ZERO; 2];
/// let mut narrow = |to: Scale| {
///     let mut outcome = Outcome::EMPTY;
///     let apply = Apply { narrowing: config.narrowing(), shift: to / incoming, noise: Noise::default() };
///     apply.slice(&results, &mut narrowed, 0, &mut outcome).map(|()| outcome)
/// };
/// let mut carried = outgoing(&config, &cell, incoming);
/// let outcome = narrow(carried)?;
/// if let Some(scale) = note(&config, &outcome, incoming, &mut cell) {
///     narrow(scale)?;
///     carried = scale;
/// }
/// assert_eq!(carried.log2(), 22); // 3.0e-5 becomes 126, and 448 is the largest E4M3
/// finish(&config, &mut cell); // after the last visit of the step
/// # Ok::<(), adaloss_core::apply::ApplyError>(())
/// ```
pub fn note(config: &Config, outcome: &Outcome, incoming: Scale, cell: &mut Cell) -> Option<Scale> {
    let policy = config.policy();
    if policy.is_whole_model() {
        return None;
    }
    if policy.follows_maxima() {
        return track::note(config, outcome, incoming, cell);
    }
    cell.age = cell.age.saturating_add(1);
    if outcome.nonfinite > 0 || outcome.overflow == 0 || config.recovery() == Recovery::Skip {
        return None;
    }
    let scale = recover(config, outcome, incoming);
    if let Some(scale) = scale {
        cell.scale = scale;
        cell.set_real(libm::ldexp(1.0, (scale / incoming).log2()));
    }
    cell.trigger = Trigger::Overflow;
    scale.filter(|_| config.replays())
}

/// Ends a step of one cell: decides the next step's scale under `measured` and `amax`, and moves nothing under
/// other policies.
///
/// A step that was skipped is finished too.  A tensor that was not visited in it, or had no finite nonzero
/// value, keeps its scale.
pub fn finish(config: &Config, cell: &mut Cell) -> Record {
    track::finish(config, cell)
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
