//! Adaptive loss scaling for frameworks with automatic differentiation: all but their tensors.
//!
//! A framework's backward pass is cut into segments, one per layer, by marks in the forward pass.  A
//! plug for a framework makes the marks, runs the segments and copies gradients to the host.  What
//! to do with them is the same for every framework and is here:
//!
//! ```text
//! the plug                               this crate
//! backward from the loss, to the output
//! what arrived at a mark           --->  Walk::visit: joined, narrowed, lower if it overflows
//! the segment before it, backward  <---  Walk::attempt: at which scale
//! what the segment arrived at      --->  Walk::judge: keep it, run it lower, or give up
//!   at weights                     --->  Walk::unscale
//!   at marks, which are next
//! gradients for the optimizer      <---  Walk::finish: apply, skip or stop
//! ```
//!
//! Micro-batches are such passes, one after another, of which all but the last end in [`Walk::suspend`].
//!
//! [`Memory`] is what the next steps depend on, and what a checkpoint keeps.
//!
//! # Examples
//!
//! The layer `y = 3 x` of a framework with tensors of one number:
//!
//! ```
//! use adaloss_core::{format::{Encoding, Format}, policy::Config, propagate::Scaled, scale::Scale};
//! use adaloss_core::unscale::{Place, Verdict};
//! use adaloss_plug::{Judgement, Memory, sum};
//! let mut memory = Memory::new(Config::for_format(Format::BINARY16), 1);
//! let mut visits = Vec::new();
//! let mut walk = memory.walk(&mut visits);
//!
//! // Much too small for binary16, whose smallest number is 6.0e-8.
//! let from_the_loss = Scaled::new(vec![1.0e-9], Scale::ONE);
//! let gradient = walk.visit(Place::Loss, vec![from_the_loss])?;
//! let attempt = walk.attempt(Place::Loss, Encoding::Binary16, gradient.scale(), 0);
//! let segment = sum([gradient], attempt.scale).iter().map(|x| 3.0 * x).collect::<Vec<_>>();
//! assert_eq!(walk.judge(attempt, &segment), Judgement::Keep);
//! let weight = walk.unscale(Place::Loss, Scaled::new(&segment[..], attempt.scale), None)?;
//!
//! assert_eq!(walk.finish(), Verdict::Apply);
//! assert!((weight[0] - 3.0e-9).abs() < 3.0e-12, "{weight:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod apply;
mod backward;
mod checkpoint;
mod limit;
mod memory;
mod reduction;
mod walk;

pub use apply::{holds, narrow};
pub use backward::Backward;
pub use checkpoint::RestoreError;
pub use memory::{Memory, slot};
pub use reduction::Reduction;
pub use walk::{Attempt, Judgement, Walk, sum};
