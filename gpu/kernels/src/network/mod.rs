//! What layers need beyond the corridor, as `adaloss_hal::network` has it: the same values in the same order as the portable
//! device, but for the sums that [`sums`](crate::sums) has.

pub mod accumulate;
pub mod attend;
pub mod columns;
pub mod convolve;
pub mod dropout;
pub mod embed;
#[doc(hidden)]
pub mod entries;
pub mod implicit;
pub mod loss;
pub mod normalise;
pub mod operand;
pub mod pointwise;
pub mod pool;
mod results;
pub mod sliding;
pub mod update;
mod warps;
