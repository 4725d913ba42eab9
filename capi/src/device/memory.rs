//! A table of C's as a device of the HAL: its memory, named by addresses.

use core::{any::TypeId, ffi::c_void, fmt, marker::PhantomData, ops::Range};

use adaloss_core::{
    policy::{Cell, Trigger},
    statistics::Histogram,
};
use adaloss_hal::{
    AddressSpace, Capabilities, Device, Error, ErrorKind, Memory, Misfit, MisfitCause, Plain,
};

use super::{
    ADALOSS_SEQUENTIAL_SUMS, ADALOSS_STOCHASTIC_ROUNDING, ADALOSS_SUBNORMALS, adaloss_device,
    adaloss_device_free_function,
};
use crate::{
    ADALOSS_ERROR_ALIGNMENT, ADALOSS_ERROR_BRANCHES, ADALOSS_ERROR_DEVICE, ADALOSS_ERROR_FORMAT,
    ADALOSS_ERROR_HARDWARE, ADALOSS_ERROR_LENGTH, ADALOSS_ERROR_MEMORY, ADALOSS_ERROR_OPERATION,
    ADALOSS_ERROR_SHAPE, ADALOSS_OK, adaloss_cell, adaloss_code, adaloss_histogram,
    code::{Refused, text},
    memory::shared,
};

/// What addresses of memory are multiples of: the alignment of the strictest structure.
pub(super) const ALIGNMENT: u64 = 8;

/// A device of C's.
///
/// The table is a copy, so that nothing the functions do can change it while it is in use.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) table: adaloss_device,
}

impl Foreign {
    /// Takes a device.
    ///
    /// # Safety
    ///
    /// If the pointer is neither NULL nor misaligned, it points to a table whose functions are NULL
    /// or may be called as the header says, with its context, for as long as this and its buffers
    /// live.
    pub(super) unsafe fn new(device: *const adaloss_device) -> Result<Self, Refused> {
        // SAFETY: the caller's promise.
        let table = *unsafe { shared(device) }?;
        table.check()?;
        Ok(Self { table })
    }

    /// Copies so many values to an address.
    ///
    /// # Safety
    ///
    /// The pointer is that of so many values, which the device's function may read.
    pub(super) unsafe fn copy<T: Plain>(
        &self,
        from: *const T,
        count: usize,
        to: u64,
    ) -> Result<(), Refused> {
        let (write, bytes) = (function(self.table.write)?, count * size_of::<T>());
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the promise given to `new`, and the caller's; every byte of a plain value is initialised.
        done(unsafe { write(self.table.context, from.cast(), to, bytes) })
    }
}

/// Finds a function of the table.
pub(super) fn function<T>(entry: Option<T>) -> Result<T, Refused> {
    entry.ok_or(Refused(ADALOSS_ERROR_OPERATION))
}

/// Takes what a function of the table returned.
pub(super) fn done(code: adaloss_code) -> Result<(), Refused> {
    if code == ADALOSS_OK { Ok(()) } else { Err(Refused(code)) }
}

/// Refuses two lengths that differ.
pub(super) fn same(expected: usize, found: usize) -> Result<(), Refused> {
    if expected == found { Ok(()) } else { Err(Refused(ADALOSS_ERROR_LENGTH)) }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(self.0).to_str().unwrap_or_default())
    }
}

impl core::error::Error for Refused {}

impl Error for Refused {
    fn kind(&self) -> ErrorKind {
        match self.0 {
            ADALOSS_ERROR_LENGTH | ADALOSS_ERROR_SHAPE | ADALOSS_ERROR_BRANCHES => ErrorKind::Shape,
            ADALOSS_ERROR_FORMAT => ErrorKind::Format,
            ADALOSS_ERROR_MEMORY => ErrorKind::Memory,
            ADALOSS_ERROR_HARDWARE => ErrorKind::Hardware,
            _ => ErrorKind::Other,
        }
    }

    fn misfit(misfit: Misfit) -> Self {
        Self(match misfit.cause {
            MisfitCause::Length { .. } => ADALOSS_ERROR_LENGTH,
            MisfitCause::Encoding { .. } | MisfitCause::Unsupported(_) => ADALOSS_ERROR_FORMAT,
            _ => ADALOSS_ERROR_SHAPE,
        })
    }
}

