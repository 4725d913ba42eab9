//! The gradients of weights, in f32 and unscaled, until the optimizer gets them.

use std::collections::HashMap;

use adaloss_core::unscale::Place;
use adaloss_plug::Reduction;
use candle_core::{Result, Tensor, TensorId, backprop::GradStore};

/// The gradients of the weights that something depends on.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    of: HashMap<TensorId, WeightGradient>,
}

/// The gradient of a weight.
#[derive(Debug)]
pub(crate) struct WeightGradient {
    pub(crate) weight: Tensor,
    /// Where the last part of it was unscaled.
    pub(crate) place: Place,
    pub(crate) values: Vec<f32>,
}

impl Weights {
    /// Takes what was found for a weight so far.
    pub(crate) fn take(&mut self, weight: &Tensor) -> Option<Vec<f32>> {
        self.of.remove(&weight.id()).map(|gradient| gradient.values)
    }

    pub(crate) fn put(&mut self, gradient: WeightGradient) {
        self.of.insert(gradient.weight.id(), gradient);
    }

    pub(crate) fn into_gradients(self) -> impl Iterator<Item = WeightGradient> {
        self.of.into_values()
    }

    /// Makes the container that candle's optimizers take.
    pub(crate) fn into_store(self, reduction: Reduction, micro_batches: u32) -> Result<GradStore> {
        let mut store = GradStore::default();
        for WeightGradient { weight, mut values, .. } in self.of.into_values() {
            reduction.apply(&mut values, micro_batches);
            let gradient = Tensor::from_vec(values, weight.shape(), weight.device())?;
            store.insert(&weight, gradient);
        }
        Ok(store)
    }
}
