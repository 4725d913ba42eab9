//! Numbers that f32 arithmetic knows nearly: a running error analysis in f64.
//!
//! Each number comes with a bound on how far a right computation in f32 may be from it, and each
//! operation works out the bound of its result from those of its operands (Higham, "Accuracy and
//! Stability of Numerical Algorithms", section 3.3).  A check writes a formula down once and gets
//! value and bound together.
//!
//! One operation, the exponential, the logarithm and the root among them, may be wrong by
//! [`UNIT`] of its result and by [`TINY`], and a sum of `n` terms by `n` times that of the sum of
//! their magnitudes.  That leaves room for any order, for an accumulator that truncates, for fused
//! instructions, for a product with a reciprocal, and for the functions of another library, but not
//! for an accumulator of 16 bits.

use core::ops::{Add, Div, Mul, Sub};

/// What one f32 operation of a device may be off, relative to its result: 2^-22, four roundings.
///
/// A sum of `n` terms may be off by `n` times that of the sum of their magnitudes.  Two roundings
/// are an accumulator that truncates, or a product with a reciprocal; the others leave room for fused
/// instructions and for the functions of another library.
pub const UNIT: f64 = 1.0 / 4_194_304.0;

/// What one f32 operation of a device may be off, whatever its result: 2^-126, below which a device may
/// flush.
pub const TINY: f64 = f32::MIN_POSITIVE as f64;

/// What [`UNIT`] is to sums in f64: 2^-51, four roundings, one of which the suite's own sum takes.
pub const UNIT_F64: f64 = 2.0 * f64::EPSILON;

/// A number and how far it may be missed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near {
    pub(super) value: f64,
    pub(super) error: f64,
}

impl Near {
    /// A number that the device was given.
    pub(super) fn exact(value: impl Into<f64>) -> Self {
        Self { value: value.into(), error: 0.0 }
    }

    /// A result that adds the rounding of its operation to an inherited error.
    fn rounded(value: f64, inherited: f64) -> Self {
        Self { value, error: inherited + UNIT * (value.abs() + inherited) + TINY }
    }

    /// Sums in any order.
    pub(super) fn sum(terms: impl Iterator<Item = Self>) -> Self {
        let mut sum = Sum::default();
        terms.for_each(|term| sum.take(term));
        sum.finish()
    }

    /// The mean of `count` terms; 0 of none.
    pub(super) fn mean(count: usize, terms: impl Iterator<Item = Self>) -> Self {
        match count {
            0 => Self::exact(0.0),
            _ => Self::sum(terms) / Self::exact(count as f64),
        }
    }

    pub(super) fn sqrt(self) -> Self {
        let root = libm::sqrt(self.value);
        let least = libm::sqrt((self.value - self.error).max(0.0));
        Self::rounded(root, root - least)
    }

    pub(super) fn exp(self) -> Self {
        let value = libm::exp(self.value);
        Self::rounded(value, value * libm::expm1(self.error))
    }

    /// The natural logarithm; anything where the number may be zero.
    pub(super) fn ln(self) -> Self {
        let relative = (self.error / self.value).min(1.0);
        Self::rounded(libm::log(self.value), -libm::log1p(-relative))
    }

    /// Returns the f32 that a result is at least and at most.
    pub(super) fn range(self) -> [f32; 2] {
        let Self { value, error } = self;
        [((value - error) as f32).next_down(), ((value + error) as f32).next_up()]
    }

    /// Tells whether an f32 is such a result; a NaN is where the number is one.
    pub(super) fn allows(self, found: f32) -> bool {
        let [least, greatest] = self.range();
        (least..=greatest).contains(&found) || self.value.is_nan() && found.is_nan()
    }
}

/// A sum in any order, term by term.
#[derive(Default)]
pub(super) struct Sum {
    value: f64,
    error: f64,
    magnitude: f64,
    terms: f64,
}

impl Sum {
    pub(super) fn take(&mut self, Near { value, error }: Near) {
        self.value += value;
        self.error += error;
        self.magnitude += value.abs() + error;
        self.terms += 1.0;
    }

