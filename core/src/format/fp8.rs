//! The two 8-bit storage types.

use core::fmt;

use num_traits::{Bounded, ToPrimitive};

use super::Encoding;

/// FP8 E4M3 (FN): four exponent bits, three fraction bits, no infinity, largest number 448.
///
/// Equality is that of the bits, as storage asks for: NaN equals itself and -0 differs from +0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct E4M3(pub u8);

/// FP8 E5M2: five exponent bits, two fraction bits, a binary16 cut to its upper byte.
///
/// Equality is that of the bits, as storage asks for: NaN equals itself and -0 differs from +0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct E5M2(pub u8);

macro_rules! eight_bits {
    ($name:ident, $encoding:expr) => {
        impl $name {
            /// Zero, under the name that it has in binary16 and bfloat16.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use adaloss_core::format::", stringify!($name), ";")]
            #[doc = concat!("assert_eq!(f32::from(", stringify!($name), "::ZERO).to_bits(), 0);")]
            /// ```
            pub const ZERO: Self = Self(0);
        }

        impl From<$name> for f32 {
            fn from(element: $name) -> Self {
                $encoding.widen(u32::from(element.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(0x{:02x} = {})", stringify!($name), self.0, f32::from(*self))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f32::from(*self).fmt(f)
            }
        }

        impl Bounded for $name {
            fn min_value() -> Self {
                Self(($encoding.max_finite_bits() | $encoding.sign_bit()) as u8)
            }

            fn max_value() -> Self {
                Self($encoding.max_finite_bits() as u8)
            }
        }

        impl ToPrimitive for $name {
            fn to_i64(&self) -> Option<i64> {
                f32::from(*self).to_i64()
            }

            fn to_u64(&self) -> Option<u64> {
                f32::from(*self).to_u64()
            }

            fn to_f32(&self) -> Option<f32> {
                Some(f32::from(*self))
            }

            fn to_f64(&self) -> Option<f64> {
                Some(f64::from(f32::from(*self)))
            }
        }
    };
}

eight_bits!(E4M3, Encoding::E4M3);
eight_bits!(E5M2, Encoding::E5M2);
