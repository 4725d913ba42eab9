//! What a training run decides by: method, period, what becomes of overflow.

use core::fmt;

use super::{Cell, Measured, Normal, Policy};
use crate::{
    format::{Encoding, Format, Narrowing, Overflow, Rounding},
    scale::Scale,
};

/// A share below one, kept as an integer fraction of 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Fraction(u32);

impl Fraction {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// 0.1 %.
    pub const PER_MILLE: Self = Self(4_294_967);

    /// Makes the greatest fraction of 2^32 that is not above `share`.
    ///
    /// # Errors
    ///
    /// The share is negative, 1 or more, or NaN.
    pub fn new(share: f64) -> Result<Self, ConfigError> {
        if (0.0..1.0).contains(&share) {
            Ok(Self((share * 4_294_967_296.0) as u32))
        } else {
            Err(ConfigError::Share)
        }
    }

    /// Makes the fraction `bits / 2^32`.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Returns the numerator over 2^32.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns the share as a floating-point number.
    pub const fn to_f64(self) -> f64 {
        self.0 as f64 / 4_294_967_296.0
    }

    /// Returns the whole part of this share of `count`.
    pub const fn of(self, count: u64) -> u64 {
        let (high, low) = (count >> 32, count & 0xffff_ffff);
        high * self.0 as u64 + ((low * self.0 as u64) >> 32)
    }
}

/// What happens at once when a tensor overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Recovery {
    /// Nothing: the step is skipped if the values became non-finite.
    Skip = 0,
    /// The layer is replayed at the scale that its largest magnitude shows; where overflow
    /// saturates, the step stays usable, nothing is replayed and the scale moves for the next step.
    Replay = 1,
}

/// A configuration that was taken as it is, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// What we recommend: `measured`, a certificate every hundredth step, replay.
    Measured,
    /// What the authors' code does by default: `normal` with T = 0.1 %, a cap of 16 per layer and
    /// of 1024 accumulated, at every visit; nothing happens at overflow but a skipped step.
    ///
    /// It decides at products and casts only; other layers carry the incoming scale through.
    Paper,
}

/// Everything that decides which scales a run uses.
///
/// A configuration that exists is possible: every way to make one checks it.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::Format, policy::{Amax, Config, Policy}};
/// let config = Config::for_format(Format::E5M2)
///     .with_policy(Policy::Amax(Amax { window: 16, margin: 1 }))?
///     .with_period(1)?;
/// assert_eq!(config.policy().name(), "amax");
/// # Ok::<(), adaloss_core::policy::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Config {
    policy: Policy,
    narrowing: Narrowing,
    period: u32,
    max_skips: u32,
    seed: u32,
    recovery: Recovery,
}

impl Config {
    /// Makes the recommended configuration for gradients in a format: `measured`, a certificate every
    /// hundredth step.
    ///
    /// What overflows is replayed, in every format; saturation is an option
    /// ([`with_overflow`](Self::with_overflow)).
    pub const fn for_format(format: Format) -> Self {
        Self {
            policy: Policy::Measured(Measured::for_format(format)),
            narrowing: Narrowing::to(format),
            period: 100,
            max_skips: 32,
            seed: 0,
            recovery: Recovery::Replay,
        }
    }

    /// Makes a configuration by name.
    pub fn preset(preset: Preset, format: Format) -> Self {
        let recommended = Self::for_format(format);
        match preset {
            Preset::Measured => recommended,
            Preset::Paper => Self {
                policy: Policy::Normal(Normal::paper(format)),
                period: 1,
                recovery: Recovery::Skip,
                ..recommended
            },
        }
    }

    /// Returns the same configuration with another policy.
    ///
    /// # Errors
    ///
    /// A parameter of the policy is out of range; the error names it.
    ///
    /// # Examples
    ///
    /// A configuration that the compiler knows links one policy; this one is firmware's.
    ///
    /// ```
    /// use adaloss_core::{format::Format, policy::{Amax, Config, Policy}};
    /// const CONFIG: Config = {
    ///     let amax = Policy::Amax(Amax { window: 16, margin: 1 });
    ///     match Config::for_format(Format::BINARY16).with_policy(amax) {
    ///         Ok(config) => config,
    ///         Err(_) => panic!("not a configuration"),
    ///     }
    /// };
    /// assert_eq!(CONFIG.policy().name(), "amax");
    /// ```
    pub const fn with_policy(self, policy: Policy) -> Result<Self, ConfigError> {
        match policy.check() {
            Ok(()) => Ok(Self { policy, ..self }),
            Err(error) => Err(error),
        }
    }

    /// A period that never ends: `measured` and `amax` leave no certificates.
    pub const NEVER: u32 = u32::MAX;

    /// Returns the same configuration with a certificate every `period` steps of a cell, or, under `normal`
    /// and `range`, a decision at every `period`-th visit.
    ///
    /// [`NEVER`](Self::NEVER) is for runs that want no certificates.
    ///
    /// # Errors
    ///
    /// The period is zero.
    pub const fn with_period(self, period: u32) -> Result<Self, ConfigError> {
        if period == 0 {
            return Err(ConfigError::NoPeriod);
        }
        Ok(Self { period, ..self })
    }

    /// Returns the same configuration with another rounding.
    ///
    /// `seed` is the key of the random words that [`Rounding::Stochastic`] draws.
    pub const fn with_rounding(self, rounding: Rounding, seed: u32) -> Self {
        Self { narrowing: self.narrowing.with_rounding(rounding), seed, ..self }
    }

