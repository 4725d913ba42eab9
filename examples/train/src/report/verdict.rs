//! The word for a method beside f32, by a test on the differences of runs with the same seed.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::group::mean;

/// Points of the metric within which a method is as good as f32.
pub(super) const TOLERANCE_POINTS: f64 = 1.5;

/// The share of cases in which an interval holds what it is about.
const CONFIDENCE: f64 = 0.95;

/// How far a method ended from f32, in points of the metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Difference {
    /// The mean over the seeds that both have; negative below f32.
    pub(super) mean: f64,
    /// Half the width of the 95 % interval of the mean by Student's distribution; none with one seed, about which
    /// nothing is known.
    pub(super) half: Option<f64>,
}

impl Difference {
    /// Returns what differences in points amount to; none where there are none, or one is not finite.
    pub(super) fn of(differences: &[f64]) -> Option<Self> {
        let mean = mean(differences.iter().copied()).filter(|mean| mean.is_finite())?;
        let free = differences.len() as f64 - 1.0;
        if free < 1.0 {
            return Some(Self { mean, half: None });
        }
        let squares: f64 = differences.iter().map(|d| (d - mean) * (d - mean)).sum();
        let error = (squares / free / differences.len() as f64).sqrt();
        let quantile = StudentsT::new(0.0, 1.0, free).ok()?.inverse_cdf(0.5 + 0.5 * CONFIDENCE);
        Some(Self { mean, half: Some(quantile * error) })
    }

    /// Returns both ends of the interval.
    pub(super) fn interval(self) -> Option<(f64, f64)> {
        self.half.map(|half| (self.mean - half, self.mean + half))
    }

    /// Returns the word for it.
    pub(super) fn verdict(self) -> Verdict {
        match self.interval() {
            Some((_, high)) if high < -TOLERANCE_POINTS => Verdict::Failed,
            Some((low, high)) if low >= -TOLERANCE_POINTS && high <= TOLERANCE_POINTS => {
                Verdict::Equal
            }
            _ => Verdict::Undecided,
        }
    }
}

/// What became of a method in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is what the others are measured against.
    Baseline,
    /// The whole interval lies within the tolerance.
    Equal,
    /// The whole interval lies below the tolerance.
    Failed,
    /// Anything else, as after one seed, or better than f32.
    Undecided,
    /// There is no run in f32 of the same seed, or a metric is not finite.
    Unknown,
}

impl Verdict {
    pub(super) fn has_failed(self) -> bool {
        self == Self::Failed
    }

    /// Returns the word; nothing where nothing can be said.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Baseline | Self::Unknown => "",
            Self::Equal => "equal",
            Self::Failed => "failed",
            Self::Undecided => "undecided",
        }
    }

    /// Returns a sign that goes with the word.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Baseline | Self::Unknown => "",
            Self::Equal => "\u{2713} ",
            Self::Failed => "\u{2715} ",
            Self::Undecided => "? ",
        }
    }

    /// Returns a class of the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Equal => "good",
            Self::Failed => "bad",
            _ => "open",
        }
    }
}

/// Says what the words mean.
pub(super) fn meaning() -> String {
    format!(
        "By the differences to f32 of runs with the same seed: equal where the 95 % interval of their \
         mean (Student's t) lies within {TOLERANCE_POINTS} points, failed where all of it lies below \
         \u{2212}{TOLERANCE_POINTS}, undecided otherwise."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(differences: &[f64]) -> Verdict {
        Difference::of(differences).unwrap().verdict()
    }

    /// The quantiles of Student's distribution at 0.975 are 12.706, 4.303 and 3.182 for one, two and
    /// three degrees of freedom, in any table.
    #[test]
    fn intervals_are_those_computed_by_hand() {
        // Mean 0, deviation 1.
        let found = Difference::of(&[-1.0, 0.0, 1.0]).unwrap();
        assert!((found.half.unwrap() - 4.303 / 3.0_f64.sqrt()).abs() < 1e-3, "{found:?}");
        assert_eq!(found.mean, 0.0);
        // Mean -2, deviation sqrt(2), error 1.
        let found = Difference::of(&[-3.0, -1.0]).unwrap();
        assert!((found.mean + 2.0).abs() < 1e-12 && (found.half.unwrap() - 12.706).abs() < 1e-3);
        // Mean 1, sum of squares 4, deviation sqrt(4/3), error sqrt(1/3).
        let found = Difference::of(&[0.0, 0.0, 2.0, 2.0]).unwrap();
        assert!((found.half.unwrap() - 3.182 / 3.0_f64.sqrt()).abs() < 1e-3, "{found:?}");
        assert_eq!(Difference::of(&[0.4]), Some(Difference { mean: 0.4, half: None }));
        assert_eq!(Difference::of(&[]), None);
        assert_eq!(Difference::of(&[0.0, f64::NAN]), None);
    }

    #[test]
    fn words_follow_from_the_whole_interval() {
        // Half the width is 2.484 deviations with three seeds.
        for (differences, expected) in [
            // -0.5 to 0.5.
            (&[-0.2, 0.0, 0.2][..], Verdict::Equal),
            // -1.98 to 1.98.
            (&[-0.8, 0.0, 0.8], Verdict::Undecided),
            // -1.39 to 0.59: the end below zero is within the tolerance.
            (&[-0.8, -0.4, 0.0], Verdict::Equal),
            // -1.69 to 0.29: it is not.
            (&[-1.1, -0.7, -0.3], Verdict::Undecided),
            // -2.19 to -0.2: below f32 beyond chance, and not known to be by more than the tolerance.
            (&[-1.6, -1.2, -0.8], Verdict::Undecided),
            // -4.49 to -2.51.
            (&[-3.9, -3.5, -3.1], Verdict::Failed),
            // -4.49 to -1.11.
            (&[-3.48, -2.8, -2.12], Verdict::Undecided),
            // A collapse of every seed, by amounts of the same size.
            (&[-21.5, -31.4, -22.6], Verdict::Failed),
            // One lost run among three is not known to be more than bad luck.
            (&[0.1, -0.1, -60.0], Verdict::Undecided),
            // Better is not equal, and no failure.
            (&[3.0, 3.2, 3.4], Verdict::Undecided),
            // Two seeds: 12.706 times 0.05, and times 0.2.
            (&[-0.05, 0.05], Verdict::Equal),
            (&[-0.2, 0.2], Verdict::Undecided),
            // Equal to the last digit, at the edge and beyond it.
            (&[0.0, 0.0, 0.0], Verdict::Equal),
            (&[-1.5, -1.5], Verdict::Equal),
            (&[-1.75, -1.75], Verdict::Failed),
            // One seed is never enough.
            (&[0.0], Verdict::Undecided),
            (&[-50.0], Verdict::Undecided),
        ] {
            assert_eq!(verdict(differences), expected, "{differences:?}");
        }
    }
}
