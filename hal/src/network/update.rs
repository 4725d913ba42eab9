//! Optimizers, on f32 masters and unscaled gradients.

use crate::{
    device::Device,
    kind::OperationKind,
    operation::{Operation, Visitor},
    run::{Run, has},
    space::AddressSpace,
};

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

    /// Returns what the two moments are divided by at an update, which is numbered from 1: `1 - beta^update`, computed
    /// in f64, since an f32 loses three digits of it in the first steps.
    pub fn corrections(&self, update: u32) -> [f32; 2] {
        self.betas.map(|beta| (1.0 - libm::pow(f64::from(beta), f64::from(update))) as f32)
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

/// Adds the sum of the squares of a gradient to what is there, in f64.
pub struct SquareNorm<'r, 'w, S: AddressSpace> {
    /// The gradient.
    pub gradient: S::Ref<'r, f32>,
    /// What is added to; one element.
    pub to: S::Mut<'w, f64>,
}

impl<S: AddressSpace> Operation for SquareNorm<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::SquareNorm;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        visitor.input("the gradient", None, &mut self.gradient);
        visitor.readout("the sum of the squares", &mut self.to);
    }
}

/// Updates a weight and its momentum, element by element in f32.
///
/// Where the norm of all gradients together is above `max_norm`, gradients are multiplied by
/// `max_norm / (norm + 1e-6)` first, as PyTorch's `clip_grad_norm_` does.
pub struct SgdStep<'r, 'w, S: AddressSpace> {
    /// The constants.
    pub sgd: Sgd,
    /// The gradient; as many elements as the weight.
    pub gradient: S::Ref<'r, f32>,
    /// What [`SquareNorm`] added up over all gradients of the step; one element.
    pub square_norm: S::Ref<'r, f64>,
    /// The weight.
    pub weight: S::Mut<'w, f32>,
    /// Its momentum; as many elements.
    pub momentum: S::Mut<'w, f32>,
    /// The predicate, if there is one; see [`Epilogue::when`](crate::Epilogue::when).
    pub when: Option<S::Ref<'r, u32>>,
}

impl<S: AddressSpace> Operation for SgdStep<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Sgd;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(S::shared(&self.weight));
        visitor.input("the gradient", Some(elements), &mut self.gradient);
        visitor.input("the sum of the squares", Some(1), &mut self.square_norm);
        visitor.output("the weight", Some(elements), &mut self.weight);
        visitor.output("the momentum", Some(elements), &mut self.momentum);
        visitor.predicate("the predicate", &mut self.when);
    }
}

/// Updates a weight and its two moments, element by element in f32; gradients are clipped as those of [`SgdStep`].
pub struct AdamWStep<'r, 'w, S: AddressSpace> {
    /// The constants.
    pub adamw: AdamW,
    /// The gradient; as many elements as the weight.
    pub gradient: S::Ref<'r, f32>,
    /// What [`SquareNorm`] added up over all gradients of the step; one element.
    pub square_norm: S::Ref<'r, f64>,
    /// The number of this update, from 1, which corrects the bias of the moments; one element.
    pub update: S::Ref<'r, u32>,
    /// The weight.
    pub weight: S::Mut<'w, f32>,
    /// Of a weight of `n` elements, `n` first moments and then `n` second ones.
    pub moments: S::Mut<'w, f32>,
    /// The predicate, if there is one; see [`Epilogue::when`](crate::Epilogue::when).
    pub when: Option<S::Ref<'r, u32>>,
}

impl<S: AddressSpace> Operation for AdamWStep<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::AdamW;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(S::shared(&self.weight));
        visitor.input("the gradient", Some(elements), &mut self.gradient);
        visitor.input("the sum of the squares", Some(1), &mut self.square_norm);
        visitor.output("the weight", Some(elements), &mut self.weight);
        visitor.input("the number of the update", Some(1), &mut self.update);
        visitor.output("the moments", Some(elements.saturating_mul(2)), &mut self.moments);
        visitor.predicate("the predicate", &mut self.when);
    }
}

has! {
    /// A device that updates f32 masters: it has [`SquareNorm`], [`SgdStep`] and [`AdamWStep`].
    pub trait HasUpdate:
        for<'r, 'w> Run<SquareNorm<'r, 'w, <Self as Device>::Space>>
        + for<'r, 'w> Run<SgdStep<'r, 'w, <Self as Device>::Space>>
        + for<'r, 'w> Run<AdamWStep<'r, 'w, <Self as Device>::Space>>
}
