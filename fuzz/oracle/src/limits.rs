//! The ends of each format, written down from the standards as numbers.

use adaloss_core::format::{Encoding, Format, Narrowing, Rounding, Subnormals};

/// Returns `2^log2`, exactly.
///
/// # Panics
///
/// It is no normal f64.
#[inline]
pub const fn pow2(log2: i32) -> f64 {
    assert!(log2 >= -1022 && log2 <= 1023);
    f64::from_bits(((log2 + 1023) as u64) << 52)
}

/// Returns the exact `2^k x`.
///
/// It has 24 significant bits and lies between 2^(k - 149) and 2^(k + 128), so that an f64 holds it
/// for every `k` in `-800..=800`.
///
/// # Panics
///
/// `k` is outside that range.
#[inline]
pub fn product(x: f32, k: i32) -> f64 {
    assert!(k.abs() <= 800);
    f64::from(x) * pow2(k)
}

/// The ends of a format.
///
/// Sources: IEEE 754-2019 table 3.5 for binary16 and binary32; table 1 of Micikevicius et al., "FP8
/// Formats for Deep Learning", for E5M2 and E4M3; bfloat16 is the upper half of binary32.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The smallest positive number, a subnormal.
    pub smallest: f64,
    /// The smallest normal number.
    pub smallest_normal: f64,
    /// The largest finite number.
    pub largest: f64,
    /// The number after the largest, if exponents went on.
    pub beyond: f64,
    /// Whether the significand of the largest number is even: who wins the tie with `beyond`.
    pub largest_is_even: bool,
    /// The bits of the largest finite number.
    pub largest_bits: u32,
    /// The bits of infinity, or of NaN where there is none.
    pub infinity_bits: u32,
    /// The bits of the quiet NaN without a sign.
    pub nan_bits: u32,
    /// Bits in a pattern.
    pub width: u32,
}

impl Limits {
    /// Returns the ends of an encoding, with gradual underflow.
    pub fn of(encoding: Encoding) -> Self {
        let odd = |width, smallest, smallest_normal, largest, beyond, bits: [u32; 3]| Self {
            smallest: pow2(smallest),
            smallest_normal: pow2(smallest_normal),
            largest,
            beyond,
            largest_is_even: false,
            largest_bits: bits[0],
            infinity_bits: bits[1],
            nan_bits: bits[2],
            width,
        };
        match encoding {
            Encoding::Binary16 => odd(16, -24, -14, 65504.0, 65536.0, [0x7bff, 0x7c00, 0x7e00]),
            Encoding::BFloat16 => {
                let largest = pow2(128) - pow2(120);
                odd(16, -133, -126, largest, pow2(128), [0x7f7f, 0x7f80, 0x7fc0])
            }
            Encoding::E5M2 => odd(8, -16, -14, 57344.0, 65536.0, [0x7b, 0x7c, 0x7e]),
            Encoding::E4M3 => {
                Self { largest_is_even: true, ..odd(8, -9, -6, 448.0, 480.0, [0x7e, 0x7f, 0x7f]) }
            }
            Encoding::Binary32 => {
                let largest = pow2(128) - pow2(104);
                let bits = [0x7f7f_ffff, 0x7f80_0000, 0x7fc0_0000];
                odd(32, -149, -126, largest, pow2(128), bits)
            }
        }
    }

    /// Returns the smallest number of a format, flushing or not.
    #[inline]
    pub fn smallest_of(format: Format) -> f64 {
        let limits = Self::of(format.encoding);
        match format.subnormals {
            Subnormals::Gradual => limits.smallest,
            Subnormals::Flush => limits.smallest_normal,
        }
    }

    /// Tells whether a positive exact number becomes zero; under stochastic rounding, whether it
    /// can.
    #[inline]
    pub fn underflows(&self, narrowing: Narrowing, v: f64) -> bool {
        match (narrowing.format.subnormals, narrowing.rounding) {
            (Subnormals::Flush, _) => v < self.smallest_normal,
            // Zero is even and wins the tie.
            (Subnormals::Gradual, Rounding::NearestEven) => v <= self.smallest / 2.0,
            (Subnormals::Gradual, Rounding::TowardZero | Rounding::Stochastic) => v < self.smallest,
        }
    }

    /// Tells whether a positive exact number rounds beyond the largest one; under stochastic
    /// rounding, whether it can.
    #[inline]
    pub fn overflows(&self, narrowing: Narrowing, v: f64) -> bool {
        let tie = self.tie();
        match narrowing.rounding {
            Rounding::NearestEven if self.largest_is_even => v > tie,
            Rounding::NearestEven => v >= tie,
            Rounding::TowardZero => v >= self.beyond,
            Rounding::Stochastic => v > self.largest,
        }
    }

    /// Returns the number halfway between the largest and the one after it.
    #[inline]
    pub fn tie(&self) -> f64 {
        (self.largest + self.beyond) / 2.0
    }

    /// Returns the bit of the sign.
    #[inline]
    pub fn sign_bit(&self) -> u32 {
        1 << (self.width - 1)
    }
}
