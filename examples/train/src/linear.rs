//! A linear layer in mixed precision: f32 masters, low-precision operands, f32 sums.

use adaloss_core::{
    apply::Apply,
    format::{Element, Format, Narrowing, Noise},
    policy::{Cell, Operands},
    propagate::Scaled,
    scale::{Scale, Shift},
    statistics::{Outcome, Statistics},
    unscale::Unscaled,
};
use adaloss_hal::{Epilogue, Matmul, Plain, Product, portable::Portable};
use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use serde::{Deserialize, Serialize};

/// What the optimizer keeps of a layer, in f32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Shape (outputs, inputs).
    pub weight: Vec<f32>,
    /// One per output.
    pub bias: Vec<f32>,
    weight_momentum: Vec<f32>,
    bias_momentum: Vec<f32>,
}

/// A linear layer `y = W x + b` with weights narrowed to `W`.
#[derive(Clone, Debug)]
pub struct Linear<W> {
    /// The master parameters.
    pub parameters: Parameters,
    inputs: usize,
    outputs: usize,
    narrow: Vec<W>,
    weight_gradient: Vec<f32>,
    bias_gradient: Vec<f32>,
}

/// How weights are updated.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Step size.
    pub learning_rate: f32,
    /// Share of the last update that is repeated.
    pub momentum: f32,
    /// Decay of weights, not of biases.
    pub weight_decay: f32,
}

impl<W: Element + Plain> Linear<W> {
    /// Makes a layer with weights drawn as He et al. (2015) do, or all zero without a generator.
    pub fn new(inputs: usize, outputs: usize, generator: Option<&mut ChaCha8Rng>) -> Result<Self> {
        let weight = match generator {
            Some(generator) => {
                let normal = Normal::new(0.0, (2.0 / inputs as f32).sqrt())?;
                normal.sample_iter(generator).take(inputs * outputs).collect()
            }
            None => vec![0.0; inputs * outputs],
        };
        Ok(Self {
            parameters: Parameters {
                weight,
                bias: vec![0.0; outputs],
                weight_momentum: vec![0.0; inputs * outputs],
                bias_momentum: vec![0.0; outputs],
            },
            inputs,
            outputs,
            narrow: vec![W::from_bits(0); inputs * outputs],
            weight_gradient: vec![0.0; inputs * outputs],
            bias_gradient: vec![0.0; outputs],
        })
    }

    /// Narrows the master weights for the coming step.
    pub fn refresh(&mut self, narrowing: Narrowing) -> Result<()> {
        let mut outcome = Outcome::EMPTY;
        unscaled(narrowing).slice(&self.parameters.weight, &mut self.narrow, 0, &mut outcome)?;
        Ok(())
    }

    /// Returns the f32 outputs, shape (batch, outputs), of inputs of shape (batch, inputs).
    pub fn forward(&self, input: &[W]) -> Result<Vec<f32>> {
        let batch = input.len() / self.inputs;
        let mut output = vec![0.0; batch * self.outputs];
        let product = Product::new(batch, self.inputs, self.outputs).transpose_b();
        let one = [Cell::at(Scale::ONE)];
        let mut outcome = [Outcome::EMPTY];
        let epilogue = to_f32(&one, &one, &mut outcome);
        Portable.matmul(product, input, &self.narrow[..], &mut output[..], epilogue)?;
        for row in output.chunks_exact_mut(self.outputs) {
            row.iter_mut().zip(&self.parameters.bias).for_each(|(y, bias)| *y += bias);
        }
        Ok(output)
    }

    /// Computes the weight and bias gradients from the gradient of the outputs, in f32 and
    /// unscaled.
    pub fn weight_gradient<G: Element + Plain>(
        &mut self,
        gradient: &Scaled<Vec<G>>,
        input: &[W],
    ) -> Result<Unscaled> {
        let from = [Cell::at(gradient.scale())];
        let to = [Cell::at(Scale::ONE)];
        let mut outcome = [Outcome::EMPTY];
        gradient.unscale(|gradient, inverse| {
            let batch = gradient.len() / self.outputs;
            let product = Product::new(self.outputs, batch, self.inputs).transpose_a();
            let epilogue = to_f32(&from, &to, &mut outcome);
            let weight_gradient = &mut self.weight_gradient[..];
            Portable.matmul(product, &gradient[..], input, weight_gradient, epilogue)?;
            self.bias_gradient.fill(0.0);
            for row in gradient.chunks_exact(self.outputs) {
                let row = row.iter().map(|g| g.widen());
                self.bias_gradient.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
            }
            self.bias_gradient.iter_mut().for_each(|sum| *sum *= inverse);
            anyhow::Ok(())
        })?;
        let [outcome] = outcome;
        let mut met = Unscaled {
            elements: outcome.elements,
            nonfinite: outcome.nonfinite + outcome.overflow,
            tiny: outcome.underflow + outcome.subnormal,
        };
        self.bias_gradient.iter().for_each(|&g| met.record(g, g));
        Ok(met)
    }

    /// Computes the gradient of the inputs, shape (batch, inputs), as an epilogue asks.
    pub fn input_gradient<G: Element + Plain>(
        &self,
        gradient: &[G],
        epilogue: Epilogue<'_, Portable>,
    ) -> Result<Vec<G>> {
        let batch = gradient.len() / self.outputs;
        let mut result = vec![G::from_bits(0); batch * self.inputs];
        let product = Product::new(batch, self.outputs, self.inputs);
        Portable.matmul(product, gradient, &self.narrow[..], &mut result[..], epilogue)?;
        Ok(result)
    }

    /// Describes the product of the input gradient for policies that decide from operands.
    pub fn operands<G: Element>(&self, gradient: &[G]) -> Operands {
        Operands::Product {
            gradient: Statistics::of(gradient),
            weight: Statistics::of(&self.narrow),
            fan_in: self.outputs as u32,
        }
    }

    /// Updates the master parameters from the last gradients.
    pub fn update(&mut self, sgd: Sgd) {
        let parameters = &mut self.parameters;
        let step = |value: &mut f32, momentum: &mut f32, gradient: f32| {
            *momentum = sgd.momentum * *momentum + gradient;
            *value -= sgd.learning_rate * *momentum;
        };
        let weights = parameters.weight.iter_mut().zip(&mut parameters.weight_momentum);
        for ((value, momentum), gradient) in weights.zip(&self.weight_gradient) {
            step(value, momentum, gradient + sgd.weight_decay * *value);
        }
        let biases = parameters.bias.iter_mut().zip(&mut parameters.bias_momentum);
        for ((value, momentum), gradient) in biases.zip(&self.bias_gradient) {
            step(value, momentum, *gradient);
        }
    }
}

/// Returns how values that carry no scale are narrowed.
pub fn unscaled(narrowing: Narrowing) -> Apply {
    Apply { narrowing, shift: Shift::NONE, noise: Noise::default() }
}

/// Returns the epilogue that keeps f32 results and takes their scale out.
fn to_f32<'a>(
    from: &'a [Cell],
    to: &'a [Cell],
    outcome: &'a mut [Outcome],
) -> Epilogue<'a, Portable> {
    Epilogue {
        from,
        to,
        narrowing: Narrowing::to(Format::BINARY32),
        noise: Noise::default(),
        stores: true,
        outcome,
        histogram: None,
    }
}
