//! What layers need beyond the corridor, as `adaloss_hal::network` has it: the same values in the same order as the portable
//! device, but for the sums that [`sums`](crate::sums) has.

pub mod accumulate;
#[doc(hidden)]
pub mod entries;
pub mod loss;
pub mod operand;
pub mod pointwise;
pub mod update;
