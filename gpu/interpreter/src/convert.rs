//! Conversions between types, as the ISA's section 9.7.9 has `cvt`.
//!
//! What is read of a register that is wider than the type is its low bits.  A register that is wider than the
//! result holds it with zeros above, or with its sign.  Of what is too large for an integer, it is its largest
//! number; of a NaN, its highest bit alone where 64 bits are on either side, and else zero.  A NaN of 32 bits is
//! `0x7fffffff`, while one of 64 bits keeps its payload.

use crate::{
    lanes::{Lanes, map},
    operation::{Conversion, Rounding},
    types::Type,
};

/// Returns the low bits of a number with its sign, or zeros, above them.
#[inline(always)]
pub(crate) fn extend(of: Type, value: u64) -> u64 {
    let above = 64 - u32::from(of.bits);
    if of.is_signed() { ((value << above) as i64 >> above) as u64 } else { value << above >> above }
}

/// Converts lanes of 64 bits, of which the lower ones are meant.
pub(crate) fn convert(what: Conversion, a: &Lanes<u64>) -> Lanes<u64> {
    let Conversion { to, from, .. } = what;
    match (from.is_float(), to.is_float()) {
        (false, false) if what.saturates => map(a, |a| extend(to, saturate(to, from, a))),
        (false, false) => map(a, |a| extend(to, extend(from, a))),
        (false, true) => map(a, |a| from_integer(what, a)),
        (true, false) => map(a, |a| extend(to, to_integer(what, a))),
        (true, true) => map(a, |a| between_floats(what, a)),
    }
}

/// Returns the nearest integer that a type has.
fn saturate(to: Type, from: Type, value: u64) -> u64 {
    let extended = extend(from, value);
    let value = if from.is_signed() { i128::from(extended as i64) } else { i128::from(extended) };
    value.clamp(least(to), most(to)) as u64
}

fn least(of: Type) -> i128 {
    if of.is_signed() { -(1 << (of.bits - 1)) } else { 0 }
}

fn most(of: Type) -> i128 {
    (1 << (of.bits - u8::from(of.is_signed()))) - 1
}

/// Rounds an integer to a number that floating point has.
fn from_integer(what: Conversion, value: u64) -> u64 {
    let Conversion { to, from, rounding, .. } = what;
    let extended = extend(from, value);
    let is_negative = from.is_signed() && (extended as i64) < 0;
    let magnitude = if is_negative { extended.wrapping_neg() } else { extended };
    let digits = if to.bits == 32 { 24 } else { 53 };
    let excess = (64 - magnitude.leading_zeros()).saturating_sub(digits);
    let kept = magnitude >> excess << excess;
    let lost = magnitude - kept;
    let half = if excess == 0 { 0 } else { 1 << (excess - 1) };
    let is_odd = magnitude >> excess & 1 == 1;
    let is_up = match rounding {
        Rounding::Nearest => lost > half || excess > 0 && lost == half && is_odd,
        Rounding::Zero => false,
        Rounding::Down => is_negative && lost > 0,
        Rounding::Up => !is_negative && lost > 0,
    };
    // Exact from here on: the digits fit, up to a power of two above.
    let rounded = u128::from(kept) + if is_up { 1 << excess } else { 0 };
    if to.bits == 32 {
        let value = rounded as f32;
        u64::from(if is_negative { -value } else { value }.to_bits())
    } else {
        let value = rounded as f64;
        if is_negative { -value } else { value }.to_bits()
    }
}

fn to_integer(what: Conversion, bits: u64) -> u64 {
    let Conversion { to, from, .. } = what;
    let value = match from.bits {
        32 => f64::from(f32::from_bits(flushed(what, bits as u32))),
        _ => f64::from_bits(bits),
    };
    if value.is_nan() {
        return if from.bits == 64 || to.bits == 64 { 1 << (to.bits - 1) } else { 0 };
    }
    // The cast saturates to far more than any integer type has.
    (round(what.rounding, value) as i128).clamp(least(to), most(to)) as u64
}

fn round(rounding: Rounding, value: f64) -> f64 {
    match rounding {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    }
}

fn flushed(what: Conversion, bits: u32) -> u32 {
    if what.flushes && bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits }
}

fn between_floats(what: Conversion, bits: u64) -> u64 {
    match (what.from.bits, what.to.bits) {
        (32, 64) => widened(flushed(what, bits as u32)),
        (64, 32) => u64::from(flushed(what, narrowed(what.rounding, f64::from_bits(bits)))),
        (32, _) => {
            let value = f32::from_bits(flushed(what, bits as u32));
            let rounded = round(what.rounding, f64::from(value)) as f32;
            u64::from(if rounded.is_nan() { 0x7fff_ffff } else { rounded.to_bits() })
        }
        _ => {
            let value = f64::from_bits(bits);
            if value.is_nan() { bits | 1 << 51 } else { round(what.rounding, value).to_bits() }
        }
    }
}

/// Returns the same number; of a NaN, one with the same payload.
fn widened(bits: u32) -> u64 {
    if f32::from_bits(bits).is_nan() {
        let sign = u64::from(bits >> 31) << 63;
        return sign | 0x7ff8_0000_0000_0000 | u64::from(bits & 0x7f_ffff) << 29;
    }
    f64::from(f32::from_bits(bits)).to_bits()
}

fn narrowed(rounding: Rounding, value: f64) -> u32 {
    let nearest = value as f32;
    if nearest.is_nan() {
        return 0x7fff_ffff;
    }
    let is_above = f64::from(nearest) > value;
    let is_below = f64::from(nearest) < value;
    let rounded = match rounding {
        Rounding::Nearest => nearest,
        Rounding::Zero if value > 0.0 && is_above => nearest.next_down(),
        Rounding::Zero if value < 0.0 && is_below => nearest.next_up(),
        Rounding::Down if is_above => nearest.next_down(),
        Rounding::Up if is_below => nearest.next_up(),
        _ => nearest,
    };
    // What lies between a negative subnormal number and zero is rounded to -0.
    if rounded == 0.0 { 0.0_f32.copysign(value as f32).to_bits() } else { rounded.to_bits() }
}
