//! A model of a small accelerator, and the driver that makes it a device.
//!
//! The accelerator narrows f32 values to binary16 and counts what becomes of them; that is all it
//! does.  It has integer adders and shifters, no divider and no subnormals, memory of its own, and
//! ten registers.  Everything else that the corridor needs, the [`Accelerator`] does on the
//! microcontroller, with the library.  The scaler is there as well, and drives it pass by pass.
//!
//! ```text
//! scaler, layers --> Accelerator (has Device, Memory, HasNarrow<f16>)
//!                         | Bus: ten registers, and its memory
//!                         v
//!                    Model here; in silicon, a few volatile accesses
//! ```
//!
//! # Examples
//!
//! ```
//! use adaloss_accelerator::{Accelerator, Model, Pool};
//! use adaloss_core::format::f16;
//! use adaloss_conformance as conformance;
//! let pool = Pool::<2048>::new();
//! let mut device = Accelerator::new(Model::<{ 2048 * 64 }>::new(), &pool)?;
//! println!("{}", conformance::narrow::<f16, _>(&mut device)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![no_std]
#![deny(unsafe_code)]

mod bus;
mod device;
mod error;
mod memory;
mod model;
mod narrow;
mod unit;

pub use bus::{Bus, Fault, Register, command, option, status};
pub use device::{Accelerator, AcceleratorSpace};
pub use error::AcceleratorError;
pub use memory::{Buffer, Name, NameMut, Pool};
pub use model::Model;
