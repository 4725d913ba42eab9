//! Loss and optimizers, with their mistakes.

use adaloss_hal::{
    Fitting, HostError, HostSpace, Run,
    network::{AdamW, AdamWStep, Sgd, SgdStep, SoftmaxCrossEntropy, SquareNorm},
    portable::Portable,
};

use crate::{device::Mistaken, mistake::Mistake};

impl Run<SoftmaxCrossEntropy<'_, '_, HostSpace>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, SoftmaxCrossEntropy<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SoftmaxCrossEntropy { classes, logits, labels, weights, gradient, sum } =
            operation.into_inner();
        let classes = *classes;
        let (mut logits, mut labels) = (logits.to_vec(), labels.to_vec());
        match self.mistake {
            Mistake::HidesNan => {
                logits.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 0.0);
            }
            Mistake::CountsIgnoredRows => {
                let ignored = labels.iter_mut().filter(|label| **label as usize >= classes);
                ignored.for_each(|label| *label = 0);
            }
            Mistake::ForgetsWeights => *weights = None,
            _ => {}
        }
        let before = sum[0];
        Portable.run(SoftmaxCrossEntropy {
            classes,
            logits: &logits[..],
            labels: &labels[..],
            weights: *weights,
            gradient: &mut **gradient,
            sum: &mut **sum,
        })?;
        let sum = &mut sum[0];
        match self.mistake {
            Mistake::SumsInF32 => sum.loss = f64::from(sum.loss as f32),
            Mistake::DividesByRows => {
                let factor = (sum.weight - before.weight) / labels.len() as f64;
                gradient.iter_mut().for_each(|x| *x *= factor as f32);
            }
            Mistake::CountsTies => {
                let right = labels.iter().zip(logits.chunks(classes)).filter(|(label, row)| {
                    let x = row.get(**label as usize);
                    x.is_some_and(|x| row.iter().all(|other| x >= other))
                });
                sum.correct = before.correct + right.count() as u64;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Mistaken {
    /// Returns gradient and greatest norm as this device sees them.
    fn clipped(
        &self,
        max_norm: Option<f32>,
        gradient: &[f32],
        square_norm: &[f64],
    ) -> (Option<f32>, Vec<f32>) {
        match (self.mistake, max_norm, square_norm) {
            (Mistake::IgnoresClipping, ..) => (None, gradient.to_vec()),
            (Mistake::AlwaysClips, Some(max_norm), [square_norm]) => {
                let factor = (f64::from(max_norm) / (square_norm.sqrt() + 1.0e-6)) as f32;
                (None, gradient.iter().map(|x| x * factor).collect())
            }
            _ => (max_norm, gradient.to_vec()),
        }
    }
}

impl Run<SquareNorm<'_, '_, HostSpace>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, SquareNorm<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SquareNorm { gradient, to } = operation.into_inner();
        if self.makes(Mistake::NormInF32) {
            to[0] += f64::from(gradient.iter().map(|x| x * x).sum::<f32>());
            return Ok(());
        }
        Portable.run(SquareNorm { gradient: *gradient, to: &mut **to })
    }
}

impl Run<SgdStep<'_, '_, HostSpace>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, SgdStep<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SgdStep { sgd, gradient, square_norm, weight, momentum, when } = operation.into_inner();
        let (max_norm, gradient) = self.clipped(sgd.max_norm, gradient, square_norm);
        let sgd = Sgd { max_norm, ..*sgd };
        let (weights, before) = (weight.to_vec(), momentum.to_vec());
        Portable.run(SgdStep {
            sgd,
            gradient: &gradient[..],
            square_norm: *square_norm,
            weight: &mut **weight,
            momentum: &mut **momentum,
            when: *when,
        })?;
        if self.makes(Mistake::OldMomentum) {
            for ((w, old), m) in weight.iter_mut().zip(weights).zip(before) {
                *w = old - sgd.learning_rate * m;
            }
        }
        Ok(())
    }
}

impl Run<AdamWStep<'_, '_, HostSpace>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, AdamWStep<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let AdamWStep { adamw, gradient, square_norm, update, weight, moments, when } =
            operation.into_inner();
        let (max_norm, mut gradient) = self.clipped(adamw.max_norm, gradient, square_norm);
        let (mut adamw, mut update) = (AdamW { max_norm, ..*adamw }, *update);
        match self.mistake {
            Mistake::ForgetsBias => update = &[u32::MAX],
            Mistake::ForgetsEpsilon => adamw.epsilon = 0.0,
            Mistake::CouplesDecay => {
                let pairs = gradient.iter_mut().zip(weight.iter());
                pairs.for_each(|(gradient, w)| *gradient += adamw.weight_decay * w);
                adamw.weight_decay = 0.0;
            }
            _ => {}
        }
        Portable.run(AdamWStep {
            adamw,
            gradient: &gradient[..],
            square_norm: *square_norm,
            update,
            weight: &mut **weight,
            moments: &mut **moments,
            when: *when,
        })
    }
}
