//! A scaler that lives in the memory of a device, and never waits for it.
//!
//! An [`Engine`] keeps cells, histogram, counts and verdict where the tensors are, and takes a step as a
//! [`LossScaler`](adaloss_core::scaler::LossScaler) does, visit by visit and pass by pass; the decisions are core's and the bits are
//! the same.  The difference is who knows them.  The host asks for every pass that might be needed, in an order that depends on
//! the configuration alone; the device knows which of them are, by a predicate that each operation has
//! ([`Epilogue::when`](crate::Epilogue::when)), and the others do nothing.  What happened is written to a row of lines, which the
//! host reads once a step or after several: then overflows were replayed, steps skipped and weights left alone without it.
//!
//! ```text
//! Advance --> which pass, at which scales --> an operation with an epilogue --> outcome, histogram --.
//!    ^                                                                                                |
//!    '------------------------------------------------------------------------------------------------'
//! Close --> a line, the scale of the gradient      Judge --> what weight gradients and the loss show
//! Conclude --> a line, and whether an optimizer's operations do anything
//! ```
//!
//! So that a device is asked for few operations, the end of a visit is none of its own as a rule: the next `Advance` or `Judge` brings it
//! along, as an [`Ending`], and the gradient's scale is that of the last pass.  It is a `Close` where neither comes next: in front of the end of a
//! step, of a loss that is judged, and of whatever waits for the device; and in a graph.  What a step has many of, as square norms of weight
//! gradients, is judged in lists.

mod agree;
mod engine;
mod lines;
mod open_visit;
mod operations;

pub use agree::SharedError;
pub use engine::Engine;
pub use lines::{EngineError, LeftOut, Lines};
pub use open_visit::{Carried, OpenVisit, Pass};
pub use operations::{
    Advance, Close, Conclude, Describe, Described, DeviceScaler, Ended, Ending, Evidence,
    HasScaler, Judge, MOST_EVIDENCE, MOST_ORIGINS,
};
