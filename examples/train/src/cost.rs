//! What a network costs, before it is trained: found by running it on a device without elements.

use adaloss_core::{
    format::{Element, Format, Narrowing},
    policy::Config,
};
use adaloss_hal::{Plain, meta::Meta};
use anyhow::Result;

use crate::{
    data::{Input, Inputs},
    layer::{MicroBatch, NoObserver, NoSink, Tensor},
    model::Model,
    network::{Mode, Network, Outputs, Scalers},
    optimizer::{Optimizer, Update},
};

/// What a network costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Values that are learnt.
    pub parameters: u64,
    /// Multiply-adds of one sample forward, as publications count them: those of products, convolutions and attention.
    pub forward: u64,
    /// Multiply-adds of a step, forward and back.
    pub step: u64,
    /// Gradient tensors that have a scale of their own.
    pub cells: usize,
    /// Bytes of weights, their masters and gradients, and what the optimizer keeps.
    pub model_bytes: usize,
    /// The most bytes that exist at a time in a step, those of the model among them: one in which certificates are due, for
    /// which the results of a product are kept in f32.
    pub step_bytes: usize,
}

/// Returns how many values a network learns.
///
/// # Errors
///
/// The model is none for such samples.
pub fn parameters(model: &Model, shape: (Input, usize)) -> Result<u64> {
    let narrowing = Narrowing::to(Format::BINARY32);
    let network = Network::<Meta, f32, f32>::new(model, Meta::default(), shape, narrowing, None);
    Ok(network?.parameters())
}

/// Returns what a network costs whose steps have `batch` samples, with weights and activations in `W` and gradients in `G`.
///
/// # Errors
///
/// The model is none for such samples, or has more gradient tensors than a scaler has cells.
pub fn cost<W: Element + Plain, G: Element + Plain>(
    model: &Model,
    (input, classes): (Input, usize),
    optimizer: &Optimizer,
    batch: usize,
) -> Result<Cost> {
    let mut device = Meta::default();
    let narrowing = Narrowing::to(W::ENCODING.into());
    let network =
        Network::<Meta, W, G>::new(model, device.clone(), (input, classes), narrowing, None);
    let mut network = network?;
    let config = Config::for_format(G::ENCODING.into());
    let mut scalers = Scalers { first: network.scaler(config, 1)?, second: None };
    let parameters = network.parameters();
    network.forward(&blank(input, 1), Mode::default())?;
    let forward = device.cost().multiply_adds();
    // What an optimizer keeps begins with the first update.
    let update = Update { learning_rate: 1.0, max_norm: None };
    network.update(optimizer, update, &scalers)?;
    let model_bytes = device.cost().bytes;
    device.restart();
    let mode = Mode { training: true, part: MicroBatch::ONLY, ..Mode::default() };
    network.begin(&mut scalers, &NoObserver)?;
    network.narrow_weights(&mut scalers)?;
    let outputs = network.forward(&blank(input, batch), mode)?;
    let shapes: Vec<_> = outputs.0.iter().map(Tensor::shape).collect();
    drop(outputs);
    let gradients = shapes.into_iter().map(|shape| Tensor::zeroed(&mut device, shape));
    let gradients = Outputs(gradients.collect::<Result<_, _>>()?);
    network.backward(&gradients, &mut scalers.first, mode, &mut NoSink)?;
    drop(gradients);
    let cells = scalers.first.visits();
    network.judge_gradients(&mut scalers)?;
    network.conclude(&mut scalers)?;
    network.update(optimizer, update, &scalers)?;
    let cost = device.cost();
    Ok(Cost {
        parameters,
        forward,
        step: cost.multiply_adds(),
        cells,
        model_bytes,
        step_bytes: cost.most_bytes,
    })
}

/// Returns samples of zeros.
fn blank(input: Input, samples: usize) -> Inputs {
    let values = input.values() * samples;
    match input {
        Input::Image { .. } => Inputs::Images(vec![0.0; values]),
        Input::Tokens { .. } => Inputs::Tokens(vec![0; values]),
    }
}
