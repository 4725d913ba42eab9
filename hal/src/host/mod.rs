//! Devices in host memory: what all of them do alike, and what they read their operands with.

mod scaler;
mod sink;

use core::fmt;

use adaloss_core::apply::ApplyError;

use crate::{
    device::{Capabilities, Device},
    error::{Error, ErrorKind, Misfit},
    plain::Plain,
    space::HostSpace,
};

pub use sink::Sink;

/// A device whose memory is the host's: it names elements by `&[T]` and `&mut [T]`.
///
/// An implementation is a [`Device`] as well.  `HostHeap`, with the feature `alloc`, makes it a
/// [`Memory`](crate::Memory) too.
///
/// # Examples
///
/// ```
/// use adaloss_hal::{AddressSpace, Capabilities, Device, HostMemory, HostSpace, HostError};
/// struct Mine;
///
/// impl HostMemory for Mine {
///     type Error = HostError;
///
///     fn can_do(&self) -> Capabilities {
///         Capabilities::ALL
///     }
/// }
///
/// let mut to = [0.0_f32; 2];
/// Mine.write(&[1.0, 2.0], &mut to[..])?;
/// assert_eq!(HostSpace::part(&to[..], 1..2), Some(&[2.0][..]));
/// # Ok::<(), HostError>(())
/// ```
pub trait HostMemory {
    /// What can go wrong; [`HostError::Length`] where the lengths of a copy differ.
    type Error: Error + From<HostError>;

    /// Returns what the device can do, for [`Device::capabilities`].
    fn can_do(&self) -> Capabilities;
}

impl<D: HostMemory> Device for D {
    type Error = D::Error;
    type Space = HostSpace;

    fn capabilities(&self) -> Capabilities {
        self.can_do()
    }

    fn read<T: Plain>(&mut self, from: &[T], to: &mut [T]) -> Result<(), D::Error> {
        copy("a copy from the device", from, to)
    }

    fn is_off(&mut self, when: &[u32]) -> Result<bool, D::Error> {
        Ok(when == [0])
    }

    fn write<T: Plain>(&mut self, from: &[T], to: &mut [T]) -> Result<(), D::Error> {
        copy("a copy to the device", from, to)
    }
}

fn copy<T: Plain, E: From<HostError>>(
    what: &'static str,
    from: &[T],
    to: &mut [T],
) -> Result<(), E> {
    same_length(what, from.len(), to.len())?;
    to.copy_from_slice(from);
    Ok(())
}

/// A device in host memory whose buffers are vectors.
///
/// An implementation is a [`Memory`](crate::Memory) as well; there is no method to write.
#[cfg(feature = "alloc")]
pub trait HostHeap: HostMemory {}

#[cfg(feature = "alloc")]
impl<D: HostHeap> crate::device::Memory for D {
    type Buffer<T: Plain> = alloc::vec::Vec<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<alloc::vec::Vec<T>, D::Error> {
        Ok(filled(length, T::zeroed())?)
    }

    fn view<T: Plain>(buffer: &alloc::vec::Vec<T>) -> &[T] {
        buffer
    }

    fn view_mut<T: Plain>(buffer: &mut alloc::vec::Vec<T>) -> &mut [T] {
        buffer
    }
}

/// What can go wrong on a device in host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostError {
    /// An operand or a result has the wrong number of elements.
    Length {
        /// Which one.
        what: &'static str,
        /// The elements that the operation needs.
        expected: usize,
        /// The elements it was given.
        found: usize,
    },
    /// The operands of an operation do not fit.
    Misfit(Misfit),
    /// Values cannot be narrowed as the epilogue says.
    Apply(ApplyError),
    /// The heap is exhausted.
    Memory {
        /// The elements that were asked for.
        elements: usize,
    },
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { what, expected, found } => {
                write!(f, "{what} needs {expected} elements and has {found}")
            }
            Self::Misfit(misfit) => misfit.fmt(f),
            Self::Apply(error) => error.fmt(f),
            Self::Memory { elements } => {
                write!(f, "the heap has no memory for {elements} elements; free or shrink tensors")
            }
        }
    }
}

impl core::error::Error for HostError {}

impl Error for HostError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Length { .. } => ErrorKind::Shape,
            Self::Misfit(misfit) => misfit.kind(),
            Self::Apply(ApplyError::Length { .. }) => ErrorKind::Shape,
            Self::Apply(ApplyError::Encoding { .. }) => ErrorKind::Format,
            Self::Memory { .. } => ErrorKind::Memory,
        }
    }

    fn misfit(misfit: Misfit) -> Self {
        Self::Misfit(misfit)
    }
}

impl From<ApplyError> for HostError {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

/// Returns an error where two lengths differ that must not.
pub fn same_length(what: &'static str, expected: usize, found: usize) -> Result<(), HostError> {
    if expected == found { Ok(()) } else { Err(HostError::Length { what, expected, found }) }
}

/// Returns the one element of a slice.
pub fn one<'a, T>(what: &'static str, slice: &'a [T]) -> Result<&'a T, HostError> {
    same_length(what, 1, slice.len())?;
    slice.first().ok_or(HostError::Length { what, expected: 1, found: 0 })
}

/// Returns the one element of a writable slice.
pub fn one_mut<'a, T>(what: &'static str, slice: &'a mut [T]) -> Result<&'a mut T, HostError> {
    same_length(what, 1, slice.len())?;
    slice.first_mut().ok_or(HostError::Length { what, expected: 1, found: 0 })
}

/// Returns a vector of equal elements, or an error where the heap is exhausted.
#[cfg(feature = "alloc")]
pub fn filled<T: Copy>(length: usize, value: T) -> Result<alloc::vec::Vec<T>, HostError> {
    let mut buffer = alloc::vec::Vec::new();
    buffer.try_reserve_exact(length).map_err(|_| HostError::Memory { elements: length })?;
    buffer.resize(length, value);
    Ok(buffer)
}
