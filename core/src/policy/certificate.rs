//! Evidence: what an exact histogram says of the scale that a tensor left with, and which rule chose it.

use core::fmt;

use super::{Cell, Config, Fraction, Rule, cell::PROMISED, due};
use crate::{
    scale::Scale,
    statistics::{Histogram, Outcome},
};

/// Why a cell leaves a certificate, or decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Trigger {
    /// Nothing but the period.
    #[default]
    None = 0,
    /// The cell has never left one.
    First = 1,
    /// The period is over.
    Period = 2,
    /// `normal` and `range`: narrowing overflowed.
    Overflow = 3,
}

impl Trigger {
    pub(super) const fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::None,
            1 => Self::First,
            2 => Self::Period,
            3 => Self::Overflow,
            _ => return None,
        })
    }
}

/// The scales between which a tensor loses at most what is tolerated and nothing overflows.
///
/// `least` is 127 where every legal scale loses more, `greatest` -127 where every legal scale
/// overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Window {
    /// The least scale's exponent.
    pub least: i16,
    /// The greatest scale's exponent.
    pub greatest: i16,
}

impl Window {
    /// The window of a tensor in which nothing is known.
    pub const NONE: Self = Self { least: 127, greatest: -127 };

    pub(super) fn new(least: Option<Scale>, greatest: Option<Scale>) -> Self {
        Self {
            least: least.map_or(127, |scale| scale.log2() as i16),
            greatest: greatest.map_or(-127, |scale| scale.log2() as i16),
        }
    }

    /// Returns how many scales the window holds.
    pub fn width(self) -> u32 {
        u32::try_from(i32::from(self.greatest) - i32::from(self.least) + 1).unwrap_or(0)
    }
}

/// What a histogram promises for one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Expected {
    /// Elements that underflow.
    pub underflow: u64,
    /// Elements that overflow.
    pub overflow: u64,
}

/// The evidence for one tensor at one visit, or the record of one decision.
///
/// Under `measured` and `amax` it speaks of the scale that the visit left with, and decides nothing; together with
/// the histogram it was made from, anyone can repeat it.  Under `normal` and `range` it records a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Certificate {
    /// The rule that chose the scale.
    pub rule: Rule,
    /// Why there is a certificate.
    pub trigger: Trigger,
    /// Whether the scale keeps underflow within the tolerance.
    pub promised: bool,
    /// Always zero, as every byte is defined.
    pub reserved: u8,
    /// The cell's scale before; another one than `scale` where a decision moved it, or where the visit
    /// was replayed.
    pub before: Scale,
    /// The scale that the certificate speaks of.
    pub scale: Scale,
    /// The scales that keep the promise.
    pub window: Window,
    /// The share of the sum of magnitudes that underflows at `scale`.
    pub lost_mass: Fraction,
    /// Finite nonzero elements.
    pub nonzero: u64,
    /// Elements that may underflow.
    pub allowed: u64,
    /// What is expected at `K - 1`, `K` and `K + 1`; all zero where the policy saw no histogram.
    pub expected: [Expected; 3],
}

const _: () = assert!(size_of::<Certificate>() == 80);

impl Certificate {
    /// Where no certificate is.
    pub(crate) const NONE: Self = Self::new(Rule::Empty, Trigger::None, Scale::ONE, Scale::ONE);

    /// Makes the record of a decision that used no histogram.
    pub(super) const fn new(rule: Rule, trigger: Trigger, before: Scale, scale: Scale) -> Self {
        Self {
            rule,
            trigger,
            promised: false,
            reserved: 0,
            before,
            scale,
            window: Window::NONE,
            lost_mass: Fraction::ZERO,
            nonzero: 0,
            allowed: 0,
            expected: [Expected { underflow: 0, overflow: 0 }; 3],
        }
    }

    /// Adds what a histogram says of the scale and its neighbours.
    pub(super) fn expecting(mut self, histogram: &Histogram) -> Self {
        self.nonzero = histogram.nonzero();
        self.lost_mass = Fraction::from_bits(histogram.lost_mass(self.scale));
        self.expected = [-1, 0, 1].map(|step| {
            let scale = Scale::saturating(self.scale.log2() + step);
            Expected { underflow: histogram.underflow(scale), overflow: histogram.overflow(scale) }
        });
        self
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, trigger, before, scale, nonzero, expected, .. } = self;
        write!(f, "{before} -> {scale} by {rule:?} on {trigger:?}")?;
        if *nonzero > 0 {
            let [_, at, _] = expected;
            write!(
                f,
                ", expecting {} of {nonzero} to underflow and {} to overflow",
                at.underflow, at.overflow
            )?;
        }
        Ok(())
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
    let policy = config.policy();
    if !policy.follows_maxima() {
        return certificate;
    }
    let (seen, wanted) = (histogram.narrowing(), config.narrowing());
    if (seen.format, seen.rounding) != (wanted.format, wanted.rounding) {
        certificate.rule = Rule::OtherFormat;
        return certificate;
    }
    (cell.age, cell.trigger) = (0, Trigger::None);
    cell.flags &= !PROMISED;
    let rule = policy.rule();
    certificate.rule = match (histogram.nonfinite(), histogram.nonzero()) {
        (0, 0) => Rule::Empty,
        (0, _) => rule,
        _ => Rule::NonFinite,
    };
    certificate = certificate.expecting(histogram);
    if certificate.rule == rule
        && let Some(tolerance) = policy.tolerance()
    {
        certificate.allowed = tolerance.of(histogram.nonzero());
        let least = histogram.least_scale(certificate.allowed);
        certificate.window = Window::new(least, histogram.greatest_scale());
        certificate.promised = certificate.expected[1].underflow <= certificate.allowed;
        cell.flags |= if certificate.promised { PROMISED } else { 0 };
    }
    certificate
}

/// Tells whether an outcome breaks what the cell's last certificate promised: more than twice the
/// tolerated share underflowed.
///
/// Nothing follows from it; [`Totals`](crate::scaler::Totals) counts them.
pub const fn breaks_promise(config: &Config, outcome: &Outcome, cell: &Cell) -> bool {
    match config.policy().tolerance() {
        Some(tolerance) if cell.is_promised() && outcome.nonfinite == 0 => {
            outcome.underflow > tolerance.of(2 * outcome.nonzero())
        }
        _ => false,
    }
}
