//! What a tensor looks like: what is counted before it is narrowed, and by narrowing.
//!
//! [`Histogram`] counts f32 values before they are narrowed and answers for every scale how many
//! would underflow and overflow, exactly.  [`Outcome`] counts what narrowing really did.
//! [`Statistics`] and [`LogStatistics`] hold the moments that the paper's policy asks for.
//!
//! All four are integers inside, so that merging is associative and commutative to the last bit:
//! any device, thread count and order gives the same value.  Non-finite values are counted first
//! and apart; they enter no maximum and no sum.

mod classes;
mod exact;
mod histogram;
mod moments;
mod outcome;

pub use classes::Classes;
pub use exact::ExactSum;
pub use histogram::{Histogram, MergeError};
pub use moments::{LogStatistics, Moments, Statistics};
pub use outcome::Outcome;
