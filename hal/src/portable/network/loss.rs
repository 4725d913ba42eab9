//! Softmax cross entropy, row by row.  Exponentials are added up in f64 and rounded once, so that devices which add up in another
//! order come to the same bits.

use crate::{
    host::{HostError, one_mut},
    network::SoftmaxCrossEntropy,
    portable::Portable,
    run::{Fitting, Run},
    space::HostSpace,
};

impl Run<SoftmaxCrossEntropy<'_, '_, HostSpace>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, SoftmaxCrossEntropy<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SoftmaxCrossEntropy { classes, logits, labels, weights, gradient, sum } =
            operation.into_inner();
        let (classes, logits, labels, weights) =
            (*classes, *logits, *labels, weights.unwrap_or_default());
        let sum = one_mut("the sum of a loss", sum)?;
        let weight_of = |class: usize| weights.get(class).map_or(1.0, |&weight| f64::from(weight));
        let classes_of = || labels.iter().map(|&label| label as usize);
        let total: f64 = classes_of().filter(|&label| label < classes).map(weight_of).sum();
        let rows = logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes));
        for (label, (logits, gradient)) in classes_of().zip(rows) {
            if label >= classes {
                gradient.fill(0.0);
                continue;
            }
            let row = Row::of(logits);
            let weight = weight_of(label);
            sum.loss += weight * f64::from(row.loss(logits[label]));
            sum.weight += weight;
            sum.rows += 1;
            sum.correct += u64::from(row.is_correct(logits, label));
            let share = (weight / total) as f32;
            for (class, (gradient, &x)) in gradient.iter_mut().zip(logits).enumerate() {
                let target = if class == label { 1.0 } else { 0.0 };
                *gradient = share * (row.probability(x) - target);
            }
        }
        Ok(())
    }
}

/// The softmax of a row of logits.
struct Row {
    /// The greatest logit; NaN where one is not finite, so that everything else becomes NaN too.
    max: f32,
    /// The sum of the exponentials of what the logits are below it.
    total: f32,
}

impl Row {
    fn of(logits: &[f32]) -> Self {
        let max = match logits.iter().all(|x| x.is_finite()) {
            true => logits.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            false => f32::NAN,
        };
        let total: f64 = logits.iter().map(|x| f64::from(libm::expf(x - max))).sum();
        Self { max, total: total as f32 }
    }

    fn probability(&self, logit: f32) -> f32 {
        libm::expf(logit - self.max) / self.total
    }

    /// Returns `-ln(probability)` without computing a probability that could be zero.
    fn loss(&self, logit: f32) -> f32 {
        libm::logf(self.total) - (logit - self.max)
    }

    fn is_correct(&self, logits: &[f32], label: usize) -> bool {
        logits[label] == self.max && logits.iter().filter(|&&x| x == self.max).count() == 1
    }
}