    pub(super) fn finish(self) -> Near {
        Near { value: self.value, error: self.error + self.terms * UNIT * self.magnitude }
    }
}

impl Add for Near {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::rounded(self.value + other.value, self.error + other.error)
    }
}

impl Sub for Near {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self::rounded(self.value - other.value, self.error + other.error)
    }
}

impl Mul for Near {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let inherited = self.value.abs() * other.error + other.value.abs() * self.error;
        Self::rounded(self.value * other.value, inherited + self.error * other.error)
    }
}

impl Div for Near {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let quotient = self.value / other.value;
        let inherited = self.error + quotient.abs() * other.error;
        let least = other.value.abs() - other.error;
        let inherited = if least > 0.0 { inherited / least } else { f64::INFINITY };
        Self::rounded(quotient, inherited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many terms a sum has.
    const TERMS: usize = 64;

    /// Returns the share of what is allowed that a result is off.
    fn share(found: f32, near: Near) -> f64 {
        (f64::from(found) - near.value).abs() / near.error
    }

    /// Asserts that a result is right, and that a fourth of the bound would not do.
    fn assert_needs(found: f32, near: Near) {
        assert!(near.allows(found) && share(found, near) > 0.25, "{found:e} for {near:?}");
    }

    fn toward_zero(x: f64) -> f32 {
        let nearest = x as f32;
        if f64::from(nearest).abs() <= x.abs() { nearest } else { nearest.next_down() }
    }

    fn to_16_bits(x: f64) -> f32 {
        adaloss_core::format::f16::from_f64(x).to_f32()
    }

    /// Sums positive terms in an accumulator that rounds in its own way.
    fn accumulated(terms: [f32; TERMS], round: impl Fn(f64) -> f32) -> f32 {
        terms.into_iter().fold(0.0, |sum: f32, term| round(f64::from(sum) + f64::from(term)))
    }

    fn sum(terms: [f32; TERMS]) -> Near {
        Near::sum(terms.into_iter().map(Near::exact))
    }

    /// Small terms of almost two units of the large one before them, of which truncation keeps one.
    #[test]
    fn a_truncating_accumulator_needs_the_bound() {
        let mut terms = [(2.0 * f32::EPSILON).next_down(); TERMS];
        terms[0] = 1.0;
        assert_needs(accumulated(terms, toward_zero), sum(terms));
    }

    #[test]
    fn an_accumulator_of_16_bits_is_refused() {
        let terms = [1.0 + 1.0 / 2048.0; TERMS];
        let (found, near) = (accumulated(terms, to_16_bits), sum(terms));
        assert!(!near.allows(found) && share(found, near) > 16.0, "{found} for {near:?}");
        assert!(near.allows(accumulated(terms, toward_zero)));
    }

    /// Of some quotients the reciprocal and the product both round by half a unit.
    #[test]
    fn a_product_with_a_reciprocal_needs_the_bound() {
        let quotients = (1..4000_u16).map(|i| {
            let (x, y) = (1.0 + f32::from(i) / 4096.0, 2.0 - f32::from(i) / 5000.0);
            (x * (1.0 / y), Near::exact(x) / Near::exact(y))
        });
        let worst = quotients.max_by(|a, b| share(a.0, a.1).total_cmp(&share(b.0, b.1)));
        let (found, near) = worst.expect("quotients");
        assert_needs(found, near);
    }

    #[test]
    fn a_device_that_flushes_needs_the_bound() {
        let [x, y] = [f32::MIN_POSITIVE, 0.75];
        assert_needs(0.0, Near::exact(x) * Near::exact(y));
        assert!(!(Near::exact(x) * Near::exact(4.0)).allows(0.0));
    }

    /// The same terms in f64.
    #[test]
    fn a_truncating_accumulator_of_64_bits_needs_the_bound() {
        let term = (2.0 * f64::EPSILON).next_down();
        let truncated = 1.0 + (TERMS - 1) as f64 * f64::EPSILON;
        let exact = 1.0 + (TERMS - 1) as f64 * term;
        let bound = TERMS as f64 * UNIT_F64 * exact;
        let share = (exact - truncated) / bound;
        assert!((0.25..=1.0).contains(&share), "{share}");
    }
}
