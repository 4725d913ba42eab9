//! What every device has: references to its memory, and one call that may wait.

use crate::{error::Error, plain::Plain, space::AddressSpace};

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

    /// Tells whether the host can see that an operation with this predicate is to do nothing, so that
    /// [`execute`](crate::Run::execute) is not called.
    ///
    /// A device whose own operations look at the predicate returns false and does not wait; one that has no override
    /// reads it.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn is_off(&mut self, when: Ref<'_, Self, u32>) -> Result<bool, Self::Error> {
        let mut word = [0];
        self.read(when, &mut word)?;
        Ok(word == [0])
    }

    /// Copies from the host; `from` may be changed again when this returns.
    ///
    /// # Errors
    ///
    /// The lengths differ.
    fn write<T: Plain>(&mut self, from: &[T], to: Mut<'_, Self, T>) -> Result<(), Self::Error>;
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
