//! Narrowing as straight-line code over 32-bit integers, one lane of a vector per value.

use core::hint::black_box;

use super::{Narrowing, Overflow, Rounding, Subnormals, encoding::exp2};

const F32_INFINITY: u32 = f32::INFINITY.to_bits();

/// A narrowing with its shift, for loops that the compiler turns into vector instructions.
///
/// [`Narrowing::narrow`] is the truth that this has to agree with.  Where that returns early, this
/// computes everything and selects; where that shifts 64-bit words, this needs 32.  Stochastic
/// rounding is left to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes {
    /// What the exponent field of an f32 lacks to the exponent above the smallest normal one.
    rebias: i32,
    /// Exponents below this are flushed.
    flushed_below: i32,
    /// The exponent, from the smallest normal one, of the first binade beyond the format.
    top: i32,
    /// Significand bits that a normal result drops, and one more; see [`Lane::magnitude`].
    dropped: u32,
    /// All ones where half a unit is added before the division, zero towards zero.
    nearest: u32,
    fraction_bits: u32,
    pub(crate) sign_shift: u32,
    pub(crate) max_finite: u32,
    pub(crate) min_normal: u32,
    overflowed: u32,
    infinity: u32,
    nan: u32,
    normalises: bool,
}

/// One value on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    /// The result.
    pub(crate) bits: u32,
    /// The bits of `|x|` before narrowing.
    pub(crate) operand: u32,
    /// The rounded magnitude, beyond the largest finite one where the value is; all ones but the
    /// sign where it is not finite.
    pub(crate) magnitude: u32,
}

impl Lanes {
    /// Settles what is the same for every value; `None` for stochastic rounding.
    pub(crate) const fn new(narrowing: Narrowing, shift_log2: i32) -> Option<Self> {
        let encoding = narrowing.format.encoding;
        let nearest = match narrowing.rounding {
            Rounding::NearestEven => u32::MAX,
            Rounding::TowardZero => 0,
            Rounding::Stochastic => return None,
        };
        let floor = encoding.min_normal_log2();
        Some(Self {
            rebias: shift_log2 - 127 - floor,
            flushed_below: match narrowing.format.subnormals {
                Subnormals::Flush => 0,
                Subnormals::Gradual => i32::MIN,
            },
            top: encoding.max_log2() - floor + 1,
            dropped: 25 - encoding.precision(),
            nearest,
            fraction_bits: encoding.precision() - 1,
            sign_shift: encoding.bits() - 1,
            max_finite: encoding.max_finite_bits(),
            min_normal: encoding.min_normal_bits(),
            overflowed: narrowing.overflowed(),
            infinity: match narrowing.overflow {
                Overflow::Infinity => encoding.overflow_bits(),
                Overflow::Saturate => encoding.max_finite_bits(),
            },
            nan: encoding.nan_bits(),
            // Below 2^-126 an exponent field of zero is read as one of the binade before, which is
            // wrong and does no harm where that binade lies below half the smallest number.
            normalises: shift_log2 - 126 > encoding.min_subnormal_log2() - 1,
        })
    }

    /// Tells whether f32 subnormals have to be normalised: the argument of [`narrow`](Self::narrow).
    pub(crate) const fn normalises(&self) -> bool {
        self.normalises
    }

    /// Narrows one value.
    #[inline(always)]
    pub(crate) const fn narrow<const NORMALISES: bool>(&self, x: f32) -> Lane {
        let operand = x.to_bits() & 0x7fff_ffff;
        let is_finite = operand < F32_INFINITY;
        let rounded = self.magnitude::<NORMALISES>(operand);
        let magnitude = select(is_finite, rounded, 0x7fff_ffff);
        let special = select(operand == F32_INFINITY, self.infinity, self.nan);
        let beyond = select(is_finite, self.overflowed, special);
        let sign = (x.to_bits() >> 31) << self.sign_shift;
        let bits = sign | select(magnitude > self.max_finite, beyond, magnitude);
        Lane { bits, operand, magnitude }
    }

    /// Rounds a finite magnitude, to bits beyond the largest finite ones where it is beyond them.
    #[inline(always)]
    const fn magnitude<const NORMALISES: bool>(&self, operand: u32) -> u32 {
        let ordered = if NORMALISES {
            // The integer is the subnormal in units of 2^-149.
            let normalised = (operand as i32 as f32).to_bits().wrapping_sub(149 << 23);
            select(operand < 1 << 23, normalised, operand) as i32
        } else {
            operand as i32
        };
        let exponent = (ordered >> 23) + self.rebias;
        // Twice the significand, so that at least one bit is dropped and half a unit is an integer.
        let significand = ((ordered as u32 & 0x7f_ffff) | 0x80_0000) << 1;
        let below = if exponent < 0 { exponent.wrapping_neg() } else { 0 };
        // From 26 bits on the quotient rounds to zero.
        let dropped = self.dropped as i32 + below;
        let dropped = if dropped < 31 { dropped as u32 } else { 31 };
        let odd = (significand >> dropped) & 1;
        let below_half = ((1 << (dropped - 1)) - 1 + odd) & self.nearest;
        let rounded = (significand + below_half) >> dropped;
        let binades = if exponent < 0 { 0 } else { exponent };
        let binades = if binades < self.top { binades } else { self.top };
        let magnitude = ((binades as u32) << self.fraction_bits) + rounded;
        let vanishes = (exponent < self.flushed_below) | (NORMALISES & (operand == 0));
        select(vanishes, 0, magnitude)
    }
}

