//! The operations of layers, handed on.

mod attend;
mod convolve;
mod embed;
mod loss;
mod normalise;
mod pool;
