//! Back to f32: scales are taken out, and the step is judged.

use core::fmt;

pub use crate::propagate::Place;
use crate::{
    apply::ApplyError,
    format::{Element, Format, arithmetic_is_default},
    propagate::{Scaled, shifted_exponent},
    scale::Scale,
    statistics::Outcome,
};

/// What unscaling a tensor met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Unscaled {
    /// All elements.
    pub elements: u64,
    /// Elements that are infinite or NaN in f32, whether they were before or left its range now.
    pub nonfinite: u64,
    /// Nonzero elements whose unscaled magnitude, before it is rounded, is below 2^-126: rounded once
    /// in f32, or flushed on hardware that flushes.  All others are exact.
    pub tiny: u64,
}

impl Unscaled {
    /// Counts the elements of a tensor that was unscaled as it was computed, such as a weight gradient.
    ///
    /// What they were before is gone: one that was rounded up to 2^-126 is taken for exact, and one that became zero
    /// for a zero.
    pub fn of(unscaled: &[f32]) -> Self {
        let mut counts = Self::default();
        unscaled.iter().for_each(|&x| counts.record(x, x));
        counts
    }

    /// Counts the elements that a device narrowed into f32 as it computed them, with the scale taken out on the way: those of
    /// a weight gradient whose operation ends in an epilogue from the gradient's scale to 2^0.
    ///
    /// An element that was rounded up to 2^-126 is taken for exact, as by [`of`](Self::of); one that became zero is counted.
    /// Counts that an outcome cannot have together stay at the greatest there is.
    pub const fn from_outcome(outcome: &Outcome) -> Self {
        Self {
            elements: outcome.elements,
            nonfinite: outcome.nonfinite.saturating_add(outcome.overflow),
            tiny: outcome.underflow.saturating_add(outcome.subnormal),
        }
    }

    /// Counts one element of an unscaled gradient: its f32 value while it still carried the scale, and the f32 that was
    /// stored in its place.
    ///
    /// Of a weight gradient, each element of which is a sum of products, `scaled` is the whole sum, not one of its
    /// terms, and `unscaled` that sum times `2^-K`: one call for each element of the weight.  A sum that overflowed
    /// is passed as it is, infinite or NaN.
    #[inline]
    pub fn record(&mut self, scaled: f32, unscaled: f32) {
        self.elements += 1;
        // A quotient just below 2^-126 is rounded up to it; one that is 2^-126 is a power of two on
        // both sides, or comes from a number that is no larger.
        let is_rounded_up = unscaled.abs() == f32::MIN_POSITIVE
            && scaled.abs() > f32::MIN_POSITIVE
            && scaled.to_bits() & 0x7f_ffff != 0;
        let is_tiny = scaled != 0.0 && (unscaled.abs() < f32::MIN_POSITIVE || is_rounded_up);
        self.nonfinite += u64::from(!unscaled.is_finite());
        self.tiny += u64::from(is_tiny);
    }

    /// Adds the counts of another part of the tensor or of another tensor.
    pub fn merge(&mut self, other: &Self) {
        self.elements += other.elements;
        self.nonfinite += other.nonfinite;
        self.tiny += other.tiny;
    }
}

/// Unscales a gradient into f32: each element widened and multiplied by `2^-K`.
///
/// The result is exact where the quotient is zero or at least 2^-126 in magnitude; smaller ones are
/// rounded once and counted.  Infinities and NaN pass through and are counted, and so are elements that a
/// scale below 2^0 moves beyond f32.
///
/// # Errors
///
/// The slices differ in length; nothing was written.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, f16}, propagate::Scaled, scale::Scale, unscale::unscale};
/// let scaled = [f16::from_f32(3.0), f16::INFINITY];
/// let mut gradient = [0.0; 2];
/// let met = unscale(Format::BINARY16, Scaled::new(&scaled, Scale::new(20)?), &mut gradient)?;
/// assert_eq!(gradient[0], 3.0 / 1048576.0);
/// assert_eq!(met.nonfinite, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[inline(always)]
pub fn unscale<F: Element, S: AsRef<[F]>>(
    format: Format,
    gradient: Scaled<S>,
    to: &mut [f32],
) -> Result<Unscaled, ApplyError> {
    let (value, scale) = gradient.as_ref().into_parts();
    let from = value.as_ref();
    if from.len() != to.len() {
        return Err(ApplyError::Length { from: from.len(), to: to.len() });
    }
    let shift = Scale::ONE / scale;
    let factor = scale.inverse().factor();
    let is_default = arithmetic_is_default();
    let mut met = Unscaled::default();
    for (to, from) in to.chunks_mut(BLOCK).zip(from.chunks(BLOCK)) {
        let counts = if is_default {
            unscale_block(format, scale, from, to, |x| x * factor)
        } else {
            unscale_block(format, scale, from, to, |x| shifted_exponent(x, shift))
        };
        met.merge(&counts);
    }
    Ok(met)
}

/// Elements whose counts fit 32-bit lanes.
const BLOCK: usize = 4096;

