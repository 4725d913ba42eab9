//! Every tolerance of the project, each with its reason.  All else is compared bit for bit.
//!
//! A tolerance notes how much of it was used, and a test whose cases need it says so at its end:
//! [`Tolerance::assert_needed`] fails where less than a quarter was.  Each has such a test, which
//! reaches the quarter by itself, in any order and on any number of threads.  So none stays wider
//! than its reason, and none outlives it.
//!
//! The tolerances of a device's arithmetic are part of what its author is promised, and stand in
//! `adaloss_hal::conformance`, as `UNIT`, `TINY` and `UNIT_F64`.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far something may be off, and the most of that which was ever used.
#[derive(Debug)]
pub struct Tolerance {
    /// What may be off, and what that is relative to.
    pub name: &'static str,
    /// The largest error that is allowed.
    pub most: f64,
    /// The bits of the largest error so far: those of positive numbers are in their order.
    worst: AtomicU64,
}

impl Tolerance {
    const fn new(name: &'static str, most: f64) -> Self {
        Self { name, most, worst: AtomicU64::new(0) }
    }

    /// Tells whether an error is allowed, and notes it if it is; NaN is not.
    #[must_use]
    pub fn allows(&self, error: f64) -> bool {
        let magnitude = error.abs();
        let is_allowed = magnitude <= self.most;
        if is_allowed {
            self.worst.fetch_max(magnitude.to_bits(), Ordering::Relaxed);
        }
        is_allowed
    }

    /// Tells whether an error, in units of what it is relative to, is allowed; none always is.
    #[must_use]
    pub fn allows_of(&self, error: f64, unit: f64) -> bool {
        error == 0.0 || self.allows(error / unit)
    }

    /// Returns the largest error that was allowed so far.
    pub fn worst(&self) -> f64 {
        f64::from_bits(self.worst.load(Ordering::Relaxed))
    }

    /// Asserts that at least a quarter of the tolerance was used.
    ///
    /// # Panics
    ///
    /// The tolerance is wider than that.
    pub fn assert_needed(&self) {
        let Self { name, most, .. } = self;
        let worst = self.worst();
        println!("at worst {worst:.2e} of {most:.2e}  {name}");
        assert!(worst >= most / 4.0, "{name}: {most:e} is allowed, at worst {worst:e} was used");
    }
}

// Formats.

/// The probability of rounding up, which is a multiple of 2^-32 below the exact one.
pub static STOCHASTIC: Tolerance =
    Tolerance::new("probability of rounding up stochastically", 1.0 / 4_294_967_296.0);

// Statistics.

/// An exact sum as an f64: half a unit, and what is lost of it by cutting the sum to 64 bits first.
pub static EXACT_SUM: Tolerance =
    Tolerance::new("exact sum, in units in the last place", 0.5 + 1.0 / 2048.0);

/// A mean: its sum and its quotient round, each by half a unit, and a unit of the sum may be two of
/// the quotient.
pub static MEAN: Tolerance = Tolerance::new("mean, in units in the last place", 2.0);

/// The square of a standard deviation: five roundings of 2^-53, one of the variance and twice those
/// of its root and of the quotient; and what cutting the variance to 64 bits adds.
pub static VARIANCE: Tolerance = Tolerance::new("square of a deviation, relative", 6.0 * ROUNDING);

/// Mean and deviation of logarithms that are rounded to f32: they are below 128, where half a unit is
/// 2^-18, and the platform's may differ from libm's in the last bit of an f64.
pub static LOGARITHMS: Tolerance = Tolerance::new("moments of logarithms", 4e-6);

/// The bound on lost mass may be four times the share: a lost element may lie at the lower edge of its
/// binade and is taken for the upper one, a kept element the other way round.
pub static LOST_MASS: Tolerance =
    Tolerance::new("what the bound adds to a share of lost mass, of the share", 3.0);

/// And it is rounded up: its sums, and their quotient, to units of 2^-32.  Within as much of what a
/// policy tolerates, the search leaves the decision open.
pub static LOST_MASS_UNITS: Tolerance =
    Tolerance::new("what rounding adds to the bound of lost mass, in units of 2^-32", 2.0);

