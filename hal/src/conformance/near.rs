//! Numbers that f32 arithmetic knows nearly: a running error analysis in f64.
//!
//! Each number comes with a bound on how far a right computation in f32 may be from it, and each
//! operation works out the bound of its result from those of its operands (Higham, "Accuracy and
//! Stability of Numerical Algorithms", section 3.3).  A check writes a formula down once and gets
//! value and bound together.
//!
//! One operation, the exponential, the logarithm and the root among them, may be wrong by
//! [`UNIT`] of its result, and a sum of `n` terms by `n` times that of the sum of their magnitudes.
//! That is four roundings of f32: it leaves room for any order, for an accumulator that truncates,
//! for fused instructions, for a product with a reciprocal, and for the functions of another
//! library, but not for an accumulator of 16 bits.

use core::ops::{Add, Div, Mul, Sub};

/// The relative error of one operation: 2^-22.
const UNIT: f64 = 1.0 / 4_194_304.0;

/// The absolute error of one operation, 2^-126: a device may flush f32 results below it.
const TINY: f64 = f32::MIN_POSITIVE as f64;

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
