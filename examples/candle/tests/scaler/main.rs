//! What the crate promises, on models small enough to know the answer.

mod accumulate;
mod checkpoint;
mod exact;
mod foreign;
mod gradients;
mod identity;
mod join;
mod misuse;
mod overflow;

use adaloss_candle::{Backward, Scaler, Step};
use adaloss_core::{format::Format, policy::Config};
use candle_core::{DType, Device, Error, Result, Tensor, Var, backprop::GradStore};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Returns a scaler for gradients in binary16.
fn scaler(layers: usize) -> Scaler {
    Scaler::new(Config::for_format(Format::BINARY16), layers).unwrap()
}

/// Goes backward; the step has to be usable.
fn gradients(step: Step, loss: &Tensor) -> GradStore {
    match step.backward(loss).unwrap() {
        Backward::Apply(gradients) => gradients,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_says<T>(result: Result<T>, expected: &str) {
    let error: Error = result.err().expect("this is a mistake");
    assert!(error.to_string().contains(expected), "{error}");
}

/// Returns the bits of a tensor in f32, in the order of its elements.
fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn generator() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(20)
}

/// Draws a matrix with elements between -`bound` and `bound`.
fn matrix(rng: &mut impl Rng, rows: usize, columns: usize, bound: f32) -> Result<Tensor> {
    let values = (0..rows * columns).map(|_| rng.random_range(-bound..bound)).collect();
    Tensor::from_vec(values, (rows, columns), &Device::Cpu)
}

/// Draws a square weight that keeps magnitudes about as they are.
fn weight(rng: &mut impl Rng, width: usize) -> Result<Var> {
    Var::from_tensor(&matrix(rng, width, width, (3.0 / width as f32).sqrt())?)
}
