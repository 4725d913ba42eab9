//! The readable truth: every operation in plain, sequential Rust, over the caller's slices.
//!
//! Other devices are compared with this one.  It needs no heap and no `std`; sums run in the order
//! of their index, each product and each sum rounded to f32.

mod matmul;
pub(crate) mod narrow;
mod network;

use core::fmt;

use adaloss_core::apply::ApplyError;

use crate::{Capabilities, Error, ErrorKind, HostMemory, Misfit};

/// The portable device: host memory, no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl HostMemory for Portable {
    type Error = PortableError;

    fn can_do(&self) -> Capabilities {
        Capabilities::ALL
    }
}

#[cfg(feature = "alloc")]
impl crate::HostHeap for Portable {}

/// What the portable device cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortableError {
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

impl fmt::Display for PortableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { what, expected, found } => {
                write!(f, "{what} needs {expected} elements and has {found}")
            }
            Self::Misfit(misfit) => misfit.fmt(f),
            Self::Apply(error) => error.fmt(f),
            Self::Memory { elements } => write!(f, "no memory for {elements} elements"),
        }
    }
}

impl core::error::Error for PortableError {}

impl Error for PortableError {
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

impl From<ApplyError> for PortableError {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

/// Returns an error where two lengths differ that must not.
pub(crate) fn same_length(
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), PortableError> {
    if expected == found { Ok(()) } else { Err(PortableError::Length { what, expected, found }) }
}

/// Returns the one element of a slice.
pub(crate) fn one<'a, T>(what: &'static str, slice: &'a [T]) -> Result<&'a T, PortableError> {
    same_length(what, 1, slice.len())?;
    slice.first().ok_or(PortableError::Length { what, expected: 1, found: 0 })
}

/// Returns the one element of a writable slice.
pub(crate) fn one_mut<'a, T>(
    what: &'static str,
    slice: &'a mut [T],
) -> Result<&'a mut T, PortableError> {
    same_length(what, 1, slice.len())?;
    slice.first_mut().ok_or(PortableError::Length { what, expected: 1, found: 0 })
}

/// Returns a vector of equal elements, or an error where the heap is exhausted.
#[cfg(feature = "alloc")]
pub(crate) fn filled<T: Copy>(
    length: usize,
    value: T,
) -> Result<alloc::vec::Vec<T>, PortableError> {
    let mut buffer = alloc::vec::Vec::new();
    buffer.try_reserve_exact(length).map_err(|_| PortableError::Memory { elements: length })?;
    buffer.resize(length, value);
    Ok(buffer)
}