// Policies.

/// The inverse error function: three roundings of 2^-53, of the number it is compared with, of the
/// last correction and of the sum with it.
pub static ERFINV: Tolerance = Tolerance::new("inverse error function, relative", 3.0 * ROUNDING);

/// A factor beyond which a sum of the greatest products overflows is rounded to f32 once, by up to
/// 2^-24; roundings in f64 before that count for little.
pub static CEILING: Tolerance = Tolerance::new("greatest factor of a model, relative", 6e-8);

// Joins.

/// A join, in units of the bound that its documentation gives.
pub static JOIN: Tolerance = Tolerance::new("sum of branches in f32, of its documented bound", 1.0);

// Networks in low precision.

/// A weight gradient, in units of what the roundings on the way can add up to.
pub static WEIGHT_GRADIENT: Tolerance =
    Tolerance::new("weight gradient, of what its roundings can add up to", 1.0);

// What the authors' code, PyTorch and Chainer returned.

/// The factor of the Gaussian model.  The authors sum in f32, pairwise, and round the mean before
/// they subtract it, some sixteen roundings of 2^-24 in all; here sums are exact and round once.
pub static GAUSSIAN_FACTOR: Tolerance =
    Tolerance::new("factor of the Gaussian model, relative", 1e-6);

/// The factor of the log-normal model: an exponential, whose relative error is the absolute one of its
/// exponent.  That is a mean of logarithms near 20, where a unit of f32 is 2^-19, and three times
/// their deviation; f32 sums, and numpy's f32 logarithm with its 4 ulp, move it by up to five units.
pub static LOG_NORMAL_FACTOR: Tolerance =
    Tolerance::new("factor of the log-normal model, relative", 1e-5);

/// Means and deviations that numpy computed in f64, in units of the deviation and the mean: it sums
/// pairwise, which leaves some six roundings of 2^-53 whatever the length; ours do not round.
pub static NUMPY_MOMENTS: Tolerance =
    Tolerance::new("moments by numpy, of mean and deviation", 6.0 * ROUNDING);

/// The same of logarithms, each of which is rounded to f32 here and not there: by up to 2^-24 of its
/// binade, which the logarithms around it mostly balance.
pub static NUMPY_LOGARITHMS: Tolerance =
    Tolerance::new("moments of logarithms by numpy, of mean and deviation", 1e-7);

/// The inverse error function of the scipy that was used, which is off by 6.6e-12 at 1e-5 (Q22).
pub static SCIPY_ERFINV: Tolerance =
    Tolerance::new("inverse error function of scipy, relative", 1e-11);

/// Within this distance of a power of two the authors' f32 logarithm rounds up to it (Q3).
pub static POWER_OF_TWO: Tolerance =
    Tolerance::new("distance from the power of two that a logarithm rounds to, relative", 1e-6);

/// A sum of branches, in units of the bound that the check derives from each rounding on the way:
/// the authors add in binary16, core in f32.
pub static SUM_OF_BRANCHES: Tolerance =
    Tolerance::new("sum of branches, of what its roundings can add up to", 1.0);

/// The gradient of a softmax, in units of what its operations add up to if each rounds to the other
/// neighbour: numpy's f32 exponential and logarithm are off by up to 4 ulp, which moves some.
pub static SOFTMAX: Tolerance =
    Tolerance::new("softmax gradient, of what its roundings can add up to", 1.0);

/// Parameters after three optimizer steps, in units of the largest velocity of their array: what the
/// softmax of one step leaves, up to 2^-9 where a logarithm between 2 and 4 is off by a unit, enters
/// the next.
pub static TRAINING: Tolerance = Tolerance::new("parameters, of the largest velocity", 4e-3);

/// Batch normalisation, in units of what the roundings of Chainer's operations, each to the type of
/// gamma, can add up to; the check rounds none of them.
pub static NORMALISATION: Tolerance =
    Tolerance::new("batch normalisation, of what its roundings can add up to", 1.0);

