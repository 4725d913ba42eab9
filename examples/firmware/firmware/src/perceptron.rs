//! A perceptron without a heap, trained with gradients in `F`.

use core::{fmt, slice};

use adaloss_core::{
    format::{Element, Narrowing, Noise},
    policy::Cell,
    propagate::Scaled,
    scale::Scale,
    scaler::{State, Step, StepError},
    statistics::Outcome,
    unscale::{Unscaled, Verdict},
};
use adaloss_hal::{
    Epilogue, HostEpilogue, HostError, HostSpace, Matmul, Narrow, Plain, Product, Run,
    network::{LossSum, Relu, ReluInput, Sgd, SgdStep, SoftmaxCrossEntropy},
    portable::Portable,
};

use crate::layers::{BATCH, GRADIENT, LAYERS, WIDTHS, first_input, first_weight};

/// Weights of all layers, each of shape (outputs, inputs).
pub(crate) const WEIGHTS: usize = first_weight(LAYERS);
/// Logits of a batch.
const LOGITS: usize = BATCH * WIDTHS[LAYERS];

/// Five linear layers without bias, their activations and their gradients.
#[derive(Clone, Debug)]
pub struct Perceptron<F> {
    /// In f32: the masters, what the optimizer remembers, and the unscaled gradients.
    masters: [f32; WEIGHTS],
    momenta: [f32; WEIGHTS],
    gradients: [f32; WEIGHTS],
    /// The weights in low precision, and the input of every layer.
    weights: [F; WEIGHTS],
    inputs: [F; first_input(LAYERS)],
    logits: [f32; LOGITS],
    loss_gradient: [f32; LOGITS],
    /// The gradient that arrives and the one that leaves, in turn.
    passed: [[F; GRADIENT]; 2],
}

