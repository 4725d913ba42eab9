//! A fuzz target for the C library: what a C program can do to it without lying about its memory.
//!
//! Bytes become a sequence of calls: numbers that no enumeration has, structures that were zeroed or
//! overwritten, NULL and misaligned pointers, foreign checkpoints, calls out of order, visits that are
//! left, finished early or gone on with later, kernels that spoil the counters of their pass.  Never a
//! pointer to too little memory: that no library can notice.
//!
//! After each call: the code is one that the header lists; where it is not `ADALOSS_OK`, nothing in
//! the caller's memory has changed, but what a scaler notes of a refused visit; what the library wrote
//! it takes back; and what core can say as well, core says too.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every pointer is one into `Memory` that lives, or one that has to be refused"
)]

mod argument;
mod device;
mod memory;
mod rooms;
mod scaler;
mod share;

use adaloss_fuzz::Target;
use arbitrary::{Result, Unstructured};

use memory::Memory;
use scaler::Life;

/// Every target of this crate with its name, which is that of its corpus.
pub const TARGETS: [(&str, Target); 1] = [("capi", capi)];

/// The most calls of one input: few enough that inputs stay short, and the corpus with them.
const CALLS: u32 = 64;

/// Checks a sequence of calls.
pub fn capi(bytes: &[u8]) {
    // Bytes that are too few are no finding.
    let _ = run(&mut Unstructured::new(bytes));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut memory = Memory::zeroed();
    let mut life = Life::default();
    for _ in 0..CALLS {
        match u.int_in_range(0..=16)? {
            0 => memory.overwrite(u)?,
            1..=2 => rooms::formats(u, &mut memory)?,
            3..=4 => rooms::statistics(u, &mut memory)?,
            5..=6 => rooms::configurations(u, &mut memory)?,
            7..=8 => rooms::policies(u, &mut memory)?,
            9 => rooms::tensors(u, &mut memory)?,
            16 => device::conform(u, &mut memory)?,
            _ => life.call(u, &mut memory)?,
        }
    }
    Ok(())
}
