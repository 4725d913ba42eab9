//! Kernels on the simulated grid do what core says, bit for bit.

mod conforms;
mod convert;
mod convolution;
mod device;
mod fates;
mod layers;
mod moments;
mod network;
mod product;
#[path = "../../../on-device/src/steps.rs"]
#[allow(dead_code, unreachable_pub, reason = "a module of the program that is run on a GPU")]
mod steps;
mod unscale;
mod update;
