//! Rational numbers: every f32 is one, and so is every share.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Float as _, One, Signed, ToPrimitive, Zero};

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

/// Returns how far an f64 is from the exact value, in units of its last place.
pub fn ulps(x: f64, exact: &BigRational) -> f64 {
    let (_, exponent, _) = x.integer_decode();
    in_units(&(rational(x) - exact), &rational_pow2(i32::from(exponent)))
}

/// Returns `abs(error / unit)`; zero of no error, whatever the unit, and infinity of one without a
/// unit.
pub fn in_units(error: &BigRational, unit: &BigRational) -> f64 {
    match (error.is_zero(), unit.is_zero()) {
        (true, _) => 0.0,
        (false, true) => f64::INFINITY,
        _ => (error / unit).abs().to_f64().expect("every fraction has an f64"),
    }
}
