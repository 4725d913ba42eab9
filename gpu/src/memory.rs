//! The GPU's memory, named by addresses.

use std::{fmt, marker::PhantomData, ops::Range};

use cudarc::driver::CudaSlice;

use crate::GpuError;

/// Elements in the GPU's memory.
pub struct Elements<'a, T> {
    address: u64,
    count: usize,
    memory: PhantomData<&'a [T]>,
}

impl<T> Clone for Elements<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Elements<'_, T> {}

impl<T> fmt::Debug for Elements<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements at {:#x}", self.count, self.address)
    }
}

impl<'a, T> Elements<'a, T> {
    /// Names elements that a runtime of one's own allocated.
    ///
    /// # Safety
    ///
    /// So many initialised elements are in memory of the device's context at the address, aligned as
    /// the type is, for as long as `'a`; nothing writes them meanwhile but work that the device's
    /// stream waits for.
    pub const unsafe fn from_raw(address: u64, count: usize) -> Self {
        Self { address, count, memory: PhantomData }
    }

    /// Returns the number of elements.
    pub const fn count(self) -> usize {
        self.count
    }

    /// Returns the address of the first element.
    pub const fn address(self) -> u64 {
        self.address
    }

    /// Returns the address of one element; there must be no more and no fewer.
    pub(crate) fn one(self, what: &'static str) -> Result<u64, GpuError> {
        GpuError::length(what, 1, self.count)?;
        Ok(self.address)
    }

    pub(crate) fn part(self, range: Range<usize>) -> Option<Self> {
        let count = range.end.checked_sub(range.start)?;
        if range.end > self.count {
            return None;
        }
        // Within what was allocated, and so within the addresses.
        let address = self.address + (range.start * size_of::<T>()) as u64;
        Some(Self { address, count, ..self })
    }
}

/// Elements in the GPU's memory that may be written: they have no other name meanwhile.
pub struct ElementsMut<'a, T>(Elements<'a, T>);

impl<T> fmt::Debug for ElementsMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a, T> ElementsMut<'a, T> {
    /// Names elements that a runtime of one's own allocated.
    ///
    /// # Safety
    ///
    /// As for [`Elements::from_raw`]; and nothing reads them but through this.
    pub const unsafe fn from_raw(address: u64, count: usize) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Elements::from_raw(address, count) })
    }

    /// Names them for reading.
    pub const fn shared(&self) -> Elements<'_, T> {
        self.0
    }

    pub(crate) fn reborrow(&mut self) -> ElementsMut<'_, T> {
        ElementsMut(self.0)
    }

    pub(crate) fn part(self, range: Range<usize>) -> Option<Self> {
        self.0.part(range).map(Self)
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.0.count = self.0.count.min(length);
    }
}

/// Elements that were allocated on the GPU, and are freed with this.
#[derive(Debug)]
pub struct Buffer<T> {
    /// `None` where there are no elements.
    bytes: Option<CudaSlice<u8>>,
    address: u64,
    count: usize,
    elements: PhantomData<T>,
}

impl<T> Buffer<T> {
    pub(crate) const fn new(bytes: Option<CudaSlice<u8>>, address: u64, count: usize) -> Self {
        Self { bytes, address, count, elements: PhantomData }
    }

    /// Names the elements.
    pub const fn view(&self) -> Elements<'_, T> {
        Elements { address: self.address, count: self.count, memory: PhantomData }
    }

    /// Names the elements for writing.
    pub const fn view_mut(&mut self) -> ElementsMut<'_, T> {
        ElementsMut(Elements { address: self.address, count: self.count, memory: PhantomData })
    }

    /// Returns the bytes that are allocated.
    pub fn bytes(&self) -> usize {
        self.bytes.as_ref().map_or(0, CudaSlice::num_bytes)
    }
}
