//! The driver: copies, and memory.

use core::{cell::Cell, ops::Range, slice};

use adaloss_hal::{AddressSpace, Capabilities, Device, Memory, Plain};

use crate::{AcceleratorError, Buffer, Bus, Name, NameMut, Pool, Register, memory::BLOCK, status};

/// Elements that are on their way through the microcontroller at a time.
pub(crate) const CHUNK: usize = 64;

/// An accelerator behind a bus, as a device.
#[derive(Debug)]
pub struct Accelerator<'p, B> {
    pub(crate) bus: B,
    pool: &'p [Cell<bool>],
    /// Sums of a join, on their way to the accelerator.
    pub(crate) sums: Buffer<'p, f32>,
}

impl<'p, B: Bus> Accelerator<'p, B> {
    /// Takes an accelerator and the pool of its memory.
    ///
    /// # Errors
    ///
    /// The memory is too small for 256 bytes of the driver's own.
    pub fn new<const BLOCKS: usize>(
        bus: B,
        pool: &'p Pool<BLOCKS>,
    ) -> Result<Self, AcceleratorError> {
        let pool = &pool.taken[..];
        Ok(Self { bus, pool, sums: Buffer::take(pool, CHUNK)? })
    }

    /// Waits for the command under way.
    pub(crate) fn wait(&mut self) -> Result<(), AcceleratorError> {
        loop {
            match self.bus.load(Register::Status) {
                status::IDLE => return Ok(()),
                status::BUSY => core::hint::spin_loop(),
                _ => return Err(AcceleratorError::Refused),
            }
        }
    }

    /// Returns the one element that a name stands for.
    pub(crate) fn one<T: Plain>(
        &mut self,
        what: &'static str,
        from: Name<'_, T>,
    ) -> Result<T, AcceleratorError> {
        same_length(what, 1, from.len())?;
        let mut value = T::zeroed();
        self.read(from, slice::from_mut(&mut value))?;
        Ok(value)
    }
}

/// Returns an error where two lengths differ that must not.
pub(crate) fn same_length(
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), AcceleratorError> {
    if expected == found { Ok(()) } else { Err(AcceleratorError::Length { what }) }
}

impl<'p, B: Bus> Device for Accelerator<'p, B> {
    type Error = AcceleratorError;
    type Space = AcceleratorSpace;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::ALL;
        capabilities.subnormals = false;
        capabilities.stochastic_rounding = false;
        capabilities
    }

    fn read<T: Plain>(&mut self, from: Name<'_, T>, to: &mut [T]) -> Result<(), AcceleratorError> {
        same_length("a copy from the accelerator", from.len(), to.len())?;
        self.wait()?;
        #[allow(unsafe_code, reason = "the bytes of plain values")]
        // SAFETY: the slice covers exactly the elements of `to`, which is borrowed for as long.  The
        // bytes that the bus writes are those of elements of type T: names are made by `Buffer` for
        // one type, memory is zeroed when it is taken, which is a legal value of plain types, and
        // written only by `write::<T>` and by commands that are given the address of a T.
        let bytes =
            unsafe { slice::from_raw_parts_mut(to.as_mut_ptr().cast::<u8>(), size_of_val(to)) };
        Ok(self.bus.read(from.address(), bytes)?)
    }

    fn write<T: Plain>(&mut self, from: &[T], to: NameMut<'_, T>) -> Result<(), AcceleratorError> {
        let to = to.shared();
        same_length("a copy to the accelerator", from.len(), to.len())?;
        self.wait()?;
        #[allow(unsafe_code, reason = "the bytes of plain values")]
        // SAFETY: the slice covers exactly the elements of `from`, which is borrowed for as long, and
        // every byte of a plain value is initialised.
        let bytes = unsafe { slice::from_raw_parts(from.as_ptr().cast::<u8>(), size_of_val(from)) };
        Ok(self.bus.write(to.address(), bytes)?)
    }
}

/// The accelerator's memory, as operands name it.
#[derive(Clone, Copy, Debug)]
pub struct AcceleratorSpace;

impl AddressSpace for AcceleratorSpace {
    type Ref<'a, T: Plain> = Name<'a, T>;
    type Mut<'a, T: Plain> = NameMut<'a, T>;

    fn len<T: Plain>(elements: Name<'_, T>) -> usize {
        elements.len()
    }

    fn part<T: Plain>(elements: Self::Ref<'_, T>, range: Range<usize>) -> Option<Self::Ref<'_, T>> {
        elements.part(range)
    }

    fn part_mut<T: Plain>(
        elements: Self::Mut<'_, T>,
        range: Range<usize>,
    ) -> Option<Self::Mut<'_, T>> {
        elements.part(range)
    }

    fn shared<'a, T: Plain>(elements: &'a NameMut<'_, T>) -> Name<'a, T> {
        elements.shared()
    }

    fn reborrow<'short, 'long: 'short, T: Plain>(elements: Name<'long, T>) -> Name<'short, T> {
        elements
    }

    fn truncate<T: Plain>(elements: &mut NameMut<'_, T>, length: usize) {
        elements.truncate(length);
    }

    fn reborrow_mut<'a, T: Plain>(elements: &'a mut NameMut<'_, T>) -> NameMut<'a, T> {
        elements.reborrow()
    }
}

impl<'p, B: Bus> Memory for Accelerator<'p, B> {
    type Buffer<T: Plain> = Buffer<'p, T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<Buffer<'p, T>, AcceleratorError> {
        let buffer = Buffer::take(self.pool, length)?;
        self.wait()?;
        // Whole blocks: no other buffer has a part of one.  A value of zero bytes is what a plain type
        // is zeroed to.
        for block in buffer.blocks() {
            self.bus.write(block, &[0; BLOCK])?;
        }
        Ok(buffer)
    }

    fn view<'b, T: Plain>(buffer: &'b Buffer<'p, T>) -> Name<'b, T> {
        buffer.name()
    }

    fn view_mut<'b, T: Plain>(buffer: &'b mut Buffer<'p, T>) -> NameMut<'b, T> {
        buffer.name_mut()
    }
}