/// The commonest narrowing with half the work: to nearest even, with gradual underflow, of values that stay
/// within the range of the format, which is checked afterwards.
///
/// f32's own arithmetic does the rounding, so that [`arithmetic_is_default`] has to hold.  A result above
/// [`limit`](Self::limit) is of a value that is not finite or beyond the format; or, in bfloat16, of one that is
/// subnormal or too large for a power of two to be added.  It is wrong, and the value one for
/// [`Narrowing::narrow`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RangeCheckedNarrowing {
    factor: f32,
    /// The smallest normal number of the format.
    least: f32,
    /// The first power of two beyond the format, or beyond what can be rounded here.
    beyond: f32,
    /// The significand bits of f32 that the format lacks: none of f32 itself, where a product with the factor is all.
    dropped: u32,
    /// Its smallest normal number is that of f32.
    is_wide: bool,
    pub(crate) sign_shift: u32,
    pub(crate) min_normal: u32,
    /// The greatest magnitude that is right.
    pub(crate) limit: u32,
}

impl RangeCheckedNarrowing {
    /// Settles what is the same for every value, given the shift as a factor; `None` for another
    /// narrowing.
    pub(crate) const fn new(narrowing: Narrowing, factor: f32) -> Option<Self> {
        let encoding = narrowing.format.encoding;
        let is_gradual = matches!(narrowing.format.subnormals, Subnormals::Gradual);
        let is_nearest = matches!(narrowing.rounding, Rounding::NearestEven);
        let dropped = 24 - encoding.precision();
        if !(is_gradual && is_nearest) {
            return None;
        }
        let least = exp2(encoding.min_normal_log2());
        // The last place of a binade is added as a power of two, which has to be one of f32.
        let highest = 127 - dropped as i32;
        let top = encoding.max_log2() + 1;
        let beyond = exp2(if top < highest { top } else { highest });
        let bits = ((beyond.to_bits() - least.to_bits()) >> dropped) + encoding.min_normal_bits();
        let max_finite = encoding.max_finite_bits();
        let is_limited = dropped > 0 && bits <= max_finite;
        Some(Self {
            factor,
            least,
            beyond,
            dropped,
            is_wide: encoding.min_normal_log2() == -126,
            sign_shift: encoding.bits() - 1,
            min_normal: encoding.min_normal_bits(),
            limit: if is_limited { bits - 1 } else { max_finite },
        })
    }

    /// Rounds a magnitude, to one beyond the limit where it is not finite, beyond the format, or for
    /// [`Narrowing::narrow`] to round.
    #[inline(always)]
    pub(crate) const fn magnitude(&self, operand: u32) -> u32 {
        // Exact where f32 holds it as a normal number; where it does not, it is below half the
        // smallest number of the format either way, or the format is wide.
        let product = f32::from_bits(operand) * self.factor;
        if self.dropped == 0 {
            return product.to_bits();
        }
        let is_tiny = self.is_wide & (product < self.least) & (operand != 0);
        // In this form both are one instruction, and a NaN becomes the bound.
        let product = if product < self.beyond { product } else { self.beyond };
        let normal = if product > self.least { product } else { self.least };
        // The sum with a power of two has its last place where the format has it: f32 rounds.
        let binade = normal.to_bits() & 0x7f80_0000;
        let unit = binade + (self.dropped << 23);
        let rounded = (product + f32::from_bits(unit)).to_bits() - unit;
        select(is_tiny, u32::MAX, ((binade - self.least.to_bits()) >> self.dropped) + rounded)
    }
}

/// Tells whether f32 arithmetic is what IEEE 754 has as default: to nearest even, with subnormals.
///
/// A library that the same thread called before may have left a processor that flushes subnormals, or rounds otherwise
/// (MXCSR on x86, FPCR on Arm).  Compilers take it that nobody does; so the operands are hidden from them.  On a GPU the
/// instruction says how it rounds.
#[inline(always)]
pub(crate) fn arithmetic_is_default() -> bool {
    if cfg!(target_arch = "nvptx64") {
        return true;
    }
    // A little more than half of the last place: away from zero, whatever the sign, in no mode but nearest.
    let more_than_half = f32::from_bits(0x33c0_0000);
    let sum = |sign: f32| black_box(sign) + black_box(sign * more_than_half);
    let subnormal = f32::from_bits(1 << 22);
    let product = black_box(subnormal) * black_box(1.0);
    product.to_bits() == subnormal.to_bits()
        && sum(1.0).to_bits() == 0x3f80_0001
        && sum(-1.0).to_bits() == 0xbf80_0001
}

/// Selects without a branch: one that jumps keeps the loop around it from becoming vector code.
#[inline(always)]
const fn select(condition: bool, then: u32, otherwise: u32) -> u32 {
    let mask = (condition as u32).wrapping_neg();
    (then & mask) | (otherwise & !mask)
}
