//! The weights of a module: where their gradients are found, and where they go.

use std::collections::HashMap;

use adaloss_core::unscale::Place;
use adaloss_plug::Reduction;
use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::{DType, Gradients, Tensor, TensorData},
};

use crate::{ScalerError, tape};

/// The gradient of a weight, as a segment left it.
#[derive(Debug)]
pub(crate) struct WeightGradient {
    pub(crate) id: ParamId,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// In f32, at the scale of the segment.
    pub(crate) values: Vec<f32>,
}

/// The gradients of weights, in f32 and unscaled, and where the last part of each was unscaled.
pub(crate) type Sums = HashMap<ParamId, (Place, Vec<f32>)>;

/// Takes the gradients of all weights of `module` that a segment reached.
pub(crate) fn take<M: Module>(
    module: &M,
    gradients: &mut Gradients,
) -> Result<Vec<WeightGradient>, ScalerError> {
    let mut taking = Taking { gradients, taken: Ok(Vec::new()) };
    module.visit(&mut taking);
    taking.taken
}

/// Makes the container that burn's optimizers take from the sums over micro-batches.
pub(crate) fn collect<M: Module>(
    module: &M,
    sums: Sums,
    reduction: Reduction,
    micro_batches: u32,
) -> GradientsParams {
    let collected = GradientsParams::new();
    let mut collecting = Collecting { sums, reduction, micro_batches, collected };
    module.visit(&mut collecting);
    collecting.collected
}

struct Taking<'a> {
    gradients: &'a mut Gradients,
    taken: Result<Vec<WeightGradient>, ScalerError>,
}

impl ModuleVisitor for Taking<'_> {
    fn visit_float<const D: usize>(&mut self, weight: &Param<Tensor<D>>) {
        let Ok(taken) = &mut self.taken else { return };
        let Some(gradient) = weight.val().grad_remove(self.gradients) else { return };
        let (dtype, shape) = (gradient.dtype(), gradient.dims().to_vec());
        match tape::read(gradient) {
            Ok(values) => taken.push(WeightGradient { id: weight.id, dtype, shape, values }),
            Err(error) => self.taken = Err(error),
        }
    }
}

struct Collecting {
    sums: Sums,
    reduction: Reduction,
    micro_batches: u32,
    collected: GradientsParams,
}

impl ModuleVisitor for Collecting {
    fn visit_float<const D: usize>(&mut self, weight: &Param<Tensor<D>>) {
        let Some((_, mut values)) = self.sums.remove(&weight.id) else { return };
        self.reduction.apply(&mut values, self.micro_batches);
        let weight_value = weight.val();
        let data = TensorData::new(values, weight_value.shape());
        let gradient = Tensor::<D>::from_data(data, (&weight_value.device(), DType::F32));
        self.collected.register(weight.id, gradient.without_autodiff());
    }
}
