//! Optimizers, in chunks.

use std::vec::Vec;

use super::{CHUNK, Cpu, chunk, vectors};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Run,
    host::{one, one_mut},
    network::{AdamW, AdamWStep, Sgd, SgdStep, SquareNorm},
};

impl Run<SquareNorm<'_, '_, HostSpace>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, SquareNorm<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SquareNorm { gradient, to } = operation.into_inner();
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
}

impl Run<SgdStep<'_, '_, HostSpace>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, SgdStep<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SgdStep { sgd, gradient, square_norm, weight, momentum, .. } = operation.into_inner();
        let clip = sgd.clip(*one("the square of a norm", square_norm)?);
        let sgd = &*sgd;
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
}

impl Run<AdamWStep<'_, '_, HostSpace>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, AdamWStep<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let AdamWStep { adamw, gradient, square_norm, update, weight, moments, .. } =
            operation.into_inner();
        let adamw = &*adamw;
        let clip = adamw.clip(*one("the square of a norm", square_norm)?);
        let corrections = adamw.corrections(*one("the number of the update", update)?);
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
