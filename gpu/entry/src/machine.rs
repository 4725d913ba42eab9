//! What the compiler's own nvptx64 has of a GPU: where a thread is, its block's barrier and shared memory, counters.

pub(crate) use core::arch::asm;
use core::arch::{global_asm, nvptx};

pub(crate) use adaloss_kernels::atomic::{add, lower, raise};
use adaloss_kernels::block::SHARED_WORDS;

global_asm!(
    ".shared .align 16 .b8 adaloss_shared[16384];",
    ".extern .shared .align 16 .b8 adaloss_launched[];"
);

const _: () = assert!(4 * SHARED_WORDS == 16384);

/// Tells whether there are conversions to and from elements of 8 bits.
pub(crate) const CONVERTS_BYTES: bool = cfg!(target_feature = "sm_90");

/// Returns the thread's number in its block.
#[inline(always)]
pub(crate) fn thread_index() -> u32 {
    // SAFETY: reading a special register has no condition.
    unsafe { nvptx::_thread_idx_x() as u32 }
}

/// Returns the block's number in the grid.
#[inline(always)]
pub(crate) fn block_index() -> u32 {
    // SAFETY: as above.
    unsafe { nvptx::_block_idx_x() as u32 }
}

/// Returns how many threads a block has.
#[inline(always)]
pub(crate) fn block_dimension() -> u32 {
    // SAFETY: as above.
    unsafe { nvptx::_block_dim_x() as u32 }
}

/// Returns how many blocks the grid has.
#[inline(always)]
pub(crate) fn grid_dimension() -> u32 {
    // SAFETY: as above.
    unsafe { nvptx::_grid_dim_x() as u32 }
}

/// Waits for all threads of the block, and shows each what the others wrote.
///
/// # Safety
///
/// Every thread of the block calls it.
#[inline(always)]
pub(crate) unsafe fn synchronise() {
    // SAFETY: the caller's promise.
    unsafe { nvptx::_syncthreads() }
}

/// Returns the address of what every kernel has, in the space of shared memory: [`SHARED_WORDS`].
#[inline(always)]
pub(crate) fn shared() -> u32 {
    let first: u32;
    // SAFETY: the name of a variable of this module.
    unsafe {
        asm!("mov.u32 {}, adaloss_shared;", out(reg32) first, options(pure, nomem, nostack));
    }
    first
}

/// Returns the address of what a launch asks for, in the space of shared memory.
#[inline(always)]
pub(crate) fn launched() -> u32 {
    let first: u32;
    // SAFETY: as above.
    unsafe {
        asm!("mov.u32 {}, adaloss_launched;", out(reg32) first, options(pure, nomem, nostack));
    }
    first
}
