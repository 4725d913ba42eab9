//! What the crate promises, on models small enough to know the answer.

mod accumulate;
mod checkpoint;
mod clipping;
mod exact;
mod foreign;
mod gradients;
mod identity;
mod join;
mod misuse;
mod overflow;

use adaloss_burn::{Backward, Scaler};
use adaloss_core::{format::Format, policy::Config};
use burn::{
    module::{Module, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A master of two dimensions.
type Weight = Param<Tensor<2>>;

fn device() -> Device {
    Device::flex().autodiff()
}

/// Returns a scaler for gradients in binary16.
fn scaler(layers: usize) -> Scaler {
    Scaler::new(Config::for_format(Format::BINARY16), layers).unwrap()
}

/// Does a step, which has to be usable.
fn gradients<M: Module, const D: usize>(
    scaler: &Scaler,
    module: &M,
    forward: impl FnMut() -> Tensor<D>,
) -> GradientsParams {
    match scaler.step(module, forward).unwrap() {
        Backward::Apply(gradients) => gradients,
        other => panic!("{other:?}"),
    }
}

/// Goes backward as burn alone does.
fn by_burn<M: Module, const D: usize>(module: &M, loss: &Tensor<D>) -> GradientsParams {
    GradientsParams::from_grads(loss.backward(), module)
}

/// Returns the gradient of a weight, in the order of its elements.
fn of<const D: usize>(gradients: &GradientsParams, weight: &Param<Tensor<D>>) -> Vec<f32> {
    values(gradients.get::<D>(weight.id).expect("the loss depends on the weight"))
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

/// Returns the bits of numbers: NaN and the sign of zero count.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn generator() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(20)
}

/// Draws a matrix with elements between -`bound` and `bound`.
fn matrix(rng: &mut impl Rng, rows: usize, columns: usize, bound: f32) -> Tensor<2> {
    let values = (0..rows * columns).map(|_| rng.random_range(-bound..bound)).collect();
    tensor(values, [rows, columns])
}

/// Draws a square weight that keeps magnitudes about as they are.
fn weight(rng: &mut impl Rng, width: usize) -> Weight {
    Param::from_tensor(matrix(rng, width, width, (3.0 / width as f32).sqrt()))
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), &device())
}
