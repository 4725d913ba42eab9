//! Ranks that train one network: what carries their messages, and what they have to say to each other.
//!
//! ```text
//! a thread of its own: [ jobs, one after the other, on a Group ] <-- Team --- Trainer: agree, losses, score
//!                                                                      ^----- Reducer: gradients, while others are computed
//! ```
//!
//! Everything that a rank sends goes through the one thread that has the group, in the order in which it was asked for, which is the
//! same on all ranks.  So an engine that allows one thread to call it, as MPI does, serves, and sums of gradients run beside the
//! backward pass.

mod carrier;
mod losses;
mod reduce;
mod team;

use std::{fmt, ops::Range};

use anyhow::{Context, Result};

pub use carrier::{Carrier, Failure, Sent};
pub(crate) use losses::gather_losses;
pub(crate) use reduce::Sink;
pub use reduce::{Counts, Reducer, Reduction, Scaling, SumError};
pub use team::{Pending, Team};

/// Something failed on another rank, or on this one, and was said.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere;

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another rank cannot go on")
    }
}

impl std::error::Error for Elsewhere {}

/// Something that all ranks found out together, and that ends each of them.
#[derive(Clone, Debug)]
pub struct Common(pub String);

impl fmt::Display for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Common {}

/// The rank on which something failed, of which all others know.
#[derive(Clone, Copy, Debug)]
pub struct OnRank(pub usize);

impl fmt::Display for OnRank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}", self.0)
    }
}

/// Returns the micro-batches of a step that a rank has, of so many; `None` where they cannot be shared so that sums have the same
/// bits as on one rank.
///
/// # Errors
///
/// There are not as many for each rank, or not 1, 2, 4, 8 ... of them.
pub fn share(micro_batches: usize, rank: usize, size: usize) -> Result<Range<usize>> {
    let each = micro_batches / size.max(1);
    let is_shared = micro_batches == each * size && (size == 1 || each.is_power_of_two());
    is_shared.then_some(rank * each..(rank + 1) * each).with_context(|| {
        format!(
            "a step of {micro_batches} micro-batches cannot be shared by {size} ranks: each takes as many, \
             and 1, 2, 4, 8 ... of them; --micro-batches {size} would do"
        )
    })
}
