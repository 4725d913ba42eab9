//! From f32 into a low-precision format: one rounding of the exact product `2^k x`.

use super::{Encoding, Format, Subnormals};

/// How the exact product is rounded to the grid of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Rounding {
    /// To the nearest number, ties to the even one (IEEE 754 roundTiesToEven).
    #[default]
    NearestEven = 0,
    /// To the next number towards zero (IEEE 754 roundTowardZero).
    TowardZero = 1,
    /// Up in magnitude with the probability of the discarded fraction, exact to 2^-32; the random
    /// word comes from [`Noise`](super::Noise).
    Stochastic = 2,
}

/// What a finite value beyond the largest finite number becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Overflow {
    /// Infinity, or NaN in an encoding without infinity; towards zero, the largest finite number.
    #[default]
    Infinity = 0,
    /// The largest finite number of the same sign; an infinite operand saturates too.
    Saturate = 1,
}

/// Everything that decides which bits an f32 becomes, except the shift and the random word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Narrowing {
    /// The format of the result.
    pub format: Format,
    /// How to round to it.
    pub rounding: Rounding,
    /// What becomes of values beyond it.
    pub overflow: Overflow,
}

/// What became of one value on its way into the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The value was zero.
    Zero,
    /// The result is a normal number.
    Normal,
    /// The result is a subnormal number.
    Subnormal,
    /// The value was not zero and the result is.
    Underflow,
    /// The value was finite and beyond the largest finite number.
    Overflow,
    /// The value was infinite or NaN.
    NonFinite,
}

/// A bit pattern and what became of the value on its way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// The bits in the format's encoding, zero-extended.
    pub bits: u32,
    /// What became of the value.
    pub fate: Fate,
}

/// The shifts at which a value lives: it underflows below `least` and overflows above `greatest`.
///
/// Exact for nearest even and towards zero; for stochastic rounding no word lets the value
/// underflow at `least` or overflow at `greatest`, and one word in 2^32 or more does beyond them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shifts {
    /// The least `k` at which `2^k x` does not underflow.
    pub least: i32,
    /// The greatest `k` at which `2^k x` does not overflow.
    pub greatest: i32,
}

const F32_INFINITY: u32 = f32::INFINITY.to_bits();

impl Narrowing {
    /// Narrows to `format` as hardware does by default: nearest even, overflow to infinity.
    pub const fn to(format: Format) -> Self {
        Self { format, rounding: Rounding::NearestEven, overflow: Overflow::Infinity }
    }

