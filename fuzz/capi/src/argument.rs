//! Arguments: most of them right, so that calls get far; some that a careful caller would never pass.

use std::ptr::null_mut;

use adaloss::*;
use adaloss_core::format::Encoding;
use arbitrary::{Result, Unstructured};

use crate::memory::COUNT;

/// A pointer; now and then NULL, or one byte off.
///
/// The type has an alignment above 1, so that the latter has to be refused.
pub(crate) fn pointer<T>(u: &mut Unstructured<'_>, right: *mut T) -> Result<*mut T> {
    assert!(align_of::<T>() > 1);
    Ok(match u.int_in_range(0..=31)? {
        30 => null_mut(),
        31 => right.wrapping_byte_add(1),
        _ => right,
    })
}

/// A number of elements that there is memory for, or one that no memory has.
pub(crate) fn count(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=63)? {
        63 => usize::MAX - u.int_in_range(0..=9)?,
        62 => isize::MAX as usize + 1,
        _ => u.int_in_range(0..=COUNT)?,
    })
}

/// An exponent of a scale, or any number.
pub(crate) fn log2(u: &mut Unstructured<'_>) -> Result<i32> {
    match u.int_in_range(0..=15)? {
        15 => u.arbitrary(),
        14 => u.int_in_range(-300..=300),
        0..=3 => u.int_in_range(-126..=126),
        _ => u.int_in_range(-20..=30),
    }
}

/// A number of an enumeration with so many, or any.
pub(crate) fn number(u: &mut Unstructured<'_>, count: u8) -> Result<u8> {
    if u.ratio(1, 24)? { u.arbitrary() } else { u.int_in_range(0..=count - 1) }
}

/// A number of an encoding, or any.
pub(crate) fn encoding(u: &mut Unstructured<'_>) -> Result<u8> {
    number(u, Encoding::ALL.len() as u8)
}

pub(crate) fn format(u: &mut Unstructured<'_>) -> Result<adaloss_format> {
    Ok(adaloss_format { encoding: encoding(u)?, subnormals: number(u, 2)? })
}

pub(crate) fn narrowing(u: &mut Unstructured<'_>) -> Result<adaloss_narrowing> {
    Ok(adaloss_narrowing { format: format(u)?, rounding: number(u, 3)?, overflow: number(u, 2)? })
}

pub(crate) fn noise(u: &mut Unstructured<'_>) -> Result<adaloss_noise> {
    Ok(adaloss_noise { seed: u.arbitrary()?, stream: u.arbitrary()? })
}

pub(crate) fn place(u: &mut Unstructured<'_>) -> Result<adaloss_place> {
    Ok(adaloss_place { kind: number(u, 3)?.into(), cell: number(u, 5)?.into() })
}
