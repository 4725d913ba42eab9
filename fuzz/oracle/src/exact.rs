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
    assert!(x.is_finite(), "{x} is no fraction");
    let (significand, exponent, sign) = x.integer_decode();
    if significand == 0 {
        return BigRational::zero();
    }
    // Odd over a power of two: nothing is left to reduce, which would take longer than all else.
    let zeros = significand.trailing_zeros();
    let (odd, log2) =
        (BigInt::from(significand >> zeros) * sign, i32::from(exponent) + zeros as i32);
    match log2 {
        0.. => BigRational::from(odd << log2),
        _ => BigRational::new_raw(odd, BigInt::one() << -log2),
    }
}

/// Returns `2^log2`.
pub fn rational_pow2(log2: i32) -> BigRational {
    let power = BigRational::from(BigInt::one() << log2.unsigned_abs());
    if log2 < 0 { power.recip() } else { power }
}

/// Returns the sum of values that are multiples of 2^-300, as every f32 and its square are.
pub fn sum(values: impl Iterator<Item = BigRational>) -> BigRational {
    // Integers of one unit: a sum of fractions would reduce each time.
    let integers = values.map(|value| (value.numer() << 300) / value.denom());
    BigRational::from(integers.fold(BigInt::zero(), |sum, value| sum + value)) * rational_pow2(-300)
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
