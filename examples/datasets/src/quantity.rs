//! How well predictions of a quantity agree with their targets.

use serde::{Deserialize, Serialize};

/// Collects predictions of a quantity and the true ones, batch by batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantities {
    pairs: Vec<[f64; 2]>,
}

impl Quantities {
    /// Adds a batch.
    ///
    /// # Panics
    ///
    /// If there are not as many predictions as targets.
    pub fn add(&mut self, predicted: &[f32], target: &[f32]) {
        assert_eq!(predicted.len(), target.len(), "one prediction per target");
        let pairs = predicted.iter().zip(target).map(|(&p, &t)| [p, t].map(f64::from));
        self.pairs.extend(pairs);
    }

    /// Returns all pairs as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.pairs.as_flattened().iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// Takes pairs back that are one behind the other.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let (numbers, _) = bytes.as_chunks();
        let numbers: Vec<f64> = numbers.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
        Self { pairs: numbers.as_chunks().0.to_vec() }
    }

    /// Judges all predictions; there is nothing to say of none.
    pub fn report(&self) -> Option<QuantityReport> {
        let count = self.pairs.len() as f64;
        let mean = |of: &dyn Fn(&[f64; 2]) -> f64| self.pairs.iter().map(of).sum::<f64>() / count;
        let target = mean(&|&[_, t]| t);
        let variance = mean(&|&[_, t]| (t - target) * (t - target));
        let error = mean(&|&[p, t]| (p - t) * (p - t));
        let difference = mean(&|&[p, t]| p - t);
        let is_positive = self.pairs.iter().all(|&[_, t]| t > 0.0);
        let (unit, relative_to) = match is_positive {
            true => (target, QuantityReport::MEAN),
            false => (variance.sqrt(), QuantityReport::DEVIATION),
        };
        let finite = |x: f64| Some(x).filter(|x| x.is_finite());
        (!self.pairs.is_empty()).then(|| QuantityReport {
            explained_variance: finite(1.0 - error / variance).filter(|_| variance > 0.0),
            bias: finite(difference / unit).filter(|_| unit > 0.0),
            relative_to: relative_to.into(),
        })
    }
}

/// How well a quantity is predicted on the test samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuantityReport {
    /// 1 minus the sum of the squared errors over that of the squared deviations of the true quantities from their mean:
    /// 1 is perfect, 0 no better than their mean, less is worse. None where a prediction is not finite, or the true
    /// quantities are all the same.
    pub explained_variance: Option<f64>,
    /// The mean prediction minus the mean of the true quantities, over what `relative_to` names: −0.1 of the mean is
    /// a tenth too little. None where a prediction is not finite, or what it is relative to is zero.
    pub bias: Option<f64>,
    /// [`MEAN`](Self::MEAN) of the true quantities where all of them are positive; else their
    /// [`DEVIATION`](Self::DEVIATION), since a mean may be near zero. Empty where the network is lost.
    pub relative_to: String,
}

impl QuantityReport {
    /// What a bias is relative to where all quantities are positive.
    pub const MEAN: &'static str = "mean";
    /// What a bias is relative to otherwise.
    pub const DEVIATION: &'static str = "standard deviation";

    /// Returns the explained variance as a metric, from 0 to 1: what is no better than the mean counts as 0, as does
    /// what is not defined.
    pub fn metric(&self) -> f64 {
        self.explained_variance.unwrap_or(0.0).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(predicted: &[f32], target: &[f32]) -> QuantityReport {
        let mut quantities = Quantities::default();
        quantities.add(predicted, target);
        quantities.report().unwrap()
    }

    #[test]
    fn figures_are_those_computed_by_hand() {
        // Mean 3, squared deviations 4 + 1 + 9; errors 1, 0 and 1.
        let found = report(&[2.0, 2.0, 7.0], &[1.0, 2.0, 6.0]);
        assert!((found.explained_variance.unwrap() - (1.0 - 2.0 / 14.0)).abs() < 1e-15);
        assert!((found.bias.unwrap() - 2.0 / 9.0).abs() < 1e-15);
        assert_eq!(found.relative_to, "mean");
        // A mean of zero is nothing to compare with: the deviation is 1.
        let found = report(&[-1.0, 1.5], &[-1.0, 1.0]);
        assert_eq!(found.explained_variance, Some(1.0 - 0.25 / 2.0));
        assert_eq!((found.bias, &found.relative_to[..]), (Some(0.25), "standard deviation"));
    }

    #[test]
    fn the_mean_explains_nothing_and_is_not_biased() {
        let found = report(&[3.0; 3], &[1.0, 2.0, 6.0]);
        assert_eq!((found.explained_variance, found.bias), (Some(0.0), Some(0.0)));
        assert_eq!(report(&[0.0; 3], &[1.0, 2.0, 6.0]).bias, Some(-1.0));
    }

    #[test]
    fn batches_add_up() {
        let mut parts = Quantities::default();
        parts.add(&[2.0], &[1.0]);
        parts.add(&[2.0, 7.0], &[2.0, 6.0]);
        parts.add(&[], &[]);
        assert_eq!(parts.report(), Some(report(&[2.0, 2.0, 7.0], &[1.0, 2.0, 6.0])));
        assert_eq!(Quantities::default().report(), None);
    }

    #[test]
    fn what_is_not_defined_is_not_said() {
        for wrong in [f32::NAN, f32::INFINITY] {
            let found = report(&[1.0, wrong], &[1.0, 2.0]);
            assert_eq!((found.explained_variance, found.bias), (None, None));
        }
        // No variance to explain; the mean is there all the same.
        let found = report(&[3.0, 3.0], &[2.0, 2.0]);
        assert_eq!((found.explained_variance, found.bias), (None, Some(0.5)));
        let found = report(&[3.0, 3.0], &[0.0, 0.0]);
        assert_eq!((found.explained_variance, found.bias), (None, None));
    }
}