/// Unscales elements in straight-line code, which the compiler turns into vector instructions if `shift` is a product.
#[inline(always)]
fn unscale_block<F: Element>(
    format: Format,
    scale: Scale,
    from: &[F],
    to: &mut [f32],
    shift: impl Fn(f32) -> f32,
) -> Unscaled {
    let least = least_bits(scale);
    let (mut nonfinite, mut tiny) = (0_u32, 0_u32);
    for (to, x) in to.iter_mut().zip(from) {
        let scaled = format.widen(x.to_bits());
        let unscaled = shift(scaled);
        let operand = scaled.to_bits() & 0x7fff_ffff;
        nonfinite += u32::from(unscaled.to_bits() & 0x7fff_ffff >= f32::INFINITY.to_bits());
        tiny += u32::from(operand != 0) & u32::from(operand < least);
        *to = unscaled;
    }
    Unscaled { elements: from.len() as u64, nonfinite: nonfinite.into(), tiny: tiny.into() }
}

/// Returns the smallest magnitude but zero that is unscaled exactly: `2^(K - 126)`, or the smallest f32.
///
/// What is smaller counts as [`tiny`](Unscaled::tiny).
///
/// # Examples
///
/// ```
/// use adaloss_core::{scale::Scale, unscale::least_exact};
/// assert_eq!(least_exact(Scale::new(126)?), 1.0);
/// # Ok::<(), adaloss_core::scale::ScaleError>(())
/// ```
pub const fn least_exact(scale: Scale) -> f32 {
    f32::from_bits(least_bits(scale))
}

/// Returns the bits of `2^(K - 126)`, which is unscaled to 2^-126, or of the smallest f32 where that is
/// larger: integers order as magnitudes do.
const fn least_bits(scale: Scale) -> u32 {
    match scale.log2() {
        log2 if log2 >= 0 => (log2 as u32 + 1) << 23,
        log2 if log2 > -23 => 1 << (23 + log2),
        _ => 1,
    }
}

/// Why a step is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// Values were infinite or NaN before they were narrowed: no scale cures that.
    NonFinite,
    /// Finite values overflowed, and no replay was possible.
    Overflow,
    /// A visit ended in an error: its pass failed, or there is no such cell or join.
    Failed,
    /// A pass narrowed nothing: it neither called [`Pass::apply`](crate::apply::Pass::apply) nor asked for
    /// [`Pass::counters`](crate::apply::Pass::counters).
    Uncounted,
    /// The passes of one visit were over different numbers of values.
    Length,
    /// The step visited no gradient and met no weight gradient.
    Nothing,
}

impl Cause {
    /// Every cause, in the order of their discriminants.
    pub(crate) const ALL: [Self; 6] = [
        Self::NonFinite,
        Self::Overflow,
        Self::Failed,
        Self::Uncounted,
        Self::Length,
        Self::Nothing,
    ];

    /// Tells whether a scale that is too large can be the cause, as opposed to a mistake of the caller's.
    pub const fn is_numeric(self) -> bool {
        matches!(self, Self::NonFinite | Self::Overflow)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NonFinite => "non-finite values",
            Self::Overflow => "overflow",
            Self::Failed => "a visit that failed",
            Self::Uncounted => "a pass that narrowed nothing",
            Self::Length => "passes over different numbers of values",
            Self::Nothing => "no gradient was visited",
        })
    }
}

/// What a loss adds up to.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[repr(C)]
pub struct LossSum {
    /// The sum of the rows' losses, each times the weight of its class; NaN where a logit of a row
    /// that counts is not finite.
    pub loss: f64,
    /// The sum of the weights.
    pub weight: f64,
    /// Rows with a label among the classes.
    pub rows: u64,
    /// Rows whose greatest logit is, alone, at the label.
    pub correct: u64,
}

impl LossSum {
    /// Returns the weighted mean; NaN of no rows.
    pub const fn mean(&self) -> f64 {
        self.loss / self.weight
    }

    /// Returns the share of the rows that are classified rightly; NaN of no rows.
    pub const fn accuracy(&self) -> f64 {
        self.correct as f64 / self.rows as f64
    }
}

/// Whether the gradients of a step may reach the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a step that is not usable must not reach the weights"]
pub enum Verdict {
    /// Every gradient that was visited is finite: update the weights.
    Apply,
    /// Leave the weights, the optimizer's state and its counters as they are.
    Skip {
        /// The first place, in backward order, that was not usable; the loss where nothing was visited.
        layer: Place,
        /// What was wrong there.
        cause: Cause,
    },
    /// Skip, and stop training: as many steps in a row as the configuration allows were skipped,
    /// and no scale will help.
    Stop {
        /// The first place, in backward order, that was not usable; the loss where nothing was visited.
        layer: Place,
        /// What was wrong there.
        cause: Cause,
        /// Steps skipped in a row, this one included.
        skipped: u32,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply => f.write_str("every gradient is finite"),
            Self::Skip { layer, cause } => {
                f.write_str("the step has to be skipped: ")?;
                write_found(f, layer, cause)
            }
            Self::Stop { layer, cause, skipped } => {
                f.write_str("training cannot go on: ")?;
                write_found(f, layer, cause)?;
                write!(f, ", after {skipped} skipped steps in a row")
            }
        }
    }
}

/// Writes what was wrong, and where if it was anywhere.
fn write_found(f: &mut fmt::Formatter<'_>, layer: &Place, cause: &Cause) -> fmt::Result {
    match cause {
        Cause::Nothing => write!(f, "{cause}"),
        _ => write!(f, "{cause} in {layer}"),
    }
}
