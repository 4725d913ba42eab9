//! Operations of layers as launches.

mod accumulate;
mod attend;
mod convolve;
mod dropout;
mod embed;
mod loss;
mod normalise;
mod pointwise;
mod pool;
mod update;

pub(crate) use pointwise::operand;
