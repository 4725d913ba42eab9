//! The moments and extremes that the paper's policies ask for.

use core::mem::offset_of;

use super::{
    ExactSum,
    exact::{scaled_difference, words_to_f64},
};
use crate::format::Element;

/// The unit of a sum of f32 values: their smallest subnormal.
const UNIT_LOG2: i32 = -149;

/// The exact sum and sum of squares of f32 values.
///
/// Fewer than 2^64 terms below 2^128 stay below 2^192 in the sum and 2^320 in the sum of squares,
/// which 6 words from 2^-149 and 10 words from 2^-298 hold with their sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Moments {
    count: u64,
    sum: ExactSum<6>,
    squares: ExactSum<10>,
}

impl Moments {
    /// The moments of no values, the identity of [`merge`](Self::merge).
    pub const EMPTY: Self = Self { count: 0, sum: ExactSum::ZERO, squares: ExactSum::ZERO };

    /// Adds one value; non-finite values are the caller's to count and must not come here.
    #[inline]
    pub fn add(&mut self, x: f32) {
        debug_assert!(x.is_finite());
        self.count += 1;
        let (significand, position) = Self::term(x);
        let significand = u64::from(significand);
        self.sum.add(significand, position, x.is_sign_negative());
        self.squares.add(significand * significand, 2 * position, false);
    }

    /// Returns what a finite value adds to the sum but for its sign: so many units of 2^-149, times
    /// two to the power of a position, which is the same for all values of a binade.
    ///
    /// The term of the squares is its square, at twice the position, in units of 2^-298.
    #[inline]
    pub const fn term(x: f32) -> (u32, u32) {
        let (fraction, field) = (x.to_bits() & 0x7f_ffff, x.to_bits() >> 23 & 0xff);
        if field == 0 { (fraction, 0) } else { (fraction | 0x80_0000, field - 1) }
    }

    /// Adds the values of another part of the tensor.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    /// Returns the number of values.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the arithmetic mean, or `None` of no values.
    pub fn mean(&self) -> Option<f64> {
        match self.count {
            0 => None,
            count => Some(self.sum.to_f64(UNIT_LOG2) / count as f64),
        }
    }

    /// Returns the population standard deviation (no degree of freedom removed), or `None` of no
    /// values.
    ///
    /// The variance is computed exactly and rounded at the end: it is zero for a constant tensor,
    /// and no cancellation spoils it.
    pub fn standard_deviation(&self) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let (squares, sum) = (self.squares.magnitude(), self.sum.magnitude());
        let numerator = scaled_difference(self.count, &squares, &sum);
        Some(libm::sqrt(words_to_f64(&numerator, 2 * UNIT_LOG2)) / self.count as f64)
    }
}

/// Counts, extremes and moments of the values of one tensor.
///
/// Moments are over all finite elements, zeros included, as in the authors' code.  A tensor with
/// non-finite elements is no ground for a decision; they are counted apart for that reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Statistics {
    /// Elements that are infinite or NaN.
    pub nonfinite: u64,
    /// Elements that are zero.
    pub zero: u64,
    /// The moments of the finite elements.
    pub moments: Moments,
    /// The smallest nonzero finite `|x|` as the bits of an f32, or `u32::MAX` where there is none.
    pub min_bits: u32,
    /// The largest finite `|x|` as the bits of an f32.
    pub max_bits: u32,
}

impl Statistics {
    /// Where the number of finite values is, in words of 64 bits: for kernels, whose threads add to
    /// one structure.
    pub const COUNT_WORD: usize = offset_of!(Self, moments.count) / 8;
    /// The first of the 6 words of the sum.
    pub const SUM_WORD: usize = offset_of!(Self, moments.sum) / 8;
    /// The first of the 10 words of the sum of squares.
    pub const SQUARES_WORD: usize = offset_of!(Self, moments.squares) / 8;

    /// The statistics of an empty tensor, the identity of [`merge`](Self::merge).
    pub const EMPTY: Self =
        Self { nonfinite: 0, zero: 0, moments: Moments::EMPTY, min_bits: u32::MAX, max_bits: 0 };

    /// Computes the statistics of a tensor.
    pub fn of<F: Element>(values: &[F]) -> Self {
        let mut statistics = Self::EMPTY;
        values.iter().for_each(|&x| statistics.observe(x.widen()));
        statistics
    }

    /// Counts one element.
    #[inline]
    pub fn observe(&mut self, x: f32) {
        if !x.is_finite() {
            self.nonfinite += 1;
            return;
        }
        let bits = x.to_bits() & 0x7fff_ffff;
        if bits == 0 {
            self.zero += 1;
        } else {
            self.min_bits = self.min_bits.min(bits);
            self.max_bits = self.max_bits.max(bits);
        }
        self.moments.add(x);
    }

    /// Adds the elements of another part of the tensor.
    pub fn merge(&mut self, other: &Self) {
        self.nonfinite += other.nonfinite;
        self.zero += other.zero;
        self.moments.merge(&other.moments);
        self.min_bits = self.min_bits.min(other.min_bits);
        self.max_bits = self.max_bits.max(other.max_bits);
    }

    /// Returns the smallest and largest nonzero magnitude, or `None` where every finite element is
    /// zero.
    pub const fn extremes(&self) -> Option<(f32, f32)> {
        if self.max_bits == 0 {
            None
        } else {
            Some((f32::from_bits(self.min_bits), f32::from_bits(self.max_bits)))
        }
    }
}

/// Counts, extremes and moments of `ln |x|` over the nonzero elements of one tensor.
///
/// This is what the log-normal variant of the paper's policy asks for.  The logarithm is libm's,
/// the same on every platform, rounded to f32 as in the authors' code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct LogStatistics {
    /// Elements that are infinite or NaN.
    pub nonfinite: u64,
    /// The moments of `ln |x|` over the nonzero finite elements.
    pub moments: Moments,
    /// The largest finite `|x|` as the bits of an f32.
    pub max_bits: u32,
    /// Always zero: the padding that C would add, so that every byte is defined.
    pub reserved: u32,
}

impl LogStatistics {
    /// The statistics of an empty tensor, the identity of [`merge`](Self::merge).
    pub const EMPTY: Self =
        Self { nonfinite: 0, moments: Moments::EMPTY, max_bits: 0, reserved: 0 };

    /// Computes the statistics of a tensor.
    pub fn of<F: Element>(values: &[F]) -> Self {
        let mut statistics = Self::EMPTY;
        values.iter().for_each(|&x| statistics.observe(x.widen()));
        statistics
    }

    /// Counts one element.
    #[inline]
    pub fn observe(&mut self, x: f32) {
        if !x.is_finite() {
            self.nonfinite += 1;
        } else if x != 0.0 {
            self.max_bits = self.max_bits.max(x.to_bits() & 0x7fff_ffff);
            self.moments.add(libm::log(f64::from(x.abs())) as f32);
        }
    }

    /// Adds the elements of another part of the tensor.
    pub fn merge(&mut self, other: &Self) {
        self.nonfinite += other.nonfinite;
        self.moments.merge(&other.moments);
        self.max_bits = self.max_bits.max(other.max_bits);
    }
}
