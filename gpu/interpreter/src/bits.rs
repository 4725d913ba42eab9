//! Fields of bits, bytes that change places, and shifts over two registers.

use crate::{
    lanes::{Lanes, zip3},
    operation::Permutation,
};

/// Shifts two words, `b` the upper one, and returns the upper word of a shift to the left, the lower one of a
/// shift to the right.
pub(crate) fn funnel(
    left: bool,
    wraps: bool,
    a: &Lanes<u32>,
    b: &Lanes<u32>,
    by: &Lanes<u32>,
) -> Lanes<u32> {
    zip3(a, b, by, |a, b, by| {
        let by = if wraps { by & 31 } else { by.min(32) };
        let both = u64::from(b) << 32 | u64::from(a);
        if left { ((both << by) >> 32) as u32 } else { (both >> by) as u32 }
    })
}

/// Returns a field of bits, with zeros or its sign above it.
///
/// Position and count are their low 8 bits.  What the field has beyond the number's bits is zeros, or the
/// number's sign.
pub(crate) fn extract(is_signed: bool, bits: u32, a: u64, position: u32, count: u32) -> u64 {
    let (position, count) = (position & 0xff, count & 0xff);
    let top = bits - 1;
    let sign_at = (position + count).saturating_sub(1).min(top);
    let sign = is_signed && count > 0 && a >> sign_at & 1 == 1;
    let width = count.min(bits.saturating_sub(position));
    let field = if width == 0 { 0 } else { a >> position & (u64::MAX >> (64 - width)) };
    let above = if width == 64 { 0 } else { u64::MAX << width };
    let result = if sign { field | above } else { field };
    if bits == 32 { result & 0xffff_ffff } else { result }
}

/// Replaces a field of `b` by the lowest bits of `a`.
pub(crate) fn insert(bits: u32, a: u64, b: u64, position: u32, count: u32) -> u64 {
    let (position, count) = (position & 0xff, count & 0xff);
    let width = count.min(bits.saturating_sub(position));
    if width == 0 {
        return b;
    }
    let field = u64::MAX >> (64 - width);
    b & !(field << position) | (a & field) << position
}

/// Chooses four of the eight bytes of two words.
pub(crate) fn permute(how: Permutation, a: u32, b: u32, which: u32) -> u32 {
    let both = u64::from(b) << 32 | u64::from(a);
    let first = which & 3;
    let mut result = 0;
    for to in 0..4_u32 {
        let chosen = match how {
            Permutation::Any => which >> (4 * to) & 0xf,
            Permutation::Forward4 => first + to,
            Permutation::Backward4 => first.wrapping_sub(to) & 7,
            Permutation::Replicate8 => first,
            Permutation::EdgeClampLeft => to.max(first),
            Permutation::EdgeClampRight => to.min(first),
            Permutation::Replicate16 => 2 * (first & 1) + (to & 1),
        };
        let byte = (both >> (8 * (chosen & 7))) as u8;
        // With the fourth bit, a byte's sign is repeated.
        let repeats_sign = how == Permutation::Any && chosen > 7;
        let byte = if repeats_sign { (byte as i8 >> 7) as u8 } else { byte };
        result |= u32::from(byte) << (8 * to);
    }
    result
}
