//! The record of one decision: which rule decided, why, and what it expects.

use core::fmt;

use crate::{scale::Scale, statistics::Histogram};

/// Why a cell decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Trigger {
    /// Nothing but the period.
    #[default]
    None = 0,
    /// The cell has never decided.
    First = 1,
    /// The period is over.
    Period = 2,
    /// The last calibration saw no nonzero element.
    Empty = 3,
    /// Narrowing overflowed.
    Overflow = 4,
    /// More than twice the tolerated share underflowed although the certificate promised less.
    Underflow = 5,
}

impl Trigger {
    pub(super) const fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::None,
            1 => Self::First,
            2 => Self::Period,
            3 => Self::Empty,
            4 => Self::Overflow,
            5 => Self::Underflow,
            _ => return None,
        })
    }
}

/// Which rule of a policy decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rule {
    /// No element was finite and nonzero: the scale stays, and this was no calibration.
    Empty = 0,
    /// Elements were infinite or NaN: the scale stays, and this was no calibration.
    NonFinite = 1,
    /// `measured`: the scale is well inside the window and stays.
    Kept = 2,
    /// `measured`: the middle of the window in which at most the tolerated share underflows.
    Window = 3,
    /// `measured`: the middle of the window in which the lost mass is tolerated.
    LostMass = 4,
    /// `measured`: no window; the greatest scale that leaves the headroom.
    Headroom = 5,
    /// `amax`: the greatest magnitude of the window and the margin.
    Amax = 6,
    /// `normal`: the Gaussian or log-normal model.
    Normal = 7,
    /// `range`: the extremes of the products.
    Range = 8,
    /// `normal` and `range` at a join: the greatest scale of a branch that the sum fits.
    Join = 9,
    /// The histogram counts for another format or rounding than the configuration's: the scale
    /// stays, and this was no calibration.
    OtherFormat = 10,
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
    /// The greatest scale's exponent, headroom not subtracted.
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

    /// Returns how many scales the window holds, with `headroom` left at its upper end.
    pub fn width(self, headroom: u8) -> u32 {
        u32::try_from(i32::from(self.greatest) - i32::from(headroom) - i32::from(self.least) + 1)
            .unwrap_or(0)
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

/// The record of one decision.
///
/// Together with the histogram it was made from, a certificate lets anyone repeat the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Certificate {
    /// The rule that decided.
    pub rule: Rule,
    /// Why the cell decided.
    pub trigger: Trigger,
    /// Whether the bound on growth kept the scale below what the rule asked for.
    pub limited: bool,
    /// Whether the scale keeps underflow within the tolerance.
    pub promised: bool,
    /// The scale before.
    pub before: Scale,
    /// The scale decided.
    pub scale: Scale,
    /// The scales that keep the promise; for the lost-mass rule, by lost mass.
    pub window: Window,
    /// Always zero: the padding that C would add, so that every byte is defined.
    pub reserved: u32,
    /// Finite nonzero elements.
    pub nonzero: u64,
    /// Elements that may underflow.
    pub allowed: u64,
    /// What is expected at `K - 1`, `K` and `K + 1`; all zero where the policy saw no histogram.
    pub expected: [Expected; 3],
}

const _: () = assert!(size_of::<Certificate>() == 80);

impl Certificate {
    /// Makes the record of a decision that used no histogram.
    pub(super) const fn new(rule: Rule, trigger: Trigger, before: Scale, scale: Scale) -> Self {
        Self {
            rule,
            trigger,
            limited: false,
            promised: false,
            before,
            scale,
            window: Window::NONE,
            reserved: 0,
            nonzero: 0,
            allowed: 0,
            expected: [Expected { underflow: 0, overflow: 0 }; 3],
        }
    }

    /// Adds what a histogram says of the decided scale and its neighbours.
    pub(super) fn expecting(mut self, histogram: &Histogram) -> Self {
        self.nonzero = histogram.nonzero();
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
        if self.limited {
            f.write_str(", growth limited")?;
        }
        Ok(())
    }
}
