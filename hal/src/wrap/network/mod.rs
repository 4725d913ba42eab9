//! The operations of layers, handed on.

mod attend;
mod convolve;
mod normalise;
mod pool;
