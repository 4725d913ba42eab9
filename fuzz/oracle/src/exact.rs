//! Rational numbers: every f32 is one, and so is every share.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Float as _, One, Zero};

/// Returns a finite f64 as a fraction.
///
/// # Panics
///
/// The number is not finite.
pub fn rational(x: f64) -> BigRational {
    BigRational::from_float(x).expect("a finite number")
}

/// Returns `2^log2`.
pub fn rational_pow2(log2: i32) -> BigRational {
    let power = BigRational::from(BigInt::one() << log2.unsigned_abs());
    if log2 < 0 { power.recip() } else { power }
}

/// Returns the sum of the values.
pub fn sum(values: impl Iterator<Item = BigRational>) -> BigRational {
    // Integers of one unit: a sum of fractions would reduce each time.
    let unit = rational_pow2(300);
    let integers = values.map(|value| (value * &unit).to_integer());
    BigRational::from(integers.fold(BigInt::zero(), |sum, value| sum + value)) / unit
}

/// Tells whether an f64 is within `ulps` units of its last place of the exact value.
pub fn is_within_ulps(x: f64, exact: &BigRational, ulps: u32) -> bool {
    let (_, exponent, _) = x.integer_decode();
    let tolerance = rational_pow2(i32::from(exponent)) * BigRational::from(BigInt::from(ulps));
    let error = rational(x) - exact;
    error <= tolerance && -error <= tolerance
}
