//! What Rust-CUDA has of a GPU, by [`cuda_std`]: where a thread is, its block's barrier and shared memory, counters.
//!
//! Counters are `cuda_std`'s: with core's atomic types its compiler asks each time in which memory they are.

#[cfg(target_os = "cuda")]
pub(crate) use core::arch::asm;
use core::mem::MaybeUninit;

use adaloss_kernels::block::SHARED_WORDS;
use cuda_std::{address_space, atomic::intrinsics, thread};
pub(crate) use cuda_std::{
    atomic::intrinsics::atomic_fetch_add_relaxed_u64_device as add,
    thread::{
        block_dim_x as block_dimension, block_idx_x as block_index, grid_dim_x as grid_dimension,
        thread_idx_x as thread_index,
    },
};

/// Stands on a host for an instruction, as `cuda_std` does for its own.
#[cfg(not(target_os = "cuda"))]
macro_rules! refused {
    ($($instruction:tt)*) => {
        crate::machine::refuse(stringify!($($instruction)*))
    };
}
#[cfg(not(target_os = "cuda"))]
pub(crate) use refused as asm;

/// Is called in the place of an instruction, and as unsafe as one.
#[cfg(not(target_os = "cuda"))]
pub(crate) unsafe fn refuse(instruction: &str) -> ! {
    unimplemented!("only on a GPU: {instruction}")
}

/// Words of shared memory that matrices are loaded from, and copied to, together.
#[repr(C, align(16))]
struct Four(#[allow(dead_code, reason = "only the address is used")] [u32; 4]);

const _: () = assert!(SHARED_WORDS.is_multiple_of(4));

/// Tells whether there are conversions to and from elements of 8 bits, which sm_80 has not.
pub(crate) const CONVERTS_BYTES: bool = false;

/// Waits for all threads of the block, and shows each what the others wrote.
///
/// # Safety
///
/// Every thread of the block calls it.
#[inline(always)]
pub(crate) unsafe fn synchronise() {
    thread::sync_threads();
}

/// Returns the address of what every kernel has, in the space of shared memory: [`SHARED_WORDS`].
#[inline(always)]
pub(crate) fn shared() -> u32 {
    #[address_space(shared)]
    static mut WORDS: [MaybeUninit<Four>; SHARED_WORDS / 4] =
        [const { MaybeUninit::uninit() }; SHARED_WORDS / 4];
    address((&raw mut WORDS).cast())
}

/// Returns the address of what a launch asks for, in the space of shared memory.
#[inline(always)]
pub(crate) fn launched() -> u32 {
    address(cuda_std::shared::dynamic_shared_mem::<Four>())
}

/// Returns an address of shared memory in the space of shared memory.
///
/// `cuda_std::ptr` has the instruction without the semicolon at its end, which no assembler takes.
#[inline(always)]
#[cfg_attr(
    not(target_os = "cuda"),
    allow(unreachable_code, unused_variables, reason = "a host has a panic for each instruction")
)]
fn address(first: *mut Four) -> u32 {
    let address: u64;
    // SAFETY: it computes with an address.
    unsafe {
        asm!("cvta.to.shared.u64 {}, {};", out(reg64) address, in(reg64) first, options(pure, nomem, nostack));
    }
    address as u32
}

/// Replaces a word in global memory by a larger one, atomically.
///
/// # Safety
///
/// That of [`Block::add`](adaloss_kernels::Block::add).
#[inline(always)]
pub(crate) unsafe fn raise(maximum: *mut u32, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { intrinsics::atomic_fetch_max_relaxed_u32_device(maximum, value) };
}

/// Replaces a word in global memory by a smaller one, atomically.
///
/// # Safety
///
/// As for [`raise`].
#[inline(always)]
pub(crate) unsafe fn lower(minimum: *mut u32, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { intrinsics::atomic_fetch_min_relaxed_u32_device(minimum, value) };
}