    /// Returns the same configuration with another treatment of overflow.
    pub const fn with_overflow(self, overflow: Overflow) -> Self {
        Self { narrowing: Narrowing { overflow, ..self.narrowing }, ..self }
    }

    /// Returns the same configuration with another reaction to overflow.
    pub const fn with_recovery(self, recovery: Recovery) -> Self {
        Self { recovery, ..self }
    }

    /// Returns the same configuration that gives up after `max_skips` skipped steps in a row.
    ///
    /// # Errors
    ///
    /// The number is zero: then no step could ever be skipped.
    pub const fn with_max_skips(self, max_skips: u32) -> Result<Self, ConfigError> {
        if max_skips == 0 {
            return Err(ConfigError::NoSkips);
        }
        Ok(Self { max_skips, ..self })
    }

    /// Returns how scales are chosen.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns how gradients are narrowed.
    pub const fn narrowing(&self) -> Narrowing {
        self.narrowing
    }

    /// Returns the number of steps from one certificate to the next, or of visits from one decision to the
    /// next.
    pub const fn period(&self) -> u32 {
        self.period
    }

    /// Returns the key of stochastic rounding.
    pub const fn seed(&self) -> u32 {
        self.seed
    }

    /// Returns what happens when a tensor overflows.
    pub const fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Returns how many skipped steps in a row end a run.
    pub const fn max_skips(&self) -> u32 {
        self.max_skips
    }

    /// Tells whether a tensor that overflows is narrowed once more, at a scale at which it does not.
    pub const fn replays(&self) -> bool {
        matches!(self.recovery, Recovery::Replay)
            && matches!(self.narrowing.overflow, Overflow::Infinity)
            && !self.policy.is_whole_model()
    }

    /// Returns the cell that a tensor starts with.
    pub fn cell(&self) -> Cell {
        self.policy.cell()
    }

    /// Writes every field in a fixed order, little endian: what a checkpoint's digest covers.
    ///
    /// Two configurations have the same bytes if and only if they are equal.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut writer = Writer { bytes: [0; Self::BYTES], length: 0 };
        let Narrowing { format, rounding, overflow } = self.narrowing;
        writer.put(&[
            format.encoding as u8,
            format.subnormals as u8,
            rounding as u8,
            overflow as u8,
            self.recovery as u8,
        ]);
        writer.put(&self.period.to_le_bytes());
        writer.put(&self.max_skips.to_le_bytes());
        writer.put(&self.seed.to_le_bytes());
        writer.put(&[self.policy.number()]);
        self.policy.write(&mut writer);
        writer.bytes
    }

    /// The length of [`to_bytes`](Self::to_bytes).
    pub const BYTES: usize = 72;
}

/// Bytes that are filled from the front; the rest stays zero.
pub(super) struct Writer {
    bytes: [u8; Config::BYTES],
    length: usize,
}

impl Writer {
    /// Appends bytes; debug builds panic where there are more than [`Config::BYTES`].
    pub(super) fn put(&mut self, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *to = *from;
        }
        self.length += bytes.len();
        debug_assert!(self.length <= Config::BYTES);
    }
}

/// Returns the smallest positive and the largest finite number of a format, as the models ask.
pub(super) fn extremes(format: Format) -> (f32, f32) {
    let smallest = match format.min_positive_log2() {
        log2 if log2 < -126 => f32::from_bits(1 << (log2 + 149)),
        log2 => Scale::saturating(log2).factor(),
    };
    (smallest, format.encoding.widen(Encoding::max_finite_bits(format.encoding)))
}

/// A configuration that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A share is negative, 1 or more, or NaN.
    Share,
    /// The period is zero.
    NoPeriod,
    /// No skipped step is allowed.
    NoSkips,
    /// `backoff`: the interval is zero.
    NoInterval,
    /// `backoff`: floor, initial scale and cap are not in order within the legal scales.
    ScaleBounds,
    /// `backoff`: growth and warm-up must be finite and at least 1, shrink between 0 and 1.
    Factors,
    /// `amax`: the window is zero.
    NoWindow,
    /// `measured`: without headroom every step that grows is replayed.
    NoHeadroom,
    /// `measured` and `amax`: more headroom, or a wider margin, than any format can spare.
    Headroom {
        /// What was asked for.
        binades: u8,
    },
    /// `normal` and `range`: a cap or an extreme of the format is not positive, or not in order.
    Extremes,
}

impl ConfigError {
    /// Refuses to leave more than 16 binades free below overflow: half of what binary16 has.
    pub(super) const fn headroom(binades: u8) -> Result<(), Self> {
        if binades > 16 { Err(Self::Headroom { binades }) } else { Ok(()) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share => f.write_str("a share must be at least 0 and below 1"),
            Self::NoPeriod => f.write_str("the period must be at least 1 visit"),
            Self::NoSkips => f.write_str("at least 1 skipped step in a row must be allowed"),
            Self::NoInterval => f.write_str("the growth interval must be at least 1 step"),
            Self::ScaleBounds => f.write_str(
                "floor, initial scale and cap must be in this order and within 2^-126..=2^126",
            ),
            Self::Factors => f.write_str(
                "growth and warm-up must be finite and at least 1, shrink above 0 and below 1",
            ),
            Self::NoWindow => f.write_str("the window of maxima must be at least 1 step"),
            Self::NoHeadroom => f.write_str("at least 1 binade of headroom must be allowed"),
            Self::Headroom { binades } => {
                write!(f, "a headroom or margin of {binades} binades is more than the 16 allowed")
            }
            Self::Extremes => f.write_str(
                "caps must be positive, and the smallest number positive and below the largest",
            ),
        }
    }
}

impl core::error::Error for ConfigError {}
