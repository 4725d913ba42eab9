//! How elements in a device's memory are named.

use core::ops::Range;

use crate::plain::Plain;

/// How elements in some kind of memory are named: `&[T]` in that of the host, address and length elsewhere.
///
/// It stands apart from [`Device`](crate::Device) so that devices in the same memory share it, one that wraps another among them: the
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
