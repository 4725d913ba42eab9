//! Softmax cross entropy, in chunks of rows.

use std::vec::Vec;

use super::{CHUNK, Cpu, chunk, exponential::exp, filled, lanes, vectors};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Run,
    host::one_mut,
    network::{LossSum, SoftmaxCrossEntropy},
};

impl Run<SoftmaxCrossEntropy<'_, '_, HostSpace>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, SoftmaxCrossEntropy<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SoftmaxCrossEntropy { classes, logits, labels, weights, gradient, sum } =
            operation.into_inner();
        let (classes, logits, labels, weights) =
            (*classes, *logits, *labels, weights.unwrap_or_default());
        let sum = one_mut("the sum of a loss", sum)?;
        let weighing = Weighing { classes, weights };
        let total = self.total(weighing, labels);
        let rows = CHUNK.div_ceil(classes);
        let mut sums = filled(labels.len().div_ceil(rows), LossSum::default())?;
        let tensors = logits.chunks(rows * classes).zip(gradient.chunks_mut(rows * classes));
        let parts: Vec<_> = tensors.zip(labels.chunks(rows)).zip(&mut sums).collect();
        self.each(parts, |_, (((logits, gradient), labels), sum)| {
            vectors(
                #[inline(always)]
                || *sum = weighing.rows(total, logits, labels, gradient),
            );
        });
        sums.iter().for_each(|part| add(sum, part));
        Ok(())
    }
}

impl Cpu {
    /// Returns what the weights of all rows add up to.
    fn total(&self, weighing: Weighing<'_>, labels: &[u32]) -> f64 {
        let parts = self.map(labels.len().div_ceil(CHUNK), |nth| {
            let labels = &labels[chunk(nth, CHUNK, labels.len())];
            labels.iter().filter_map(|&label| weighing.of(label)).fold(0.0, |sum, w| sum + w)
        });
        parts.iter().fold(0.0, |sum, part| sum + part)
    }
}

/// Adds the sums of a chunk.
fn add(sum: &mut LossSum, part: &LossSum) {
    sum.loss += part.loss;
    sum.weight += part.weight;
    sum.rows += part.rows;
    sum.correct += part.correct;
}

/// What each class weighs.
#[derive(Clone, Copy)]
struct Weighing<'a> {
    classes: usize,
    /// One per class, or none.
    weights: &'a [f32],
}

impl Weighing<'_> {
    /// Returns the weight of a label, if it is a class.
    fn of(self, label: u32) -> Option<f64> {
        let weight = || self.weights.get(label as usize).map_or(1.0, |&weight| f64::from(weight));
        ((label as usize) < self.classes).then(weight)
    }

    /// Computes the gradient of some rows, given the weight of all; returns what they add up to.
    #[inline(always)]
    fn rows(self, total: f64, logits: &[f32], labels: &[u32], gradient: &mut [f32]) -> LossSum {
        let mut sum = LossSum::default();
        let rows = || logits.chunks_exact(self.classes);
        for (to, logits) in gradient.chunks_exact_mut(self.classes).zip(rows()) {
            let max = greatest(logits);
            for (to, x) in to.iter_mut().zip(logits) {
                *to = x - max;
            }
        }
        for x in gradient.iter_mut() {
            *x = exp(*x);
        }
        let exponentials = gradient.chunks_exact_mut(self.classes);
        for ((&label, logits), exponentials) in labels.iter().zip(rows()).zip(exponentials) {
            match self.of(label) {
                Some(weight) => {
                    let share = (weight / total) as f32;
                    let row = Row { logits, label: label as usize, weight };
                    row.finish(share, exponentials, &mut sum);
                }
                None => exponentials.fill(0.0),
            }
        }
        sum
    }
}

/// A row that counts.
struct Row<'a> {
    logits: &'a [f32],
    label: usize,
    weight: f64,
}

impl Row<'_> {
    /// Turns the exponentials into the gradient, and adds the row to the sum.
    #[inline(always)]
    fn finish(&self, share: f32, exponentials: &mut [f32], sum: &mut LossSum) {
        let total = lanes::sum(exponentials);
        let max = greatest(self.logits);
        let logit = self.logits[self.label];
        // Without a probability, which could be zero.
        sum.loss += self.weight * f64::from(libm::logf(total) - (logit - max));
        sum.weight += self.weight;
        sum.rows += 1;
        let equal = self.logits.iter().filter(|&&x| x == max).count();
        sum.correct += u64::from(logit == max && equal == 1);
        let at_label = share * (exponentials[self.label] / total - 1.0);
        for x in exponentials.iter_mut() {
            *x = share * (*x / total);
        }
        exponentials[self.label] = at_label;
    }
}

/// Returns the greatest logit; NaN where one is not finite, so that everything else becomes NaN too.
#[inline(always)]
fn greatest(logits: &[f32]) -> f32 {
    let is_finite = logits.iter().fold(true, |all, x| all & x.is_finite());
    if is_finite { lanes::max(logits) } else { f32::NAN }
}
