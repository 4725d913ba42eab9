//! Adaptive loss scaling on NVIDIA GPUs: [`Cuda`] is a device of [`adaloss_hal`] whose operations are
//! the kernels of [`adaloss_kernels`], compiled to PTX and embedded here.
//!
//! Scales, histograms, outcomes and decisions live in the device's memory; operations return before
//! they are done, and only [`Device::read`](adaloss_hal::Device::read) waits.
//!
//! A scaler can live there too: [`Cuda`] has the operations of an [`Engine`](adaloss_hal::scaler::Engine), and those of
//! layers ([`adaloss_hal::network`]).
//!
//! The CUDA driver is found when the first device is opened, not when a program is linked: programs
//! that use this crate build on any machine, and start on one without a GPU.
//!
//! ```no_run
//! use adaloss_core::format::f16;
//! use adaloss_gpu::Cuda;
//! use adaloss_conformance as conformance;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut device = Cuda::new(0)?;
//!     println!("{}", conformance::narrow::<f16, _>(&mut device)?);
//!     Ok(())
//! }
//! ```

#![warn(missing_docs)]

mod device;
mod error;
mod graph;
mod kernels;
mod matmul;
mod memory;
mod narrow;
mod network;
mod scaler;
mod staging;
mod table;
mod tensor_cores;

pub use device::{Cuda, GpuSpace};
pub use error::GpuError;
pub use graph::Graph;
pub use memory::{Buffer, Elements, ElementsMut};
pub use table::{Gradient, Gradients, Into, Sgd, Weight, Weights};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
