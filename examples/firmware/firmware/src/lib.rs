//! What the firmware does, on whatever board: the boards bring a device and a way to read and print.
//!
//! - [`walk`] takes recorded layers through the corridor, one after the other, and prints every
//!   decision and everything that it led to.
//! - [`Perceptron`] is trained on the device itself, in low precision.
//!
//! The host calls the same functions with the portable device, and has to print the same.

#![no_std]
#![forbid(unsafe_code)]

mod digits;
mod layers;
mod perceptron;
mod policies;
mod record;
mod report;
mod tensors;
mod train;
mod walk;

pub use digits::Digits;
pub use layers::{BATCH, LAYERS, WIDTHS};
pub use perceptron::{Gradients, Perceptron, TrainError};
pub use policies::{POLICIES, config};
pub use record::{Record, RecordError};
pub use train::train;
pub use walk::{Walk, WalkError};