/// What ends a step of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrainError {
    /// The device refused an operation.
    Device(HostError),
    /// The scaler refused a visit.
    Step(StepError),
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::Step(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for TrainError {}

impl From<HostError> for TrainError {
    fn from(error: HostError) -> Self {
        Self::Device(error)
    }
}

impl From<StepError> for TrainError {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

/// The gradients of a step as they leave a layer, with the weight they were multiplied with.
pub trait Gradients<F> {
    /// Is told a gradient; of the loss there is no weight.
    fn see(&mut self, weight: &[f32], gradient: &[F]);
}

impl<F> Gradients<F> for () {
    fn see(&mut self, _: &[f32], _: &[F]) {}
}

impl<F: Element + Plain> Perceptron<F> {
    /// Makes a perceptron with random weights, the same on every machine.
    pub fn new() -> Self {
        let mut masters = [0.0; WEIGHTS];
        let noise = Noise { seed: 20191024, stream: 0 };
        for (layer, &inputs) in WIDTHS[..LAYERS].iter().enumerate() {
            // As large as keeps the variance through a rectifier (He et al. 2015).
            let bound = libm::sqrtf(6.0 / inputs as f32);
            let weights = first_weight(layer)..first_weight(layer + 1);
            for (place, weight) in weights.clone().zip(&mut masters[weights]) {
                // 24 random bits, from -1 to 1.
                let word = noise.word(place as u32) >> 8;
                *weight = bound * (word as f32 / 8_388_608.0 - 1.0);
            }
        }
        let zero = F::from_bits(0);
        Self {
            masters,
            momenta: [0.0; WEIGHTS],
            gradients: [0.0; WEIGHTS],
            weights: [zero; WEIGHTS],
            inputs: [zero; first_input(LAYERS)],
            logits: [0.0; LOGITS],
            loss_gradient: [0.0; LOGITS],
            passed: [[zero; GRADIENT]; 2],
        }
    }

    /// Returns the f32 masters of all weights.
    pub const fn masters(&self) -> &[f32] {
        &self.masters
    }

    /// Returns what the loss of a batch adds up to.
    ///
    /// # Errors
    ///
    /// None on the portable device.
    pub fn judge(
        &mut self,
        pixels: &[f32],
        labels: &[u32],
        sum: &mut LossSum,
    ) -> Result<(), HostError> {
        narrow(&self.masters, &mut self.weights)?;
        narrow(pixels, &mut self.inputs[..BATCH * WIDTHS[0]])?;
        for layer in 0..LAYERS {
            let [inputs, outputs] = [WIDTHS[layer], WIDTHS[layer + 1]];
            let product = Product::new(BATCH, inputs, outputs).transpose_b();
            let weight = &self.weights[first_weight(layer)..first_weight(layer + 1)];
            let (before, after) = self.inputs.split_at_mut(first_input(layer + 1));
            let input = &before[first_input(layer)..];
            let mut outcome = Outcome::EMPTY;
            if layer + 1 == LAYERS {
                let ends = Ends::at(Scale::ONE);
                Portable.run(Matmul {
                    product,
                    a: input,
                    b: weight,
                    bias: None, to: &mut self.logits[..],
                    epilogue: ends.epilogue::<f32>(&mut outcome),
                })?;
            } else {
                let output = &mut after[..BATCH * outputs];
                let ends = Ends::at(Scale::ONE);
                Portable.run(Matmul {
                    product,
                    a: input,
                    b: weight,
                    bias: None, to: &mut *output,
                    epilogue: ends.epilogue::<F>(&mut outcome),
                })?;
                Portable.run(Relu { values: output })?;
            }
        }
        Portable.run(SoftmaxCrossEntropy {
            classes: WIDTHS[LAYERS],
            logits: &self.logits[..],
            labels,
            weights: None,
            gradient: &mut self.loss_gradient[..],
            sum: slice::from_mut(sum),
        })
    }

    /// Trains with one batch; tells `seen` every gradient, in backward order.
    ///
    /// # Errors
    ///
    /// The scaler has too few cells, or the device refused an operation.
    pub fn step(
        &mut self,
        (state, cells): (&mut State, &mut [Cell]),
        (pixels, labels): (&[f32], &[u32]),
        sum: &mut LossSum,
        seen: &mut impl Gradients<F>,
    ) -> Result<Verdict, TrainError> {
        self.judge(pixels, labels, sum)?;
        let mut step = state.begin(cells);
        let Self { loss_gradient, passed, .. } = self;
        let to = &mut passed[0][..LOGITS];
        let mut gradient = step.loss().apply(&loss_gradient[..], to)?.carry(|_| 0);
        seen.see(&[], &self.passed[0][..LOGITS]);
        for layer in (0..LAYERS).rev() {
            self.weight_gradient(layer, &gradient, &mut step)?;
            if layer > 0 {
                gradient = self.input_gradient(layer, &gradient, &mut step, seen)?;
            }
        }
        let verdict = step.finish();
        if verdict == Verdict::Apply {
            let sgd =
                Sgd { learning_rate: 0.003, momentum: 0.9, weight_decay: 0.0, max_norm: None };
            let Self { masters, momenta, gradients, .. } = self;
            Portable.run(SgdStep {
                sgd,
                gradient: &gradients[..],
                square_norm: &[0.0][..],
                weight: &mut masters[..],
                momentum: &mut momenta[..],
                when: None,
            })?;
        }
        Ok(verdict)
    }

    /// Computes the gradient of a weight, unscaled in f32.
    fn weight_gradient(
        &mut self,
        layer: usize,
        gradient: &Scaled<usize>,
        step: &mut Step<'_>,
    ) -> Result<(), HostError> {
        let [inputs, outputs] = [WIDTHS[layer], WIDTHS[layer + 1]];
        let (&passed, scale) = gradient.as_ref().into_parts();
        let mut outcome = Outcome::EMPTY;
        Portable.run(Matmul {
            product: Product::new(outputs, BATCH, inputs).transpose_a(),
            a: &self.passed[passed][..BATCH * outputs],
            b: &self.inputs[first_input(layer)..first_input(layer + 1)],
            bias: None, to: &mut self.gradients[first_weight(layer)..first_weight(layer + 1)],
            epilogue: Ends::at(scale).epilogue::<f32>(&mut outcome),
        })?;
        step.unscale(layer, gradient, |_, _| ((), Unscaled::from_outcome(&outcome)));
        Ok(())
    }

    /// Takes the gradient back through a layer and the rectifier before it.
    fn input_gradient(
        &mut self,
        layer: usize,
        gradient: &Scaled<usize>,
        step: &mut Step<'_>,
        seen: &mut impl Gradients<F>,
    ) -> Result<Scaled<usize>, TrainError> {
        let [inputs, outputs] = [WIDTHS[layer], WIDTHS[layer + 1]];
        let product = Product::new(BATCH, outputs, inputs);
        let weights = first_weight(layer)..first_weight(layer + 1);
        let (weight, [one, two]) = (&self.weights[weights.clone()], &mut self.passed);
        let (&from, _) = gradient.as_ref().into_parts();
        let (arrives, leaves) = if from == 0 { (&*one, two) } else { (&*two, one) };
        let mut visit = step.layer(layer, gradient)?;
        while let Some(mut pass) = visit.next_pass() {
            Portable.run(Matmul {
                product,
                a: &arrives[..BATCH * outputs],
                b: weight,
                bias: None, to: &mut leaves[..BATCH * inputs],
                epilogue: HostEpilogue::new(&mut pass).epilogue(),
            })?;
        }
        let to = 1 - from;
        let next = visit.finish(to)?;
        let gradient = &mut self.passed[to][..BATCH * inputs];
        seen.see(&self.masters[weights], gradient);
        let output = &self.inputs[first_input(layer)..first_input(layer + 1)];
        Portable.run(ReluInput { output, gradient })?;
        Ok(next)
    }
}

impl<F: Element + Plain> Default for Perceptron<F> {
    fn default() -> Self {
        Self::new()
    }
}

/// Narrows unscaled values; what is lost of weights and pixels is not counted.
fn narrow<F: Element + Plain>(values: &[f32], to: &mut [F]) -> Result<(), HostError> {
    let (ends, mut outcome) = (Ends::at(Scale::ONE), Outcome::default());
    Portable.run(Narrow { input: values, to, epilogue: ends.epilogue::<F>(&mut outcome) })
}

/// The cells of results that leave unscaled.
struct Ends([Cell; 2]);

impl Ends {
    fn at(incoming: Scale) -> Self {
        Self([Cell::at(incoming), Cell::at(Scale::ONE)])
    }

    fn epilogue<'a, F: Element>(&'a self, outcome: &'a mut Outcome) -> Epilogue<'a, HostSpace> {
        Epilogue {
            from: &self.0[..1],
            to: &self.0[1..],
            narrowing: Narrowing::to(F::ENCODING.into()),
            noise: Noise::default(),
            stores: true,
            when: None,
            outcome: slice::from_mut(outcome),
            histogram: None,
        }
    }
}
