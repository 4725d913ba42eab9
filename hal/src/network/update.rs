//! Optimizers, on f32 masters and unscaled gradients.

use crate::{Device, Mut, Ref};

/// Stochastic gradient descent with momentum, as PyTorch has it: `m = momentum m + g`, with
/// `g = gradient + weight_decay w`; then `w = w - learning_rate m`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Step size.
    pub learning_rate: f32,
    /// Share of the last update that is repeated.
    pub momentum: f32,
    /// Decay of weights.
    pub weight_decay: f32,
    /// The greatest norm of all gradients together, if it is clipped.
    pub max_norm: Option<f32>,
}

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Step size.
    pub learning_rate: f32,
    /// Decay rates of the two moments.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decay of weights, in units of the step size.
    pub weight_decay: f32,
    /// The number of this update, from 1: it corrects the bias of the moments.
    pub step: u32,
    /// The greatest norm of all gradients together, if it is clipped.
    pub max_norm: Option<f32>,
}

impl Sgd {
    /// Returns the factor of gradients whose squares add up to `square_norm`.
    pub fn clip(&self, square_norm: f64) -> f32 {
        clip(self.max_norm, square_norm)
    }
}

impl AdamW {
    /// Returns the factor of gradients whose squares add up to `square_norm`.
    pub fn clip(&self, square_norm: f64) -> f32 {
        clip(self.max_norm, square_norm)
    }

    /// Returns what the two moments are divided by: `1 - beta^step`, computed in f64, since an f32
    /// loses three digits of it in the first steps.
    pub fn corrections(&self) -> [f32; 2] {
        self.betas.map(|beta| (1.0 - libm::pow(f64::from(beta), f64::from(self.step))) as f32)
    }
}

/// Returns the factor that brings a norm down to the greatest: 1 where it is not above it or NaN.
fn clip(max_norm: Option<f32>, square_norm: f64) -> f32 {
    let norm = libm::sqrt(square_norm);
    match max_norm.map(f64::from) {
        Some(max_norm) if norm > max_norm => (max_norm / (norm + 1.0e-6)) as f32,
        _ => 1.0,
    }
}

/// A device that updates f32 masters.
///
/// Elements are computed in f32.
///
/// `norm` is what [`square_norm`](Self::square_norm) added up over all gradients of the step (one
/// element).  Where its root is above `max_norm`, gradients are multiplied by
/// `max_norm / (root + 1e-6)` first, as PyTorch's `clip_grad_norm_` does.
pub trait Update: Device {
    /// Adds the sum of the squares of a gradient to `to` (one element), in f64.
    ///
    /// # Errors
    ///
    /// `to` is not one element.
    fn square_norm(
        &mut self,
        gradient: Ref<'_, Self, f32>,
        to: Mut<'_, Self, f64>,
    ) -> Result<(), Self::Error>;

    /// Updates a weight and its momentum.
    ///
    /// # Errors
    ///
    /// The lengths differ, or `norm` is not one element.
    fn sgd(
        &mut self,
        sgd: &Sgd,
        gradient: Ref<'_, Self, f32>,
        norm: Ref<'_, Self, f64>,
        weight: Mut<'_, Self, f32>,
        momentum: Mut<'_, Self, f32>,
    ) -> Result<(), Self::Error>;

    /// Updates a weight and its two moments: of a weight of `n` elements, `n` first ones and then
    /// `n` second ones.
    ///
    /// # Errors
    ///
    /// The lengths do not match, or `norm` is not one element.
    fn adamw(
        &mut self,
        adamw: &AdamW,
        gradient: Ref<'_, Self, f32>,
        norm: Ref<'_, Self, f64>,
        weight: Mut<'_, Self, f32>,
        moments: Mut<'_, Self, f32>,
    ) -> Result<(), Self::Error>;
}
