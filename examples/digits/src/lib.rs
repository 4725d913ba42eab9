//! The digits, learnt by a framework in 16 bits: without scaling, with one fixed scale, and with a
//! scale per layer that is chosen while it trains.
//!
//! A framework brings a [`Learner`] and calls [`compare`]; the command line, the digits, their order,
//! the rate of learning and the table are the same for all.

#![forbid(unsafe_code)]

mod compare;
mod data;
mod mode;
mod report;

pub use compare::{Learner, compare};
pub use data::{Batch, CLASSES};
pub use mode::{Gradients, Mode, Scaling};