// The CPU device: its own exponential, and the others against the portable device.

/// The exponential, as it is documented: one unit for the polynomial and half of one for the last
/// rounding.
pub static CPU_EXPONENTIAL: Tolerance =
    Tolerance::new("exponential, in units in the last place", 1.5);

/// Moments and sums of a normalisation: both devices add up f64, of terms that one of them rounds to f32
/// after each of a few operations.
pub static CPU_SUMS: Tolerance =
    Tolerance::new("sums of a normalisation, of the greatest", 6.0 * ROUNDING_F32);

/// The gradient of a normalisation over columns: means that are summed in f64, and five operations on each
/// device.
pub static CPU_NORMALISATION: Tolerance =
    Tolerance::new("gradient of a normalisation, of the greatest", 6.0 * ROUNDING_F32);

/// The gradient of a softmax: three roundings of an exponential, three of a sum of them, and the
/// quotient and the weight.
pub static CPU_SOFTMAX: Tolerance =
    Tolerance::new("softmax gradient, of the greatest", 8.0 * ROUNDING_F32);

/// Attention in f32: sums of up to a hundred products, ten roundings at random, for the weights and
/// again for what they are applied to, and a softmax between.
pub static CPU_ATTENTION: Tolerance =
    Tolerance::new("attention, of the greatest", 24.0 * ROUNDING_F32);

/// Attention whose results become binary16: one of the greatest that rounds to the other neighbour.
pub static CPU_ATTENTION_NARROWED: Tolerance =
    Tolerance::new("attention in binary16, of the greatest", 1.0 / 1024.0);

// Training.

/// The slope of a loss along a gradient, of its norm.  The loss is off by some 2^-24 at each end of a
/// step of at most 2e-3 times the norm, which is 5e-4 of a norm of 0.1; where the step crosses the
/// kink of a rectifier, a shorter one takes its place.
pub static SLOPE: Tolerance = Tolerance::new("slope of a loss, relative", 5e-4);

/// A gradient that is summed over micro-batches, of the greatest of its weight: sums of a few samples,
/// each with a rounding or two of its own.
pub static MICRO_BATCHES: Tolerance =
    Tolerance::new("gradient of micro-batches, of the greatest", 4.0 * ROUNDING_F32);

/// The accuracy that a run lacks which met faults and trained all the same, next to one without: as
/// much as another seed can change.
pub static FAULTS_ACCURACY: Tolerance = Tolerance::new("accuracy of a run that met faults", 0.05);

/// The share of runs that wrong values spoil in silence, as long as they are finite: nothing but a
/// second computation tells them from right ones.
pub static FAULTS_SPOILT: Tolerance = Tolerance::new("share of runs that faults spoil", 0.25);

/// One rounding to f32.
const ROUNDING_F32: f64 = f32::EPSILON as f64 / 2.0;

/// One rounding to f64.
const ROUNDING: f64 = f64::EPSILON / 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_allowed_is_used() {
        let tolerance = Tolerance::new("test", 2.0);
        assert!(tolerance.allows(-0.5) && tolerance.allows(0.25));
        assert_eq!(tolerance.worst(), 0.5);
        assert!(!tolerance.allows(2.5) && !tolerance.allows(f64::NAN));
        assert!(tolerance.allows_of(0.0, 0.0) && !tolerance.allows_of(1.0, 0.0));
        assert!(tolerance.allows_of(3.0, f64::INFINITY));
        assert_eq!(tolerance.worst(), 0.5);
        tolerance.assert_needed();
        assert!(tolerance.allows_of(-3.0, 1.5));
        assert_eq!(tolerance.worst(), 2.0);
    }

    #[test]
    #[should_panic(expected = "test: 2e0 is allowed, at worst 4e-1 was used")]
    fn a_tolerance_that_is_too_wide_is_found() {
        let tolerance = Tolerance::new("test", 2.0);
        assert!(tolerance.allows(0.4));
        tolerance.assert_needed();
    }
}
