//! Kernels on the simulated grid do what core says, bit for bit.

mod conforms;
mod convert;
mod device;
mod moments;
mod product;
mod unscale;
mod update;
