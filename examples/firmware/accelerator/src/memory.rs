//! The accelerator's memory: who has which part of it.

use core::{cell::Cell, marker::PhantomData, ops::Range};

use crate::AcceleratorError;

/// Bytes that are given out at a time.
pub(crate) const BLOCK: usize = 64;

/// Which blocks of 64 bytes of an accelerator's memory are in use.
#[derive(Debug)]
pub struct Pool<const BLOCKS: usize> {
    pub(crate) taken: [Cell<bool>; BLOCKS],
}

impl<const BLOCKS: usize> Pool<BLOCKS> {
    /// Makes a pool over the first `64 * BLOCKS` bytes, all of them free.
    pub const fn new() -> Self {
        Self { taken: [const { Cell::new(false) }; BLOCKS] }
    }
}

impl<const BLOCKS: usize> Default for Pool<BLOCKS> {
    fn default() -> Self {
        Self::new()
    }
}

/// Elements in the accelerator's memory, given back when dropped.
#[derive(Debug)]
pub struct Buffer<'p, T> {
    blocks: &'p [Cell<bool>],
    name: Name<'p, T>,
}

impl<'p, T> Buffer<'p, T> {
    /// Takes the first blocks that are free and lie together.
    pub(crate) fn take(pool: &'p [Cell<bool>], length: usize) -> Result<Self, AcceleratorError> {
        let bytes = length.saturating_mul(size_of::<T>());
        let exhausted = AcceleratorError::Memory { bytes };
        let count = bytes.div_ceil(BLOCK);
        let first = (0..pool.len().saturating_sub(count) + 1)
            .find(|&first| pool.iter().skip(first).take(count).all(|taken| !taken.get()))
            .ok_or(exhausted)?;
        let blocks = pool.get(first..first + count).ok_or(exhausted)?;
        blocks.iter().for_each(|taken| taken.set(true));
        Ok(Self { blocks, name: Name::new((first * BLOCK) as u32, length as u32) })
    }

    /// Returns the addresses of its blocks.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = u32> {
        (self.name.address..).step_by(BLOCK).take(self.blocks.len())
    }

    pub(crate) fn name(&self) -> Name<'_, T> {
        self.name
    }

    pub(crate) fn name_mut(&mut self) -> NameMut<'_, T> {
        NameMut { name: self.name, exclusive: PhantomData }
    }
}

impl<T> Drop for Buffer<'_, T> {
    fn drop(&mut self) {
        self.blocks.iter().for_each(|taken| taken.set(false));
    }
}

/// Names elements in the accelerator's memory.
#[derive(Debug)]
pub struct Name<'a, T> {
    address: u32,
    length: u32,
    elements: PhantomData<&'a T>,
}

impl<T> Clone for Name<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Name<'_, T> {}

impl<T> Name<'_, T> {
    const fn new(address: u32, length: u32) -> Self {
        Self { address, length, elements: PhantomData }
    }

    /// Returns the address of the first element, in bytes.
    pub const fn address(self) -> u32 {
        self.address
    }

    /// Returns the number of elements.
    pub const fn len(self) -> usize {
        self.length as usize
    }

    /// Returns whether there are none.
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }

    pub(crate) fn part(self, range: Range<usize>) -> Option<Self> {
        let length = range.end.checked_sub(range.start)?;
        let first = (range.start * size_of::<T>()) as u32;
        (range.end <= self.len()).then_some(Self::new(self.address + first, length as u32))
    }

    /// Returns the parts of some elements each, and the rest.
    pub(crate) fn chunks(self, elements: usize) -> impl Iterator<Item = Self> {
        let firsts = (0..self.len()).step_by(elements);
        firsts.filter_map(move |first| self.part(first..self.len().min(first + elements)))
    }
}

/// Names elements that may be written; there is one such name at a time.
#[derive(Debug)]
pub struct NameMut<'a, T> {
    name: Name<'a, T>,
    exclusive: PhantomData<&'a mut T>,
}

impl<'a, T> NameMut<'a, T> {
    /// Returns the name for reading, for as long as this one is not used.
    pub fn shared(&self) -> Name<'_, T> {
        self.name
    }

    pub(crate) fn reborrow(&mut self) -> NameMut<'_, T> {
        NameMut { name: self.name, exclusive: PhantomData }
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.name.length = self.name.length.min(length as u32);
    }

    pub(crate) fn part(self, range: Range<usize>) -> Option<Self> {
        let name = self.name.part(range)?;
        Some(NameMut { name, exclusive: PhantomData })
    }
}
