//! Optimizers, element by element.

use crate::{
    host::{HostError, one, one_mut},
    network::{AdamWStep, SgdStep, SquareNorm},
    portable::Portable,
    run::{Fitting, Run},
    space::HostSpace,
};

impl Run<SquareNorm<'_, '_, HostSpace>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, SquareNorm<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SquareNorm { gradient, to } = operation.into_inner();
        let to = one_mut("the square of a norm", to)?;
        *to += gradient.iter().map(|&x| f64::from(x)).fold(0.0, |sum, x| sum + x * x);
        Ok(())
    }
}

impl Run<SgdStep<'_, '_, HostSpace>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, SgdStep<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SgdStep { sgd, gradient, square_norm, weight, momentum, .. } = operation.into_inner();
        let clip = sgd.clip(*one("the square of a norm", square_norm)?);
        for ((w, m), gradient) in weight.iter_mut().zip(momentum.iter_mut()).zip(*gradient) {
            let g = clip * gradient + sgd.weight_decay * *w;
            *m = sgd.momentum * *m + g;
            *w -= sgd.learning_rate * *m;
        }
        Ok(())
    }
}

impl Run<AdamWStep<'_, '_, HostSpace>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, AdamWStep<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let AdamWStep { adamw, gradient, square_norm, update, weight, moments, .. } =
            operation.into_inner();
        let clip = adamw.clip(*one("the square of a norm", square_norm)?);
        let (corrections, [beta, gamma]) =
            (adamw.corrections(*one("the number of the update", update)?), adamw.betas);
        let decay = 1.0 - adamw.learning_rate * adamw.weight_decay;
        let (first, second) = moments.split_at_mut(weight.len());
        let moments = first.iter_mut().zip(second);
        for ((w, (m, v)), gradient) in weight.iter_mut().zip(moments).zip(*gradient) {
            let g = clip * gradient;
            *m = beta * *m + (1.0 - beta) * g;
            *v = gamma * *v + (1.0 - gamma) * (g * g);
            let root = libm::sqrtf(*v / corrections[1]);
            *w = decay * *w - adamw.learning_rate * (*m / corrections[0]) / (root + adamw.epsilon);
        }
        Ok(())
    }
}
