//! What a bit pattern means, and how rounding goes: bits to f32 and back.
//!
//! [`Encoding`] names a layout, [`Format`] adds what happens to subnormals, [`Narrowing`] adds the
//! rounding and what becomes of overflow.  [`Narrowing::narrow`] rounds the exact product `2^k x`
//! once: an exponent shift on the bits, not an f32 multiplication followed by a cast.  For bfloat16
//! the two differ, because the multiplication rounds a first time where its result is subnormal.
//!
//! The [`Element`] trait is the typed side: storage that widens to f32, narrows with a stated
//! rounding, and multiplies into an f32 accumulator.  [`with_element!`](crate::with_element) goes from
//! an encoding to it.
//!
//! `f16` and `bf16` are those of the `half` crate.  Their own `from_f64` looks at the upper half of the f64
//! alone, so that what lies just above a tie rounds down; [`Element::nearest`] rounds once.

mod element;
mod encoding;
mod fp8;
mod lanes;
mod narrowing;
mod noise;

pub use element::{Element, dot};
pub use encoding::Encoding;
pub use fp8::{E4M3, E5M2};
/// Storage of bfloat16 and binary16.
///
/// From an f64, [`Element::nearest`] rounds as IEEE 754 does; their own `from_f64` does not.
pub use half::{bf16, f16};
pub(crate) use lanes::{Lane, Lanes, RangeCheckedNarrowing, arithmetic_is_default};
pub use narrowing::{Fate, Narrowed, Narrowing, Overflow, Rounding, Shifts};
pub use noise::Noise;

/// What happens to numbers smaller than the smallest normal one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Subnormals {
    /// Gradual underflow (IEEE 754): subnormals are numbers like any other.
    #[default]
    Gradual = 0,
    /// Subnormal operands and results are zero of the same sign, as on hardware that flushes.
    Flush = 1,
}

/// An encoding together with its treatment of subnormals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Format {
    /// The layout of the bits.
    pub encoding: Encoding,
    /// Whether subnormals exist.
    pub subnormals: Subnormals,
}

impl Format {
    /// IEEE 754 binary16 with gradual underflow.
    pub const BINARY16: Self = Self::new(Encoding::Binary16, Subnormals::Gradual);
    /// bfloat16 with gradual underflow.
    pub const BFLOAT16: Self = Self::new(Encoding::BFloat16, Subnormals::Gradual);
    /// FP8 E5M2 with gradual underflow.
    pub const E5M2: Self = Self::new(Encoding::E5M2, Subnormals::Gradual);
    /// FP8 E4M3 (FN) with gradual underflow.
    pub const E4M3: Self = Self::new(Encoding::E4M3, Subnormals::Gradual);
    /// IEEE 754 binary32 with gradual underflow.
    pub const BINARY32: Self = Self::new(Encoding::Binary32, Subnormals::Gradual);

    /// Combines an encoding with a treatment of subnormals.
    pub const fn new(encoding: Encoding, subnormals: Subnormals) -> Self {
        Self { encoding, subnormals }
    }

    /// Returns the same encoding with subnormals flushed to zero.
    pub const fn flushing(self) -> Self {
        Self::new(self.encoding, Subnormals::Flush)
    }

    /// Returns the exponent of the smallest positive number of this format.
    pub const fn min_positive_log2(self) -> i32 {
        match self.subnormals {
            Subnormals::Gradual => self.encoding.min_subnormal_log2(),
            Subnormals::Flush => self.encoding.min_normal_log2(),
        }
    }

    /// Widens a bit pattern to f32, exactly; a flushing format reads a subnormal as zero.
    ///
    /// A NaN becomes a quiet NaN of the same sign, infinities stay infinities.
    #[inline]
    pub const fn widen(self, bits: u32) -> f32 {
        let magnitude = bits & (self.encoding.sign_bit() - 1);
        if matches!(self.subnormals, Subnormals::Flush)
            && magnitude < self.encoding.min_normal_bits()
        {
            self.encoding.widen(bits & self.encoding.sign_bit())
        } else {
            self.encoding.widen(bits)
        }
    }
}