/// Elements in the device's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a, T> {
    address: u64,
    count: usize,
    memory: PhantomData<&'a [T]>,
}

impl<T> Elements<'_, T> {
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Returns the address of the first element.
    pub(super) const fn address(&self) -> u64 {
        self.address
    }

    /// Returns the address of so many elements; there must be no more and no fewer.
    pub(super) fn address_of(&self, count: usize) -> Result<u64, Refused> {
        same(count, self.count)?;
        Ok(self.address)
    }

    fn part(self, range: Range<usize>) -> Option<Self> {
        let count = range.end.checked_sub(range.start)?;
        if range.end > self.count {
            return None;
        }
        // Within what was allocated, and what was allocated ends before the addresses do.
        let address = self.address + (range.start * size_of::<T>()) as u64;
        Some(Self { address, count, ..self })
    }
}

/// Elements that may be written: they have no other name meanwhile.
#[derive(Debug)]
pub(super) struct ElementsMut<'a, T>(Elements<'a, T>);

impl<T> ElementsMut<'_, T> {
    pub(super) const fn count(&self) -> usize {
        self.0.count
    }

    /// Returns the address of the first element.
    pub(super) const fn address(&self) -> u64 {
        self.0.address
    }

    /// Returns the address of so many elements; there must be no more and no fewer.
    pub(super) fn address_of(&self, count: usize) -> Result<u64, Refused> {
        self.0.address_of(count)
    }
}

/// Elements that the device allocated, and frees.
#[derive(Debug)]
pub(super) struct Buffer<T: 'static> {
    elements: Elements<'static, T>,
    context: *mut c_void,
    /// `None` where there are no elements, and nothing was allocated.
    free: adaloss_device_free_function,
}

impl<T: 'static> Drop for Buffer<T> {
    fn drop(&mut self) {
        let Elements { address, count, .. } = self.elements;
        if let Some(free) = self.free {
            // SAFETY: the promise given to `Foreign::new`; the memory is what `allocate` gave, and
            // every name of it has ended.
            unsafe { free(self.context, address, (count * size_of::<T>()) as u64) }
        }
    }
}

impl Device for Foreign {
    type Error = Refused;
    type Space = ForeignSpace;

    fn capabilities(&self) -> Capabilities {
        let has = |bit| self.table.capabilities & bit != 0;
        let mut capabilities = Capabilities::ALL;
        capabilities.subnormals = has(ADALOSS_SUBNORMALS);
        capabilities.stochastic_rounding = has(ADALOSS_STOCHASTIC_ROUNDING);
        capabilities.sequential_sums = has(ADALOSS_SEQUENTIAL_SUMS);
        capabilities
    }

    fn read<T: Plain>(&mut self, from: Elements<'_, T>, to: &mut [T]) -> Result<(), Refused> {
        let address = from.address_of(to.len())?;
        let (read, bytes) = (function(self.table.read)?, size_of_val(to));
        if bytes == 0 {
            return Ok(());
        }
        let place = to.as_mut_ptr();
        // SAFETY: the promise given to `Foreign::new`; the place has so many bytes.
        let code = unsafe { read(self.table.context, address, place.cast(), bytes) };
        // SAFETY: they were initialised before, whatever of them was written now.
        unsafe { mend(place, to.len()) }?;
        done(code)
    }

    fn write<T: Plain>(&mut self, from: &[T], to: ElementsMut<'_, T>) -> Result<(), Refused> {
        let address = to.address_of(from.len())?;
        // SAFETY: a slice, which is borrowed until this returns.
        unsafe { self.copy(from.as_ptr(), from.len(), address) }
    }
}

/// The memory of a device behind a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForeignSpace;

impl AddressSpace for ForeignSpace {
    type Ref<'a, T: Plain> = Elements<'a, T>;
    type Mut<'a, T: Plain> = ElementsMut<'a, T>;

    fn len<T: Plain>(elements: Elements<'_, T>) -> usize {
        elements.count
    }

