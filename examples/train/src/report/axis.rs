//! Where values lie in a picture, and where its ticks are.

use plotters::coord::{
    combinators::{IntoLogRange, LogCoord},
    ranged1d::Ranged,
    types::RangedCoordf64,
};

use super::group::extremes;

/// Steps of a unit of length to which positions are rounded.
const STEPS: f64 = 10.0;

/// The greatest magnitude of an axis, and one over the least of a logarithmic one, so that the ratio of its ends is a number:
/// else `plotters` searches for ticks without end.
const FARTHEST: f64 = 1.0e150;

/// A range of values, linear or logarithmic.
pub(super) struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
}

enum Scale {
    Linear(RangedCoordf64),
    Logarithmic(LogCoord<f64>),
}

impl Axis {
    /// Makes a linear axis of the finite values, a little wider than they are.
    pub(super) fn around(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = extremes(values).unwrap_or((0.0, 1.0));
        let margin = if high > low { 0.04 * (high - low) } else { high.abs().max(1.0) * 0.02 };
        Self::between(low - margin, high + margin)
    }

    /// Makes a linear axis; the range must not be empty.
    pub(super) fn between(low: f64, high: f64) -> Self {
        let (low, high) = (low.clamp(-FARTHEST, FARTHEST), high.clamp(-FARTHEST, FARTHEST));
        Self { low, high, scale: Scale::Linear((low..high).into()) }
    }

    /// Makes a logarithmic axis of the positive finite values.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = extremes(values.filter(|&value| value > 0.0)).unwrap_or((0.1, 1.0));
        Self::decades(low / 1.1, high * 1.1)
    }

    /// Makes a logarithmic axis; both ends must be positive, and differ.
    pub(super) fn decades(low: f64, high: f64) -> Self {
        let (low, high) =
            (low.clamp(1.0 / FARTHEST, 0.5 * FARTHEST), high.clamp(2.0 / FARTHEST, FARTHEST));
        Self { low, high, scale: Scale::Logarithmic((low..high).log_scale().into()) }
    }

    /// Returns whether a value lies below this axis.
    pub(super) fn is_below(&self, value: f64) -> bool {
        value < self.low
    }

    /// Returns whether this axis goes up to a value.
    pub(super) fn reaches_above(&self, value: f64) -> bool {
        value <= self.high
    }

    /// Returns whether this axis goes on below a value.
    pub(super) fn reaches_below(&self, value: f64) -> bool {
        self.low < value
    }

    /// Returns where a value lies between two coordinates; values beyond an end lie at it.
    pub(super) fn at(&self, value: f64, from: f64, to: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let limit = ((from * STEPS).round() as i32, (to * STEPS).round() as i32);
        let position = match &self.scale {
            Scale::Linear(linear) => linear.map(&value, limit),
            Scale::Logarithmic(logarithmic) => logarithmic.map(&value, limit),
        };
        f64::from(position) / STEPS
    }

    /// Returns values for about that many ticks, at least two where the axis has any.
    pub(super) fn ticks(&self, most: usize) -> Vec<f64> {
        match &self.scale {
            Scale::Linear(linear) => linear.key_points(most.max(2)),
            Scale::Logarithmic(logarithmic) => {
                let ticks = logarithmic.key_points(most.max(2));
                if ticks.len() > 1 {
                    return ticks;
                }
                // Less than a decade: even steps are readable there.
                RangedCoordf64::from(self.low..self.high).key_points(most.max(2))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_the_end_of_what_there_is_have_an_axis() {
        for values in [
            [1.0e-308, 2.0e-308],
            [5.0e-324, 1.0],
            [1.0e-308, 1.0e308],
            [1.0, f64::MAX],
            [-f64::MAX, f64::MAX],
            [1e307, 1e308],
        ] {
            for axis in [Axis::around(values.into_iter()), Axis::logarithmic(values.into_iter())] {
                assert!(axis.ticks(6).len() < 1000, "{values:?}");
                assert!(
                    values.iter().all(|&value| (0.0..=100.0).contains(&axis.at(value, 0.0, 100.0)))
                );
            }
        }
    }

    #[test]
    fn values_lie_in_order_and_within_their_axis() {
        let linear = Axis::around([0.0, 10.0, f64::NAN].into_iter());
        let logarithmic = Axis::logarithmic([0.0, 1e-6, 1.0].into_iter());
        for axis in [linear, logarithmic] {
            let places = [-1.0, 1e-6, 1e-3, 1.0, 100.0].map(|value| axis.at(value, 10.0, 200.0));
            assert!(places.is_sorted(), "{places:?}");
            assert!(places[0] >= 10.0 && places[4] <= 200.0, "{places:?}");
            let ticks = axis.ticks(5);
            assert!((2..=8).contains(&ticks.len()), "{ticks:?}");
        }
        assert!((0.5..1.0).contains(&Axis::around([0.7].into_iter()).ticks(4)[0]));
        assert!(!Axis::logarithmic(std::iter::empty()).ticks(4).is_empty());
        assert!(Axis::logarithmic([0.3, 0.5].into_iter()).ticks(4).len() > 1);
    }
}
