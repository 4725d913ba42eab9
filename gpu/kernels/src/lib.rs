//! The corridor of adaptive loss scaling as GPU kernels: one file per room, in ordinary Rust.
//!
//! A kernel is a generic function over a [`Block`] of threads.  `adaloss-gpu-entry` instantiates it
//! with the special registers and instructions of an NVIDIA GPU and compiles it to PTX; the
//! [`grid`] module runs the same function on any machine, thread by thread, and notices what a GPU
//! would let pass: races in shared memory and reads of what nobody wrote.  Decisions, narrowing and counting are those of
//! [`adaloss_core`], compiled for either.
//!
//! A kernel sees its block in lockstep: it says what each thread does until the next exchange of
//! values or the next barrier.  A barrier that only some threads reach, the commonest deadlock of
//! GPU code, can therefore not be written down.
//!
//! ```
//! use adaloss_core::{format::{Format, Narrowing, Noise, f16}, policy::Cell, scale::Scale, statistics::Outcome};
//! use adaloss_kernels::{apply::apply, epilogue::Epilogue, grid::Grid, memory::Out};
//! let (from, to) = (Cell::new(), Cell::at(Scale::new(10)?));
//! let mut outcome = Outcome::EMPTY;
//! let epilogue = Epilogue {
//!     from: &from,
//!     to: &to,
//!     narrowing: Narrowing::to(Format::BINARY16),
//!     noise: Noise::default(),
//!     stores: true,
//!     when: core::ptr::null(),
//!     outcome: &mut outcome,
//!     histogram: core::ptr::null_mut(),
//! };
//! let (values, mut narrowed) = ([1.0e-8_f32; 1000], [f16::ZERO; 1000]);
//! let out = Out::of(&mut narrowed);
//! // SAFETY: the cells and the outcome live as long as the launch, and nothing else names them.
//! Grid::new(3, 64).launch(|block| unsafe { apply(block, &values, out, &epilogue) });
//! assert_eq!((outcome.elements, outcome.underflow), (1000, 0));
//! # Ok::<(), adaloss_core::scale::ScaleError>(())
//! ```

#![no_std]
#![deny(missing_docs)]

#[cfg(any(feature = "grid", doc))]
extern crate std;

pub mod apply;
pub mod atomic;
mod binades;
pub mod block;
mod convert;
pub mod entries;
pub mod epilogue;
pub mod format;
#[cfg(any(feature = "grid", doc))]
pub mod grid;
mod lines;
pub mod matmul;
pub mod memory;
mod moments;
pub mod multiply;
mod nearest;
pub mod network;
pub mod parts;
pub mod propagate;
pub mod scaler;
pub mod statistics;
pub mod sums;
pub mod tensor_cores;
pub mod tiles;
pub mod unscale;
pub mod update;

pub use block::{Block, Shared};
