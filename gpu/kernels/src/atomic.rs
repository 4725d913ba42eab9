//! Counters in global memory by core's atomic types, for blocks whose compiler has them.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Is [`Block::add`](crate::Block::add).
///
/// # Safety
///
/// As there.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, count: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(counter) }.fetch_add(count, Relaxed)
}

/// Is [`Block::raise`](crate::Block::raise).
///
/// # Safety
///
/// As there.
#[inline(always)]
pub unsafe fn raise(maximum: *mut u32, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { AtomicU32::from_ptr(maximum) }.fetch_max(value, Relaxed);
}

/// Is [`Block::lower`](crate::Block::lower).
///
/// # Safety
///
/// As there.
#[inline(always)]
pub unsafe fn lower(minimum: *mut u32, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { AtomicU32::from_ptr(minimum) }.fetch_min(value, Relaxed);
}
