//! Memory for values that live no longer than one chunk.

use core::{
    cell::RefCell,
    mem,
    ops::{Deref, DerefMut},
};
use std::{thread_local, vec::Vec};

/// Buffers that a thread keeps for its next chunk.
const MOST_SPARE: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Some f32 values at the beginning of a cache line, from a buffer that the thread uses again.
pub(crate) struct Scratch {
    buffer: Vec<f32>,
    start: usize,
    length: usize,
}

impl Scratch {
    /// Elements of a cache line, and of the widest vector.
    const LINE: usize = 16;

    /// Returns `length` values of any kind: what the last chunk left.
    pub(crate) fn any(length: usize) -> Self {
        let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok()?.pop()).ok().flatten();
        let mut buffer = spare.unwrap_or_default();
        if buffer.len() < length + Self::LINE {
            buffer.resize(length + Self::LINE, 0.0);
        }
        let start = buffer.as_ptr().align_offset(Self::LINE * size_of::<f32>()).min(Self::LINE);
        Self { buffer, start, length }
    }

    /// Returns `length` zeros.
    pub(crate) fn zeroed(length: usize) -> Self {
        let mut scratch = Self::any(length);
        scratch.fill(0.0);
        scratch
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.buffer[self.start..self.start + self.length]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[self.start..self.start + self.length]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = mem::take(&mut self.buffer);
        // While the thread ends there is nowhere to keep it.
        let _ = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut()
                && spare.len() < MOST_SPARE
            {
                spare.push(buffer);
            }
        });
    }
}
