//! Conversions to and from numbers of 16 and 8 bits, as the ISA's section 9.7.9.21 has `cvt`.
//!
//! Subnormal numbers are numbers like any other.  A NaN of 16 bits is `0x7fff`, one of 8 bits `0x7f`, and one of 32 bits
//! `0x7fffffff`, whatever it was before.  What is too large becomes infinite, or with `.satfinite`, which numbers of 8
//! bits always have, the largest number.

use crate::{operation::Small, tensor::half};

impl Small {
    /// Returns the digits, the exponent of the smallest normal number, the bits of the largest number, and those of a NaN.
    const fn layout(self) -> (u32, i32, u32, u32) {
        match self {
            Self::Half => (11, -14, 0x7bff, 0x7fff),
            Self::Bfloat => (8, -126, 0x7f7f, 0x7fff),
            Self::E5M2 => (3, -14, 0x7b, 0x7f),
            Self::E4M3 => (4, -6, 0x7e, 0x7f),
        }
    }

    /// Returns how many bits a number has.
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::Half | Self::Bfloat => 16,
            Self::E5M2 | Self::E4M3 => 8,
        }
    }

    /// Rounds a number to the nearest, to even at half way.
    pub(crate) fn rounded(self, bits: u32) -> u32 {
        let (digits, least, most, nan) = self.layout();
        let value = f64::from(f32::from_bits(bits));
        if value.is_nan() {
            return nan;
        }
        let sign = bits >> 31 << (self.bits() - 1);
        if value.is_infinite() {
            return sign | self.beyond(most);
        }
        // An f64 has every f32 as a normal number, and these quotients without rounding.
        let exponent = ((value.abs().to_bits() >> 52) as i32 - 1023).max(least);
        let last_place = f64::from_bits(((exponent + 1 - digits as i32 + 1023) as u64) << 52);
        let places = (value.abs() / last_place).round_ties_even() as u32;
        let magnitude = (((exponent - least) as u32) << (digits - 1)) + places;
        sign | if magnitude > most { self.beyond(most) } else { magnitude }
    }

    const fn beyond(self, most: u32) -> u32 {
        match self {
            Self::Half | Self::Bfloat => most + 1,
            Self::E5M2 | Self::E4M3 => most,
        }
    }

    /// Rounds two numbers, of which the second becomes the lower one.
    pub(crate) fn pair(self, upper: u32, lower: u32) -> u32 {
        self.rounded(upper) << self.bits() | self.rounded(lower)
    }

    /// Returns the binary16 number of a number of 8 bits.
    fn half_of(self, bits: u32) -> u32 {
        let (sign, magnitude) = ((bits & 0x80) << 8, bits & 0x7f);
        let (digits, least, most, _) = self.layout();
        if magnitude > most {
            let is_infinite = matches!(self, Self::E5M2) && magnitude == most + 1;
            return if is_infinite { sign | 0x7c00 } else { 0x7fff };
        }
        let fraction_bits = digits - 1;
        let (exponent, fraction) = (magnitude >> fraction_bits, magnitude % (1 << fraction_bits));
        let (exponent, fraction) = match exponent {
            0 => (1, fraction),
            _ => (exponent, fraction | 1 << fraction_bits),
        };
        let log2 = exponent as i32 - 1 + least - fraction_bits as i32;
        let value = f32::from_bits(((log2 + 127) as u32) << 23) * fraction as f32;
        sign | Self::Half.rounded(value.to_bits())
    }

    /// Returns the binary16 numbers of two numbers of 8 bits.
    pub(crate) fn halves(self, pair: u32) -> u32 {
        self.half_of(pair >> 8 & 0xff) << 16 | self.half_of(pair & 0xff)
    }
}

/// Returns the same number of 32 bits.
pub(crate) fn widened(bits: u32) -> u32 {
    let value = half(bits as u16);
    if value.is_nan() { 0x7fff_ffff } else { value.to_bits() }
}
