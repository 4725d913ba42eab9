//! Devices in host memory: what all of them do alike.

use core::ops::Range;

#[cfg(feature = "alloc")]
use crate::portable::filled;
use crate::{
    AddressSpace, Capabilities, Device, Error, Plain,
    portable::{PortableError, same_length},
};

/// A device whose memory is the host's: it names elements by `&[T]` and `&mut [T]`.
///
/// Whoever implements it has [`Device`].  `HostHeap`, with the feature `alloc`, brings
/// [`Memory`](crate::Memory) as well.
///
/// # Examples
///
/// ```
/// use adaloss_hal::{AddressSpace, Capabilities, Device, HostMemory, HostSpace, portable::PortableError};
/// struct Mine;
///
/// impl HostMemory for Mine {
///     type Error = PortableError;
///
///     fn can_do(&self) -> Capabilities {
///         Capabilities::ALL
///     }
/// }
///
/// let mut to = [0.0_f32; 2];
/// Mine.write(&[1.0, 2.0], &mut to[..])?;
/// assert_eq!(HostSpace::part(&to[..], 1..2), Some(&[2.0][..]));
/// # Ok::<(), PortableError>(())
/// ```
pub trait HostMemory {
    /// What can go wrong; [`PortableError::Length`] where the lengths of a copy differ.
    type Error: Error + From<PortableError>;

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

    fn write<T: Plain>(&mut self, from: &[T], to: &mut [T]) -> Result<(), D::Error> {
        copy("a copy to the device", from, to)
    }
}

/// The host's memory, in which elements are named by `&[T]` and `&mut [T]`.
#[derive(Clone, Copy, Debug)]
pub struct HostSpace;

impl AddressSpace for HostSpace {
    type Ref<'a, T: Plain> = &'a [T];
    type Mut<'a, T: Plain> = &'a mut [T];

    fn len<T: Plain>(elements: &[T]) -> usize {
        elements.len()
    }

    fn part<T: Plain>(elements: Self::Ref<'_, T>, range: Range<usize>) -> Option<Self::Ref<'_, T>> {
        elements.get(range)
    }

    fn part_mut<T: Plain>(
        elements: Self::Mut<'_, T>,
        range: Range<usize>,
    ) -> Option<Self::Mut<'_, T>> {
        elements.get_mut(range)
    }

    fn shared<'a, T: Plain>(elements: &'a &mut [T]) -> &'a [T] {
        elements
    }

    fn reborrow<'short, 'long: 'short, T: Plain>(elements: &'long [T]) -> &'short [T] {
        elements
    }

    fn truncate<T: Plain>(elements: &mut &mut [T], length: usize) {
        let all = core::mem::take(elements);
        let length = length.min(all.len());
        *elements = &mut all[..length];
    }

    fn reborrow_mut<'a, T: Plain>(elements: &'a mut &mut [T]) -> &'a mut [T] {
        elements
    }
}

fn copy<T: Plain, E: From<PortableError>>(
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
/// Whoever implements it has [`Memory`](crate::Memory); there is nothing to write.
#[cfg(feature = "alloc")]
pub trait HostHeap: HostMemory {}

#[cfg(feature = "alloc")]
impl<D: HostHeap> crate::Memory for D {
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