    fn part<T: Plain>(elements: Self::Ref<'_, T>, range: Range<usize>) -> Option<Self::Ref<'_, T>> {
        elements.part(range)
    }

    fn part_mut<T: Plain>(
        elements: Self::Mut<'_, T>,
        range: Range<usize>,
    ) -> Option<Self::Mut<'_, T>> {
        elements.0.part(range).map(ElementsMut)
    }

    fn shared<'a, T: Plain>(elements: &'a ElementsMut<'_, T>) -> Elements<'a, T> {
        elements.0
    }

    fn reborrow<'short, 'long: 'short, T: Plain>(
        elements: Elements<'long, T>,
    ) -> Elements<'short, T> {
        elements
    }

    fn truncate<T: Plain>(elements: &mut ElementsMut<'_, T>, length: usize) {
        elements.0.count = elements.0.count.min(length);
    }

    fn reborrow_mut<'a, T: Plain>(elements: &'a mut ElementsMut<'_, T>) -> ElementsMut<'a, T> {
        ElementsMut(elements.0)
    }
}

impl Memory for Foreign {
    type Buffer<T: Plain> = Buffer<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<Buffer<T>, Refused> {
        let (context, mut address) = (self.table.context, 0);
        let elements = |address| Elements { address, count: length, memory: PhantomData };
        let bytes = length.checked_mul(size_of::<T>()).ok_or(Refused(ADALOSS_ERROR_MEMORY))? as u64;
        if bytes == 0 {
            return Ok(Buffer { elements: elements(0), context, free: None });
        }
        let allocate = function(self.table.allocate)?;
        // SAFETY: the promise given to `Foreign::new`.
        done(unsafe { allocate(context, bytes, &mut address) })?;
        // From here on it is freed, whatever becomes of it.
        let buffer = Buffer { elements: elements(address), context, free: self.table.free };
        if !address.is_multiple_of(ALIGNMENT) {
            return Err(Refused(ADALOSS_ERROR_ALIGNMENT));
        }
        if address.checked_add(bytes).is_none() {
            return Err(Refused(ADALOSS_ERROR_DEVICE));
        }
        Ok(buffer)
    }

    fn view<T: Plain>(buffer: &Buffer<T>) -> Elements<'_, T> {
        buffer.elements
    }

    fn view_mut<T: Plain>(buffer: &mut Buffer<T>) -> ElementsMut<'_, T> {
        ElementsMut(buffer.elements)
    }
}

/// Replaces values that a device read and that their type does not have, by those of zero bytes.
///
/// # Safety
///
/// The pointer is that of a slice of so many values, of which every byte is initialised.
unsafe fn mend<T: Plain>(values: *mut T, count: usize) -> Result<(), Refused> {
    let mut mended = Ok(());
    for nth in 0..count {
        // SAFETY: within the slice, by the caller's promise; nothing reads the value as a `T` before
        // it is seen to be one.
        unsafe {
            let value = values.add(nth);
            if let Err(refused) = check(value) {
                value.write(T::zeroed());
                mended = Err(refused);
            }
        }
    }
    mended
}

/// Refuses bytes that a type cannot have in memory.
///
/// The types of core that are named here have enumerations and truth values among their fields.  All
/// others that the suite and the operations exchange are made of integers and floats.  Whether the
/// numbers are right is for those to say who compare them.
///
/// # Safety
///
/// The pointer is aligned, and every byte of what it points to is initialised.
unsafe fn check<T: Plain>(value: *const T) -> Result<(), Refused> {
    let this = TypeId::of::<T>();
    let is_trigger = |byte| byte <= Trigger::Overflow as u8;
    // SAFETY: the type was just seen to be the one of core whose bytes the header's has, and the
    // header's has all bytes.
    let is_possible = unsafe {
        if this == TypeId::of::<Cell>() {
            is_trigger((*value.cast::<adaloss_cell>()).trigger)
        } else if this == TypeId::of::<Histogram>() {
            (*value.cast::<adaloss_histogram>()).narrowing.parse().is_ok()
        } else {
            true
        }
    };
    if is_possible { Ok(()) } else { Err(Refused(ADALOSS_ERROR_DEVICE)) }
}
