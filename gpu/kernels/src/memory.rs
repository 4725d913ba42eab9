//! Global memory that many threads write.

use core::{
    marker::PhantomData,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// A tensor that a kernel writes: each element by one thread.
#[derive(Debug)]
pub struct Out<'a, T> {
    first: *mut T,
    length: usize,
    tensor: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Out<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<'_, T> {}

impl<'a, T: Copy> Out<'a, T> {
    /// Names a tensor by its first element.
    ///
    /// # Safety
    ///
    /// So many elements are there as long as `'a`, and are named by nothing but this and its copies.
    pub const unsafe fn new(first: *mut T, length: usize) -> Self {
        Self { first, length, tensor: PhantomData }
    }

    /// Names a tensor in the host's memory.
    pub const fn of(tensor: &'a mut [T]) -> Self {
        Self { first: tensor.as_mut_ptr(), length: tensor.len(), tensor: PhantomData }
    }

    /// Returns the number of elements.
    pub const fn len(self) -> usize {
        self.length
    }

    /// Tells whether there is no element.
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }

    /// Writes an element; beyond the tensor nothing is written.
    ///
    /// # Safety
    ///
    /// No other thread of the launch reads or writes this element.
    #[inline(always)]
    pub unsafe fn write(self, index: usize, value: T) {
        if index < self.length {
            // SAFETY: within the tensor, and this thread's alone.
            unsafe { self.first.add(index).write(value) }
        }
    }

    /// Reads an element; `None` beyond the tensor.
    ///
    /// # Safety
    ///
    /// No other thread of the launch writes this element, and it has been written.
    #[inline(always)]
    pub unsafe fn read(self, index: usize) -> Option<T> {
        if index < self.length {
            // SAFETY: within the tensor, and this thread's alone.
            Some(unsafe { self.first.add(index).read() })
        } else {
            None
        }
    }
}

/// A structure of counters that all threads add to.
#[derive(Debug)]
pub struct Counters<'a, T> {
    first: *mut T,
    structure: PhantomData<&'a AtomicU64>,
}

impl<T> Clone for Counters<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Counters<'_, T> {}

impl<T> Counters<'_, T> {
    /// Names a structure; `None` of NULL.
    ///
    /// # Safety
    ///
    /// It is NULL, or a structure of integers, aligned to 8 bytes, that is there as long as this is
    /// and that nobody reads or writes but through this, its copies and its equals.
    pub unsafe fn new(structure: *mut T) -> Option<Self> {
        const { assert!(align_of::<T>() == 8 && size_of::<T>().is_multiple_of(8)) };
        if structure.is_null() {
            return None;
        }
        Some(Self { first: structure, structure: PhantomData })
    }

    /// Adds to a word of 64 bits; beyond the structure nothing is added.
    #[inline(always)]
    pub fn add(self, word: usize, count: u64) {
        if count > 0 && word < size_of::<T>() / 8 {
            // SAFETY: within the structure, aligned, and only accessed atomically.
            let counter = unsafe { AtomicU64::from_ptr(self.first.cast::<u64>().add(word)) };
            counter.fetch_add(count, Relaxed);
        }
    }

    /// Adds `significand * 2^position` to an integer of so many words, or subtracts it where
    /// `negative`: in two's complement, least significant word first, from the word `first` on.
    ///
    /// A carry is handed on by whoever caused it, so that the words are right when all threads are
    /// done, whatever their order.  It is what `ExactSum::add` does for one thread.
    #[inline(always)]
    pub fn add_exact<const WORDS: usize>(
        self,
        first: usize,
        significand: u64,
        position: u32,
        negative: bool,
    ) {
        let (place, offset) = ((position / 64) as usize, position % 64);
        let wide = u128::from(significand) << offset;
        // Of the complement, and of the sum.
        let (mut one, mut carry) = (negative, false);
        for word in 0..WORDS {
            let part = match word {
                _ if word == place => wide as u64,
                _ if word == place + 1 => (wide >> 64) as u64,
                _ => 0,
            };
            let complement = if negative { !part } else { part };
            let (part, wraps) = complement.overflowing_add(one.into());
            one = wraps;
            let (more, wraps) = part.overflowing_add(carry.into());
            carry = wraps;
            let word = first + word;
            if more > 0 && word < size_of::<T>() / 8 {
                // SAFETY: as in `add`.
                let word = unsafe { AtomicU64::from_ptr(self.first.cast::<u64>().add(word)) };
                carry |= word.fetch_add(more, Relaxed).checked_add(more).is_none();
            }
        }
    }

    /// Replaces a word of 32 bits by a larger one; beyond the structure nothing is replaced.
    #[inline(always)]
    pub fn raise(self, word: usize, value: u32) {
        if word < size_of::<T>() / 4 {
            // SAFETY: as above.
            let maximum = unsafe { AtomicU32::from_ptr(self.first.cast::<u32>().add(word)) };
            maximum.fetch_max(value, Relaxed);
        }
    }

    /// Replaces a word of 32 bits by a smaller one; beyond the structure nothing is replaced.
    #[inline(always)]
    pub fn lower(self, word: usize, value: u32) {
        if word < size_of::<T>() / 4 {
            // SAFETY: as above.
            let minimum = unsafe { AtomicU32::from_ptr(self.first.cast::<u32>().add(word)) };
            minimum.fetch_min(value, Relaxed);
        }
    }
}
