//! What every device has: references to its memory, and one call that may wait.

use core::{fmt, ops::Range};

use crate::{Misfit, Plain};

/// A machine that holds tensors: a CPU, a GPU, an accelerator behind a bus.
///
/// Operations are given by the traits of this crate that the device implements as well.  Their
/// results go to memory that the caller names; they may return before the work is done.  Work
/// is done in the order of the calls.  Only [`read`](Self::read) waits, so that a wrapper which
/// counts reads proves the absence of host synchronisation, and a step without reads can be
/// captured and replayed.
pub trait Device {
    /// What can go wrong.
    type Error: Error;
    /// How it names elements in its memory.
    type Space: AddressSpace;

    /// Returns what the device can do.
    fn capabilities(&self) -> Capabilities;

    /// Waits for all work on `from` and copies it to the host.
    ///
    /// # Errors
    ///
    /// The lengths differ, or work that was begun earlier failed.
    fn read<T: Plain>(&mut self, from: Ref<'_, Self, T>, to: &mut [T]) -> Result<(), Self::Error>;

    /// Copies from the host; `from` may be changed again when this returns.
    ///
    /// # Errors
    ///
    /// The lengths differ.
    fn write<T: Plain>(&mut self, from: &[T], to: Mut<'_, Self, T>) -> Result<(), Self::Error>;
}

/// How elements in some kind of memory are named: `&[T]` in that of the host, address and length elsewhere.
///
/// It stands apart from [`Device`] so that devices in the same memory share it, one that wraps another among them: the
/// operands of an operation are the same for all of these.
pub trait AddressSpace: 'static {
    /// Names elements for reading.
    type Ref<'a, T: Plain>: Copy;
    /// Names elements that may be written, exclusively.
    type Mut<'a, T: Plain>;

    /// Returns the number of elements.
    fn len<T: Plain>(elements: Self::Ref<'_, T>) -> usize;

    /// Names a part of some elements, or `None` where the range is not within them.
    fn part<T: Plain>(elements: Self::Ref<'_, T>, range: Range<usize>) -> Option<Self::Ref<'_, T>>;

    /// Names a part of some writable elements, or `None` where the range is not within them.
    fn part_mut<T: Plain>(
        elements: Self::Mut<'_, T>,
        range: Range<usize>,
    ) -> Option<Self::Mut<'_, T>>;

    /// Names writable elements for reading.
    fn shared<'a, T: Plain>(elements: &'a Self::Mut<'_, T>) -> Self::Ref<'a, T>;

    /// Names the same elements for a shorter time.
    ///
    /// A reference to `&[T]` shortens by itself; the compiler cannot know it of every name.
    fn reborrow<'short, 'long: 'short, T: Plain>(
        elements: Self::Ref<'long, T>,
    ) -> Self::Ref<'short, T>;

    /// Keeps the name of the first `length` elements, of all where there are fewer.
    fn truncate<T: Plain>(elements: &mut Self::Mut<'_, T>, length: usize);

    /// Names the same writable elements for a shorter time, so that they can be used again.
    fn reborrow_mut<'a, T: Plain>(elements: &'a mut Self::Mut<'_, T>) -> Self::Mut<'a, T>;
}

/// Elements in the memory of the device `D`.
pub type Ref<'a, D, T> = <<D as Device>::Space as AddressSpace>::Ref<'a, T>;

/// Elements in the memory of the device `D` that may be written.
pub type Mut<'a, D, T> = <<D as Device>::Space as AddressSpace>::Mut<'a, T>;

/// A device that can be asked for memory.
///
/// It stands apart from [`Device`] so that firmware without a heap needs none.
pub trait Memory: Device {
    /// Elements in the device's memory, freed when dropped.
    type Buffer<T: Plain>;

    /// Allocates `length` elements of zero bytes.
    ///
    /// # Errors
    ///
    /// The memory is exhausted.
    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<Self::Buffer<T>, Self::Error>;

    /// Names a buffer's elements for reading.
    fn view<T: Plain>(buffer: &Self::Buffer<T>) -> Ref<'_, Self, T>;

    /// Names a buffer's elements for writing.
    fn view_mut<T: Plain>(buffer: &mut Self::Buffer<T>) -> Mut<'_, Self, T>;
}

/// What a device can do, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Subnormal operands and results are numbers like any other.  Otherwise low-precision ones are
    /// zero, f32 ones may be, and a format that does not flush is refused.
    pub subnormals: bool,
    /// Stochastic rounding; otherwise it is refused.
    pub stochastic_rounding: bool,
    /// The order in which a product's terms are summed is that of their index, so that results are
    /// bit for bit those of the portable device.
    pub sequential_sums: bool,
}

impl Capabilities {
    /// Everything, in the order of the index: what the portable device does.
    pub const ALL: Self =
        Self { subnormals: true, stochastic_rounding: true, sequential_sums: true };
}

/// What can go wrong on a device.
///
/// As in embedded-hal, a device has an error type of its own, and generic code asks for the kind.
pub trait Error: core::error::Error + Sized {
    /// Returns the kind that generic code can act on.
    fn kind(&self) -> ErrorKind;

    /// Says that the operands of an operation do not fit.
    fn misfit(misfit: Misfit) -> Self;
}

/// The kinds of errors that generic code can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Operands or results do not have the lengths that the operation needs.
    Shape,
    /// The configured format, rounding or overflow is not that of the operands, or is not one the
    /// device has.
    Format,
    /// The device's memory is exhausted.
    Memory,
    /// The device failed, or the connection to it.
    Hardware,
    /// Anything else; the error's text says more.
    Other,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "shape mismatch",
            Self::Format => "format mismatch",
            Self::Memory => "out of device memory",
            Self::Hardware => "device failure",
            Self::Other => "device error",
        })
    }
}
