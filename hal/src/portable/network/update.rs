//! Optimizers, element by element.

use crate::{
    network::{AdamW, Sgd, Update},
    portable::{Portable, PortableError, one, one_mut, same_length},
};

impl Update for Portable {
    fn square_norm(&mut self, gradient: &[f32], to: &mut [f64]) -> Result<(), PortableError> {
        let to = one_mut("the square of a norm", to)?;
        *to += gradient.iter().map(|&x| f64::from(x)).fold(0.0, |sum, x| sum + x * x);
        Ok(())
    }

    fn sgd(
        &mut self,
        sgd: &Sgd,
        gradient: &[f32],
        norm: &[f64],
        weight: &mut [f32],
        momentum: &mut [f32],
    ) -> Result<(), PortableError> {
        same_length("the gradient of a weight", weight.len(), gradient.len())?;
        same_length("the momentum of a weight", weight.len(), momentum.len())?;
        let clip = sgd.clip(*one("the square of a norm", norm)?);
        for ((w, m), gradient) in weight.iter_mut().zip(momentum).zip(gradient) {
            let g = clip * gradient + sgd.weight_decay * *w;
            *m = sgd.momentum * *m + g;
            *w -= sgd.learning_rate * *m;
        }
        Ok(())
    }

    fn adamw(
        &mut self,
        adamw: &AdamW,
        gradient: &[f32],
        norm: &[f64],
        weight: &mut [f32],
        moments: &mut [f32],
    ) -> Result<(), PortableError> {
        same_length("the gradient of a weight", weight.len(), gradient.len())?;
        same_length("the moments of a weight", weight.len().saturating_mul(2), moments.len())?;
        let clip = adamw.clip(*one("the square of a norm", norm)?);
        let (corrections, [beta, gamma]) = (adamw.corrections(), adamw.betas);
        let decay = 1.0 - adamw.learning_rate * adamw.weight_decay;
        let (first, second) = moments.split_at_mut(weight.len());
        let moments = first.iter_mut().zip(second);
        for ((w, (m, v)), gradient) in weight.iter_mut().zip(moments).zip(gradient) {
            let g = clip * gradient;
            *m = beta * *m + (1.0 - beta) * g;
            *v = gamma * *v + (1.0 - gamma) * (g * g);
            let root = libm::sqrtf(*v / corrections[1]);
            *w = decay * *w - adamw.learning_rate * (*m / corrections[0]) / (root + adamw.epsilon);
        }
        Ok(())
    }
}
