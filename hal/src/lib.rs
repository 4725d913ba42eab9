//! The hardware abstraction layer (HAL) of adaptive loss scaling: traits of a device, and its operations as values.
//!
//! A device holds tensors and runs operations on them, each a value that names its operands: those of
//! `adaloss-core` where a tensor lives ([`Narrow`], [`Propagate`], [`Unscale`]), products ([`Matmul`]), what
//! layers need ([`network`]), and decisions where the scales live ([`scaler`]).  Each that computes f32 results
//! ends in an [`Epilogue`], which says where they go, at which scales, and whether there is anything to be done
//! at all.  Nothing but [`Device::read`] waits for the device.
//!
//! ```text
//!            .--- scales, whether to do anything <--- a scaler <---.
//!            v                                                     |
//! Matmul ----\                   +-> outcome, histogram -----------'
//! Propagate --> f32 results -----+-> narrowed --> next layer, Unscale --> f32
//! Narrow ----/
//! ```
//!
//! A program calls [`Run::run`]; what it needs of a device are traits of several operations, such as [`HasNarrow`].
//!
//! [`portable`] is the readable reference that others are compared with, and the package `adaloss-conformance` is the
//! suite that compares them: any device's tests call it in five lines.  `adaloss-cpu` is the fast device for the CPU.  [`fault`] and [`record`]
//! are devices that wrap devices, to inject faults and to log operations, each a hook of [`wrap`].  `meta`, with the feature `alloc`, is a
//! device without elements, which says what a program will need.
//!
//! The scaler is one of two, and decides the same in either place.  A `LossScaler` on the host drives a device
//! that works in host memory through [`HostEpilogue`], and one with memory of its own through
//! [`DeviceEpilogue`], which waits in each pass.  A [`scaler::Engine`] lives in the device's memory and waits
//! when the host wants to know what happened: every device in host memory has its operations
//! ([`HostMemory`]), and one with memory of its own implements them, or leaves them out.
//!
//! Ranks that train one model agree on each step by one message: [`group`] has the trait of what carries it.
//!
//! # Examples
//!
//! ```
//! use adaloss_core::{format::{Format, Narrowing, f16}, policy::Cell, scale::Scale};
//! use adaloss_core::{format::Noise, statistics::Outcome};
//! use adaloss_hal::{Epilogue, Narrow, Run, portable::Portable};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut outcome = [Outcome::EMPTY];
//!     let cells = [Cell::at(Scale::ONE), Cell::at(Scale::new(20)?)];
//!     let epilogue = Epilogue {
//!         from: &cells[..1],
//!         to: &cells[1..],
//!         narrowing: Narrowing::to(Format::BINARY16),
//!         noise: Noise::default(),
//!         stores: true,
//!         when: None,
//!         outcome: &mut outcome[..],
//!         histogram: None,
//!     };
//!     let mut narrowed = [f16::ZERO; 2];
//!     let (input, to) = (&[2.0e-9, 1.0e-3][..], &mut narrowed[..]);
//!     Portable.run(Narrow { input, to, epilogue })?;
//!     assert_eq!((outcome[0].underflow, outcome[0].overflow), (0, 0));
//!     Ok(())
//! }
//! ```
//!
//! # Features
//!
//! `alloc` adds `HostHeap`, by which a device in host memory has buffers on the heap, so that it
//! implements [`Memory`]: the portable one does.  It adds the module `meta` as well.  Documentation that is made without `--all-features` leaves
//! it out.

#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

// In this order, a module imports only modules before it.
mod kind;
#[allow(unsafe_code, reason = "the only unsafe items are the proofs that types are plain")]
mod plain;
mod space;

mod error;
pub mod group;
mod readout;
mod shape;

mod device;
mod epilogue;
mod operation;
mod run;

mod matmul;
mod narrow;
pub mod network;
pub mod scaler;

pub mod host;
mod pass;
pub mod portable;

pub mod fault;
#[cfg(feature = "alloc")]
pub mod meta;
pub mod record;
pub mod wrap;

pub use device::{Capabilities, Device, Memory, Mut, Ref};
pub use epilogue::Epilogue;
pub use error::{Error, ErrorKind, Misfit, MisfitCause};
#[cfg(feature = "alloc")]
#[doc(inline)]
pub use host::HostHeap;
#[doc(inline)]
pub use host::{HostError, HostMemory};
pub use kind::OperationKind;
pub use matmul::{HasMatmul, Matmul};
pub use narrow::{Branch, BranchOf, HasNarrow, Narrow, Propagate, Summarise, Unscale};
pub use operation::{Operation, Visitor};
pub use pass::{DeviceEpilogue, HostEpilogue};
pub use plain::Plain;
pub use readout::{HasReadout, Readout};
pub use run::{Fitting, Run};
pub use shape::{Attention, Axis, Convolution, Normalisation, Pooling, Product, Shape};
pub use space::{AddressSpace, HostSpace};
