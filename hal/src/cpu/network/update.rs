//! Optimizers, in chunks.

use std::vec::Vec;

use super::{CHUNK, Cpu, chunk, vectors};
use crate::{
    network::{AdamW, Sgd, Update},
    portable::{PortableError, one, one_mut, same_length},
};

impl Update for Cpu {
    fn square_norm(&mut self, gradient: &[f32], to: &mut [f64]) -> Result<(), PortableError> {
        let to = one_mut("the square of a norm", to)?;
        let parts = self.map(gradient.len().div_ceil(CHUNK), |nth| {
            let gradient = &gradient[chunk(nth, CHUNK, gradient.len())];
            vectors(
                #[inline(always)]
                || squares(gradient),
            )
        });
        *to += parts.iter().fold(0.0, |sum, part| sum + part);
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
        let state = weight.chunks_mut(CHUNK).zip(momentum.chunks_mut(CHUNK));
        let parts: Vec<_> = state.zip(gradient.chunks(CHUNK)).collect();
        self.each(parts, |_, ((weight, momentum), gradient)| {
            vectors(
                #[inline(always)]
                || step_sgd(sgd, clip, gradient, weight, momentum),
            );
        });
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
        let corrections = adamw.corrections();
        let (first, second) = moments.split_at_mut(weight.len());
        let moments = first.chunks_mut(CHUNK).zip(second.chunks_mut(CHUNK));
        let state = weight.chunks_mut(CHUNK).zip(moments);
        let parts: Vec<_> = state.zip(gradient.chunks(CHUNK)).collect();
        self.each(parts, |_, ((weight, (first, second)), gradient)| {
            vectors(
                #[inline(always)]
                || step_adamw(adamw, corrections, clip, gradient, weight, [first, second]),
            );
        });
        Ok(())
    }
}

/// Returns the sum of squares, in f64 and sixteen lanes.
#[inline(always)]
fn squares(gradient: &[f32]) -> f64 {
    let mut sums = [0.0; 16];
    let (blocks, rest) = gradient.as_chunks::<16>();
    for block in blocks {
        add_squares(block, &mut sums);
    }
    add_squares(rest, &mut sums);
    sums.into_iter().fold(0.0, |sum, lane| sum + lane)
}

#[inline(always)]
fn add_squares(gradient: &[f32], sums: &mut [f64; 16]) {
    for (sum, &x) in sums.iter_mut().zip(gradient) {
        let x = f64::from(x);
        *sum += x * x;
    }
}

#[inline(always)]
fn step_sgd(sgd: &Sgd, clip: f32, gradient: &[f32], weight: &mut [f32], momentum: &mut [f32]) {
    let Sgd { learning_rate, momentum: share, weight_decay, .. } = *sgd;
    for ((w, m), gradient) in weight.iter_mut().zip(momentum).zip(gradient) {
        let g = clip * gradient + weight_decay * *w;
        *m = share * *m + g;
        *w -= learning_rate * *m;
    }
}

#[inline(always)]
fn step_adamw(
    adamw: &AdamW,
    corrections: [f32; 2],
    clip: f32,
    gradient: &[f32],
    weight: &mut [f32],
    [first, second]: [&mut [f32]; 2],
) {
    let AdamW { learning_rate, betas: [beta, gamma], epsilon, weight_decay, .. } = *adamw;
    let decay = 1.0 - learning_rate * weight_decay;
    let moments = first.iter_mut().zip(second);
    for ((w, (m, v)), gradient) in weight.iter_mut().zip(moments).zip(gradient) {
        let g = clip * gradient;
        *m = beta * *m + (1.0 - beta) * g;
        *v = gamma * *v + (1.0 - gamma) * (g * g);
        let root = (*v / corrections[1]).sqrt();
        *w = decay * *w - learning_rate * (*m / corrections[0]) / (root + epsilon);
    }
}