    /// Returns the same narrowing with another rounding.
    pub const fn with_rounding(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    /// Returns the same narrowing with values beyond the largest finite number saturated.
    pub const fn saturating(self) -> Self {
        Self { overflow: Overflow::Saturate, ..self }
    }

    /// Rounds the exact product `2^shift_log2 * x` to the format, once.
    ///
    /// `noise` is the random word of stochastic rounding and ignored otherwise.
    ///
    /// Special values: zeros keep their sign, and so does a value that underflows.  A flushing
    /// format decides before it rounds: what is smaller than the smallest normal number becomes
    /// zero even where it would round up to it.  A NaN becomes the quiet NaN of the encoding with
    /// the sign kept and the payload dropped.  An infinity stays one, becomes NaN where there is
    /// none, and saturates where the narrowing does.
    ///
    /// # Examples
    ///
    /// ```
    /// use adaloss_core::format::{Fate, Format, Narrowing};
    /// let half = Narrowing::to(Format::BINARY16);
    /// assert_eq!(half.narrow(1.0e-8, 0, 0).fate, Fate::Underflow);
    /// assert_eq!(half.narrow(1.0e-8, 10, 0).fate, Fate::Subnormal);
    /// assert_eq!(half.narrow(1.0, 15, 0).bits, 0x7800); // 32768
    /// assert_eq!(half.narrow(1.0, 16, 0).fate, Fate::Overflow);
    /// ```
    #[inline(always)]
    pub const fn narrow(self, x: f32, shift_log2: i32, noise: u32) -> Narrowed {
        let encoding = self.format.encoding;
        let sign = (x.to_bits() >> 31) << (encoding.bits() - 1);
        let magnitude = x.to_bits() & 0x7fff_ffff;
        if magnitude >= F32_INFINITY {
            let bits = if magnitude > F32_INFINITY {
                encoding.nan_bits()
            } else {
                match self.overflow {
                    Overflow::Infinity => encoding.overflow_bits(),
                    Overflow::Saturate => encoding.max_finite_bits(),
                }
            };
            return Narrowed { bits: sign | bits, fate: Fate::NonFinite };
        }
        if magnitude == 0 {
            return Narrowed { bits: sign, fate: Fate::Zero };
        }

        let ordered = ordered_bits(magnitude);
        let exponent = (ordered >> 23).saturating_sub(127).saturating_add(shift_log2);
        let significand = (ordered & 0x7f_ffff) as u32 | 0x80_0000;
        let floor = encoding.min_normal_log2();
        let below = floor.saturating_sub(exponent);
        if below > 0 && matches!(self.format.subnormals, Subnormals::Flush) {
            return Narrowed { bits: sign, fate: Fate::Underflow };
        }
        if exponent > encoding.max_log2() {
            return Narrowed { bits: sign | self.overflowed(), fate: Fate::Overflow };
        }

        // Subnormals have the quantum of the smallest normal binade; a carry out of the rounded
        // significand moves into the exponent field by itself.
        let subnormal_bits = if below > 0 { below as u32 } else { 0 };
        let rounded = self.round(significand, 24 - encoding.precision() + subnormal_bits, noise);
        let binades = if below > 0 { 0 } else { (exponent - floor) as u32 };
        let bits = (binades << (encoding.precision() - 1)) + rounded;
        if bits > encoding.max_finite_bits() {
            return Narrowed { bits: sign | self.overflowed(), fate: Fate::Overflow };
        }
        let fate = if bits == 0 {
            Fate::Underflow
        } else if bits < encoding.min_normal_bits() {
            Fate::Subnormal
        } else {
            Fate::Normal
        };
        Narrowed { bits: sign | bits, fate }
    }

    /// Returns the shifts between which `x` neither underflows nor overflows; `None` for zero,
    /// infinity and NaN.
    ///
    /// With `b` the bits of `|x|` (f32 subnormals normalised), `s` and `m` the exponents of the
    /// smallest subnormal and normal number and `E` that of the largest: nearest even underflows
    /// where `low = (b - 1) >> 23` is below `s - 1 - k`, since a tie with zero rounds to zero;
    /// towards zero and stochastic where `floor(log2 |x|)` is below `s - k`; flushing is decided
    /// before rounding, `floor(log2 |x|) < m - k`.  Every rounding overflows where
    /// `high = (b + reach) >> 23` is above `E - k`, with `reach` the distance from the significand
    /// at which rounding overflows to the next binade.
    #[inline]
    pub const fn shifts(self, x: f32) -> Option<Shifts> {
        let magnitude = x.to_bits() & 0x7fff_ffff;
        if magnitude == 0 || magnitude >= F32_INFINITY {
            return None;
        }
        let encoding = self.format.encoding;
        let ordered = ordered_bits(magnitude);
        let floor = (ordered >> 23) - 127;
        let least = match (self.format.subnormals, self.rounding) {
            (Subnormals::Flush, _) => encoding.min_normal_log2() - floor,
            (Subnormals::Gradual, Rounding::NearestEven) => {
                let low = ((ordered - 1) >> 23) - 127;
                encoding.min_subnormal_log2() - 1 - low
            }
            (Subnormals::Gradual, Rounding::TowardZero | Rounding::Stochastic) => {
                encoding.min_subnormal_log2() - floor
            }
        };
        let high = ((ordered + self.overflow_reach()) >> 23) - 127;
        Some(Shifts { least, greatest: encoding.max_log2() - high })
    }

    /// Returns the distance, in units of an f32's last place, from the significand at which a value
    /// of the largest binade overflows to the next binade.
    #[inline]
    pub(crate) const fn overflow_reach(self) -> i32 {
        let encoding = self.format.encoding;
        let max = encoding.max_significand();
        let unit = 1 << (24 - encoding.precision());
        // The first f32 significand that overflows.
        let first = match self.rounding {
            // Half a unit above the largest finite number; the tie itself goes to the even one.
            Rounding::NearestEven => {
                ((2 * max + 1) * unit).div_ceil(2) + max.is_multiple_of(2) as u32
            }
            Rounding::TowardZero => (max + 1) * unit,
            Rounding::Stochastic => max * unit + 1,
        };
        (1 << 24) - first as i32
    }

    /// Returns the magnitude bits that a finite value beyond the format becomes.
    #[inline]
    pub(super) const fn overflowed(self) -> u32 {
        match (self.overflow, self.rounding) {
            (Overflow::Infinity, Rounding::NearestEven | Rounding::Stochastic) => {
                self.format.encoding.overflow_bits()
            }
            _ => self.format.encoding.max_finite_bits(),
        }
    }

    /// Divides a 24-bit significand by `2^dropped` and rounds to an integer.
    #[inline]
    const fn round(self, significand: u32, dropped: u32, noise: u32) -> u32 {
        // From 33 bits on the quotient is below 2^-8: too small for a tie, and a lost bit changes
        // a probability by less than 2^-32.
        let dropped = if dropped < 63 { dropped } else { 63 };
        let wide = significand as u64;
        let kept = (wide >> dropped) as u32;
        match self.rounding {
            Rounding::NearestEven => {
                // Half a unit less one, and one more where that makes a tie go to the even number:
                // no branch, since which way a value rounds cannot be predicted.
                let half = (1 << dropped) >> 1;
                let below_half = half - (half != 0 && kept.is_multiple_of(2)) as u64;
                ((wide + below_half) >> dropped) as u32
            }
            Rounding::TowardZero => kept,
            Rounding::Stochastic => {
                // The discarded bits as a fraction of 2^32.
                let fraction = if dropped <= 32 {
                    (wide << (32 - dropped)) as u32
                } else {
                    (wide >> (dropped - 32)) as u32
                };
                kept + (noise < fraction) as u32
            }
        }
    }
}

impl From<Format> for Narrowing {
    fn from(format: Format) -> Self {
        Self::to(format)
    }
}

impl From<Encoding> for Format {
    fn from(encoding: Encoding) -> Self {
        Self::new(encoding, Subnormals::Gradual)
    }
}

/// Returns the bits of a nonzero finite magnitude as if f32 had no subnormals: the exponent field
/// runs on below 1, so that `>> 23` gives `127 + floor(log2)` for every value.
#[inline]
const fn ordered_bits(magnitude: u32) -> i32 {
    if magnitude >= 1 << 23 {
        return magnitude as i32;
    }
    let shift = magnitude.leading_zeros() - 8;
    let fraction = (magnitude << shift) & 0x7f_ffff;
    ((1 - shift as i32) << 23) | fraction as i32
}
