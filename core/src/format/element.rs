//! The typed side of a format: storage that widens, narrows, and multiplies into f32.

use core::fmt::Debug;

use num_traits::{Bounded, ToPrimitive};

use super::{E4M3, E5M2, Encoding, Narrowed, Narrowing, bf16, f16};

/// A storage element of a low-precision tensor.
///
/// Arithmetic is that of a tensor core: operands are widened exactly, products and sums are f32.
/// [`Bounded`] gives the largest and smallest finite number, [`ToPrimitive`] the usual conversions.
///
/// # Examples
///
/// ```
/// use adaloss_core::format::{Element, Format, Narrowing, dot, f16};
/// let narrowing = Narrowing::to(Format::BINARY16);
/// let x = [1.5_f32, -0.25].map(|x| f16::narrow(x, narrowing, 0, 0));
/// assert_eq!(x[0].widen(), 1.5);
/// assert_eq!(dot(&x, &x), 2.3125);
/// ```
pub trait Element:
    Copy + PartialEq + Debug + Bounded + ToPrimitive + Send + Sync + 'static
{
    /// The layout of the bits.
    const ENCODING: Encoding;

    /// Returns the bits, zero-extended.
    fn to_bits(self) -> u32;

    /// Makes an element from its bits; bits above the encoding's width are ignored.
    fn from_bits(bits: u32) -> Self;

    /// Widens to f32, exactly; subnormals keep their value, NaN becomes a quiet NaN.
    #[inline]
    fn widen(self) -> f32 {
        Self::ENCODING.widen(self.to_bits())
    }

    /// Rounds the exact product `2^shift_log2 * x` once; see [`Narrowing::narrow`].
    ///
    /// The encoding is that of `Self`; the narrowing contributes the rest.
    #[inline]
    fn narrow(x: f32, mut narrowing: Narrowing, shift_log2: i32, noise: u32) -> Self {
        narrowing.format.encoding = Self::ENCODING;
        let Narrowed { bits, .. } = narrowing.narrow(x, shift_log2, noise);
        Self::from_bits(bits)
    }

    /// Rounds an f64 to the nearest number, ties to the even one, once.
    ///
    /// What is beyond the largest finite number becomes infinity, or NaN in an encoding without one; zeros and what
    /// underflows keep their sign, and a NaN becomes the quiet one of the same sign.
    ///
    /// # Examples
    ///
    /// ```
    /// use adaloss_core::format::{Element, bf16};
    /// let x = f64::from(f32::from_bits(0x8370_8004)); // just beyond the middle between two numbers
    /// assert_eq!(bf16::nearest(x).to_bits(), 0x8371);
    /// ```
    #[inline]
    fn nearest(x: f64) -> Self {
        let sign = ((x.to_bits() >> 63) as u32) << (Self::ENCODING.bits() - 1);
        if x.is_nan() {
            return Self::from_bits(sign | Self::ENCODING.nan_bits());
        }
        let near = x as f32;
        let rounded = match Self::ENCODING {
            Encoding::Binary32 => near,
            _ => to_odd(x, near),
        };
        Self::narrow(rounded, Narrowing::to(Self::ENCODING.into()), 0, 0)
    }

    /// Returns `accumulator + self * other` in f32.
    ///
    /// The product of two elements of 16 or 8 bits has at most 22 significant bits and is exact
    /// while it is a normal f32, so that the sum is rounded once, with or without a fused
    /// instruction.  Two f32 elements round twice.
    #[inline]
    fn mul_add<B: Element>(self, other: B, accumulator: f32) -> f32 {
        accumulator + self.widen() * other.widen()
    }
}

/// Returns the f32 next to a number towards zero with its last bit set, or the number itself if it is an f32: which side
/// of every number and of every middle of a format with fewer bits it is on is still to be seen.
#[inline]
fn to_odd(x: f64, near: f32) -> f32 {
    let (exact, found) = (x.abs(), f64::from(near.abs()));
    if found == exact {
        return near;
    }
    let towards_zero = near.to_bits() - u32::from(found > exact);
    f32::from_bits(towards_zero | 1)
}

