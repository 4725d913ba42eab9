//! The operations of layers, handed on.

mod attend;
mod convolve;
mod loss;
mod normalise;
mod pool;
