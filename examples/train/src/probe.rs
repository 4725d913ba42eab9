//! How far weight gradients are from those of the same backward pass in f32.

use adaloss_core::{
    format::{Element, Format, Narrowing},
    policy::{Config, Policy, Recovery},
    scale::Scale,
};
use adaloss_hal::Plain;
use anyhow::Result;

use crate::{
    data::{Batch, Dataset},
    layer::{Machine, MicroBatch, NoObserver, NoSink},
    model::Model,
    network::{Mode, Network, Saved, Scalers},
    results::WeightReport,
    unit::Units,
};

/// A network that is the run's own but for its gradients, which are f32 and carry no scale.
pub struct Reference<D: Machine<W, f32>, W: Element + Plain> {
    network: Network<D, W, f32>,
    scalers: Scalers<D>,
}

impl<D: Machine<W, f32>, W: Element + Plain> Reference<D, W> {
    /// Makes the network.
    pub fn new(
        model: &Model,
        device: D,
        dataset: &dyn Dataset,
        narrowing: Narrowing,
        micro_batches: usize,
    ) -> Result<Self> {
        let shape = (dataset.input(), dataset.classes());
        // Its weights are replaced before they are used.
        let mut network = Network::new(model, device, shape, narrowing, None)?;
        let scalers = unscaled(&mut network, micro_batches)?;
        Ok(Self { network, scalers })
    }

    /// Returns the weight gradients of a batch with the weights given.
    pub fn gradients(
        &mut self,
        weights: &[Saved],
        batches: &[Batch],
        class_weights: &[f32],
        units: Units,
        mode: impl Fn(MicroBatch) -> Mode<'static>,
    ) -> Result<Vec<(String, Vec<f32>)>> {
        let Self { network, scalers } = self;
        network.load(weights)?;
        network.refresh()?;
        network.begin(scalers, &NoObserver)?;
        for (part, batch) in MicroBatch::all(batches.len()).zip(batches) {
            let mode = mode(part);
            let outputs = network.forward(&batch.inputs, mode)?;
            let loss = network.loss(&outputs, batch, class_weights, units)?;
            scalers.first.micro_batch(part.nth);
            network.backward(&loss.gradients, &mut scalers.first, mode, &mut NoSink)?;
        }
        network.average(batches.len())?;
        network.judge_gradients(scalers)?;
        network.conclude(scalers)?;
        network.read_step(scalers, &mut NoObserver)?; // usable or not
        network.gradients()
    }
}

/// Makes the scaler of a network whose gradients are f32 and carry no scale.
pub(crate) fn unscaled<D: Machine<W, f32>, W: Element + Plain>(
    network: &mut Network<D, W, f32>,
    micro_batches: usize,
) -> Result<Scalers<D>> {
    let config = Config::for_format(Format::BINARY32)
        .with_policy(Policy::Fixed(Scale::ONE))?
        .with_recovery(Recovery::Skip);
    Ok(Scalers { first: network.scaler(config, micro_batches)?, second: None })
}

/// Appends the distances of some gradients from those of the reference.
pub fn compare(
    found: &[(String, Vec<f32>)],
    reference: &[(String, Vec<f32>)],
    to: &mut Vec<WeightReport>,
) {
    to.resize_with(found.len(), WeightReport::default);
    for (((name, found), (_, reference)), report) in found.iter().zip(reference).zip(to) {
        report.name.clone_from(name);
        let (cosine, relative_l2) = distance(found, reference);
        report.cosine.push(cosine);
        report.relative_l2.push(relative_l2);
    }
}

/// Returns the cosine of the angle between two vectors, and the norm of their difference over that of
/// the second.
fn distance(found: &[f32], reference: &[f32]) -> (Option<f64>, Option<f64>) {
    let sum = |term: fn(f64, f64) -> f64| {
        let terms = found.iter().zip(reference).map(|(&x, &y)| term(x.into(), y.into()));
        terms.sum::<f64>()
    };
    let (xx, yy) = (sum(|x, _| x * x), sum(|_, y| y * y));
    let (xy, dd) = (sum(|x, y| x * y), sum(|x, y| (x - y) * (x - y)));
    let finite = |x: f64| Some(x).filter(|x| x.is_finite());
    (finite(xy / (xx * yy).sqrt()), finite((dd / yy).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_geometry() {
        assert_eq!(distance(&[3.0, 0.0], &[3.0, 0.0]), (Some(1.0), Some(0.0)));
        assert_eq!(distance(&[0.0, 2.0], &[2.0, 0.0]), (Some(0.0), Some(2.0_f64.sqrt())));
        assert_eq!(distance(&[0.0, 0.0], &[2.0, 0.0]), (None, Some(1.0)));
        assert_eq!(distance(&[1.0], &[0.0]), (None, None));
        assert_eq!(distance(&[f32::NAN], &[1.0]), (None, None));
    }
}