/// Returns the dot product in f32, summed from the first element to the last.
///
/// Elements beyond the shorter of the two slices are not read.
pub fn dot<A: Element, B: Element>(a: &[A], b: &[B]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (&a, &b)| a.mul_add(b, sum))
}

/// Runs an expression for an encoding that is known when the program runs, with its element type.
///
/// Of what is generic over the [`Element`](crate::format::Element), each encoding has a copy of its own.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Element, Encoding}, with_element};
/// let bits_of_one = |encoding: Encoding| with_element!(encoding, F => Element::to_bits(F::nearest(1.0)));
/// assert_eq!(bits_of_one(Encoding::E4M3), 0x38);
/// ```
#[macro_export]
macro_rules! with_element {
    ($encoding:expr, $element:ident => $body:expr) => {
        match $encoding {
            $crate::format::Encoding::Binary16 => {
                type $element = $crate::format::f16;
                $body
            }
            $crate::format::Encoding::BFloat16 => {
                type $element = $crate::format::bf16;
                $body
            }
            $crate::format::Encoding::E5M2 => {
                type $element = $crate::format::E5M2;
                $body
            }
            $crate::format::Encoding::E4M3 => {
                type $element = $crate::format::E4M3;
                $body
            }
            $crate::format::Encoding::Binary32 => {
                type $element = f32;
                $body
            }
        }
    };
}

/// Runs an expression for an encoding that is known when the program runs, if it is one of 8 bits, with its element
/// type: `Some` of what it returns.
///
/// Networks that have gradients of 8 bits beside activations of 16 are compiled for these alone.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Element, Encoding}, with_8_bit_element};
/// let bits_of_one = |encoding: Encoding| with_8_bit_element!(encoding, F => Element::to_bits(F::nearest(1.0)));
/// assert_eq!(bits_of_one(Encoding::E4M3), Some(0x38));
/// assert_eq!(bits_of_one(Encoding::Binary16), None);
/// ```
#[macro_export]
macro_rules! with_8_bit_element {
    ($encoding:expr, $element:ident => $body:expr) => {
        match $encoding {
            $crate::format::Encoding::E5M2 => {
                type $element = $crate::format::E5M2;
                Some($body)
            }
            $crate::format::Encoding::E4M3 => {
                type $element = $crate::format::E4M3;
                Some($body)
            }
            _ => None,
        }
    };
}

/// Hands every element type to a macro, with commas between them.
///
/// Each is `f32`, or `repr(transparent)` over an unsigned integer of the width of its encoding.
///
/// # Examples
///
/// ```
/// use adaloss_core::{elements, format::Element};
/// macro_rules! count {
///     ($($element:ty),+) => { [$(<$element>::ENCODING),+].len() };
/// }
/// assert_eq!(elements!(count), adaloss_core::format::Encoding::ALL.len());
/// ```
#[macro_export]
macro_rules! elements {
    ($macro:ident) => {
        $macro! {
            $crate::format::f16,
            $crate::format::bf16,
            $crate::format::E5M2,
            $crate::format::E4M3,
            f32
        }
    };
}

macro_rules! element {
    ($name:ty, $encoding:expr, $bits:ty, $to:expr, $from:expr) => {
        impl Element for $name {
            const ENCODING: Encoding = $encoding;

            #[inline]
            fn to_bits(self) -> u32 {
                u32::from($to(self))
            }

            #[inline]
            fn from_bits(bits: u32) -> Self {
                $from(bits as $bits)
            }
        }
    };
}

element!(f16, Encoding::Binary16, u16, f16::to_bits, f16::from_bits);
element!(bf16, Encoding::BFloat16, u16, bf16::to_bits, bf16::from_bits);
element!(E5M2, Encoding::E5M2, u8, |e: E5M2| e.0, E5M2);
element!(E4M3, Encoding::E4M3, u8, |e: E4M3| e.0, E4M3);
element!(f32, Encoding::Binary32, u32, f32::to_bits, f32::from_bits);
