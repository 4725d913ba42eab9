//! The operations of layers, handed on.

mod convolve;
