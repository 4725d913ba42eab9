//! The reference device: every operation in plain, sequential Rust, over the caller's slices.
//!
//! Other devices are compared with this one.  It needs no heap and no `std`; sums run in the order
//! of their index, each product and each sum rounded to f32.

mod matmul;
mod narrow;
mod network;

use crate::{
    device::Capabilities,
    host::{HostError, HostMemory},
};

/// The portable device: host memory, no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl HostMemory for Portable {
    type Error = HostError;

    fn can_do(&self) -> Capabilities {
        Capabilities::ALL
    }
}

#[cfg(feature = "alloc")]
impl crate::host::HostHeap for Portable {}
