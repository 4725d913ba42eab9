//! Pointers that came from C, checked for what can be checked.

use core::slice;

use adaloss_core::elements;

use crate::{ADALOSS_ERROR_ALIGNMENT, ADALOSS_ERROR_LENGTH, ADALOSS_ERROR_NULL, code::Refused};

/// A value that is legal whatever its bytes are: what C writes cannot make it undefined.
///
/// # Safety
///
/// The type is made of integers, floats, raw pointers and optional function pointers, in `repr(C)` or
/// `repr(transparent)`.
pub(crate) unsafe trait AnyBytes {}

macro_rules! any_bytes {
    ($($name:ty),+ $(,)?) => {$(
        // SAFETY: a number, or a `repr(C)` structure of numbers and raw pointers.
        unsafe impl $crate::memory::AnyBytes for $name {}
    )+};
}
pub(crate) use any_bytes;

any_bytes!(u8, i32, u32, u64, f64);
elements!(any_bytes);

/// Refuses pointers to nothing and those that are not aligned.
fn check<T>(pointer: *const T) -> Result<(), Refused> {
    if pointer.is_null() {
        Err(Refused(ADALOSS_ERROR_NULL))
    } else if !pointer.is_aligned() {
        Err(Refused(ADALOSS_ERROR_ALIGNMENT))
    } else {
        Ok(())
    }
}

/// Borrows what a pointer points to.
///
/// # Safety
///
/// If it is neither NULL nor misaligned, it points to a `T` that nothing writes for as long as `'a`.
pub(crate) unsafe fn shared<'a, T: AnyBytes>(pointer: *const T) -> Result<&'a T, Refused> {
    check(pointer)?;
    // SAFETY: not NULL and aligned, as was checked; the rest is the caller's promise, and any bytes
    // are a legal value.
    Ok(unsafe { &*pointer })
}

/// Borrows what a pointer points to, for writing.
///
/// # Safety
///
/// If it is neither NULL nor misaligned, it points to a `T` that nothing else uses for as long as
/// `'a`.
pub(crate) unsafe fn exclusive<'a, T: AnyBytes>(pointer: *mut T) -> Result<&'a mut T, Refused> {
    check(pointer)?;
    // SAFETY: as in `shared`.
    Ok(unsafe { &mut *pointer })
}

/// A place for a result, which need not be initialised.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// Takes a pointer to a place.
    ///
    /// # Safety
    ///
    /// If it is neither NULL nor misaligned, a `T` may be written there for as long as this lives.
    pub(crate) unsafe fn new(pointer: *mut T) -> Result<Self, Refused> {
        check(pointer)?;
        Ok(Self(pointer))
    }

    /// Takes a pointer that may be NULL, for a result that is not wanted.
    ///
    /// # Safety
    ///
    /// As for [`new`](Self::new).
    pub(crate) unsafe fn optional(pointer: *mut T) -> Result<Option<Self>, Refused> {
        if pointer.is_null() {
            return Ok(None);
        }
        // SAFETY: the same promise.
        unsafe { Self::new(pointer) }.map(Some)
    }

    pub(crate) fn set(self, value: T) {
        // SAFETY: not NULL and aligned, as was checked; writable by the promise given to `new`.
        unsafe { self.0.write(value) }
    }
}

/// Refuses arrays that no memory holds.
fn check_array<T>(pointer: *const T, count: usize) -> Result<(), Refused> {
    check(pointer)?;
    match count.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(Refused(ADALOSS_ERROR_LENGTH)),
    }
}

/// Borrows an array.
///
/// # Safety
///
/// If the pointer is neither NULL nor misaligned, it points to `count` elements that nothing writes
/// for as long as `'a`.
pub(crate) unsafe fn array<'a, T: AnyBytes>(
    pointer: *const T,
    count: usize,
) -> Result<&'a [T], Refused> {
    if count == 0 {
        return Ok(&[]);
    }
    check_array(pointer, count)?;
    // SAFETY: not NULL, aligned, and no longer than memory is, as was checked; the rest is the
    // caller's promise, and any bytes are legal values.
    Ok(unsafe { slice::from_raw_parts(pointer, count) })
}

/// Borrows an array for writing.
///
/// # Safety
///
/// If the pointer is neither NULL nor misaligned, it points to `count` elements that nothing else
/// uses for as long as `'a`.
pub(crate) unsafe fn array_mut<'a, T: AnyBytes>(
    pointer: *mut T,
    count: usize,
) -> Result<&'a mut [T], Refused> {
    if count == 0 {
        return Ok(&mut []);
    }
    check_array(pointer, count)?;
    // SAFETY: as in `array`.
    Ok(unsafe { slice::from_raw_parts_mut(pointer, count) })
}
