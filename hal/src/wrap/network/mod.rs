//! The operations of layers, handed on.

mod accumulate;
mod attend;
mod convolve;
mod embed;
mod loss;
mod normalise;
mod pointwise;
mod pool;
mod update;
