//! Arithmetic with floating-point numbers, as the ISA's section 9.7.3 has it.
//!
//! Operations round to the nearest.  A result of 32 bits that is a NaN is `0x7fffffff`, whatever the operands
//! were; of 64 bits the payload of the first operand that is one is kept, made quiet.  With `ftz`, subnormal
//! operands and results are zeros with their signs.

use crate::{
    lanes::{Lanes, map, mask, zip, zip3},
    operation::{Compare, Comparison, FloatBinary, FloatUnary},
};

/// The NaN of every operation of 32 bits.
const NAN32: u32 = 0x7fff_ffff;

/// The NaN of an invalid operation of 64 bits.
const NAN64: u64 = 0xfff8_0000_0000_0000;

/// Makes a NaN of 64 bits quiet.
const QUIET64: u64 = 0x0008_0000_0000_0000;

/// Makes zeros of subnormal numbers, if they are to be flushed.
#[inline(always)]
fn flush(flushes: bool, bits: u32) -> u32 {
    if flushes && bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits }
}

#[inline(always)]
fn result32(flushes: bool, value: f32) -> u32 {
    flush(flushes, if value.is_nan() { NAN32 } else { value.to_bits() })
}

#[inline(always)]
fn result64(value: f64, operands: [u64; 3]) -> u64 {
    if !value.is_nan() {
        return value.to_bits();
    }
    let is_nan = |bits: &&u64| f64::from_bits(**bits).is_nan();
    operands.iter().find(is_nan).map_or(NAN64, |bits| bits | QUIET64)
}

#[inline(always)]
fn each32(
    flushes: bool,
    a: &Lanes<u32>,
    b: &Lanes<u32>,
    f: impl Fn(f32, f32) -> f32,
) -> Lanes<u32> {
    zip(a, b, |a, b| {
        let (a, b) = (flush(flushes, a), flush(flushes, b));
        result32(flushes, f(f32::from_bits(a), f32::from_bits(b)))
    })
}

#[inline(always)]
fn each64(a: &Lanes<u64>, b: &Lanes<u64>, f: impl Fn(f64, f64) -> f64) -> Lanes<u64> {
    zip(a, b, |a, b| result64(f(f64::from_bits(a), f64::from_bits(b)), [a, b, 0]))
}

pub(crate) fn binary32(
    what: FloatBinary,
    flushes: bool,
    a: &Lanes<u32>,
    b: &Lanes<u32>,
) -> Lanes<u32> {
    match what {
        FloatBinary::Add => each32(flushes, a, b, |a, b| a + b),
        FloatBinary::Subtract => each32(flushes, a, b, |a, b| a - b),
        FloatBinary::Multiply => each32(flushes, a, b, |a, b| a * b),
        FloatBinary::Divide => each32(flushes, a, b, |a, b| a / b),
        FloatBinary::Min | FloatBinary::MinNan => {
            zip(a, b, |a, b| extreme32(flushes, what == FloatBinary::MinNan, false, a, b))
        }
        FloatBinary::Max | FloatBinary::MaxNan => {
            zip(a, b, |a, b| extreme32(flushes, what == FloatBinary::MaxNan, true, a, b))
        }
        // Signs alone, as of one number.
        FloatBinary::CopySign => zip(a, b, |a, b| a & 0x8000_0000 | b & 0x7fff_ffff),
    }
}

/// Returns the smaller or larger of two numbers, -0 being less than +0.
fn extreme32(flushes: bool, nan_wins: bool, larger: bool, a: u32, b: u32) -> u32 {
    let (a, b) = (flush(flushes, a), flush(flushes, b));
    match (f32::from_bits(a).is_nan(), f32::from_bits(b).is_nan()) {
        (true, true) => NAN32,
        (true, false) if !nan_wins => b,
        (false, true) if !nan_wins => a,
        (false, false) => {
            let is_less = f32::from_bits(a).total_cmp(&f32::from_bits(b)).is_lt();
            if is_less == larger { b } else { a }
        }
        _ => NAN32,
    }
}

fn extreme64(larger: bool, a: u64, b: u64) -> u64 {
    match (f64::from_bits(a).is_nan(), f64::from_bits(b).is_nan()) {
        (true, true) => a | QUIET64,
        (true, false) => b,
        (false, true) => a,
        (false, false) => {
            let is_less = f64::from_bits(a).total_cmp(&f64::from_bits(b)).is_lt();
            if is_less == larger { b } else { a }
        }
    }
}

pub(crate) fn binary64(what: FloatBinary, a: &Lanes<u64>, b: &Lanes<u64>) -> Lanes<u64> {
    match what {
        FloatBinary::Add => each64(a, b, |a, b| a + b),
        FloatBinary::Subtract => each64(a, b, |a, b| a - b),
        FloatBinary::Multiply => each64(a, b, |a, b| a * b),
        FloatBinary::Divide => each64(a, b, |a, b| a / b),
        FloatBinary::Min | FloatBinary::MinNan => zip(a, b, |a, b| extreme64(false, a, b)),
        FloatBinary::Max | FloatBinary::MaxNan => zip(a, b, |a, b| extreme64(true, a, b)),
        FloatBinary::CopySign => zip(a, b, |a, b| a & 1 << 63 | b & u64::MAX >> 1),
    }
}

pub(crate) fn unary32(what: FloatUnary, flushes: bool, a: &Lanes<u32>) -> Lanes<u32> {
    match what {
        // Signs alone: what a NaN is beside its sign stays.
        FloatUnary::Absolute => map(a, |a| flush(flushes, a) & 0x7fff_ffff),
        FloatUnary::Negate => map(a, |a| flush(flushes, a) ^ 0x8000_0000),
        FloatUnary::SquareRoot => {
            map(a, |a| result32(flushes, f32::from_bits(flush(flushes, a)).sqrt()))
        }
        FloatUnary::Reciprocal => {
            map(a, |a| result32(flushes, 1.0 / f32::from_bits(flush(flushes, a))))
        }
    }
}

pub(crate) fn unary64(what: FloatUnary, a: &Lanes<u64>) -> Lanes<u64> {
    match what {
        FloatUnary::Absolute => map(a, |a| a & (u64::MAX >> 1)),
        FloatUnary::Negate => map(a, |a| a ^ 1 << 63),
        FloatUnary::SquareRoot => map(a, |a| result64(f64::from_bits(a).sqrt(), [a, 0, 0])),
        FloatUnary::Reciprocal => map(a, |a| result64(1.0 / f64::from_bits(a), [a, 0, 0])),
    }
}

pub(crate) fn fused32(flushes: bool, a: &Lanes<u32>, b: &Lanes<u32>, c: &Lanes<u32>) -> Lanes<u32> {
    zip3(a, b, c, |a, b, c| {
        let [a, b, c] = [a, b, c].map(|of| f32::from_bits(flush(flushes, of)));
        result32(flushes, a.mul_add(b, c))
    })
}

pub(crate) fn fused64(a: &Lanes<u64>, b: &Lanes<u64>, c: &Lanes<u64>) -> Lanes<u64> {
    zip3(a, b, c, |a, b, c| {
        let value = f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(c));
        result64(value, [a, b, c])
    })
}

macro_rules! compare {
    ($name:ident, $bits:ty, $float:ty) => {
        /// Returns the lanes of which a comparison is true.
        pub(crate) fn $name(compare: Compare, a: &Lanes<$bits>, b: &Lanes<$bits>) -> u32 {
            let float = |of| map(of, |bits| <$float>::from_bits(bits));
            let (a, b) = (float(a), float(b));
            let unordered = mask(&a, &b, |a, b| a.is_nan() || b.is_nan());
            let ordered = match compare.how {
                Comparison::Equal => mask(&a, &b, |a, b| a == b),
                Comparison::NotEqual => mask(&a, &b, |a, b| a != b) & !unordered,
                Comparison::Less => mask(&a, &b, |a, b| a < b),
                Comparison::LessOrEqual => mask(&a, &b, |a, b| a <= b),
                Comparison::Greater => mask(&a, &b, |a, b| a > b),
                Comparison::GreaterOrEqual => mask(&a, &b, |a, b| a >= b),
                Comparison::Numbers => !unordered,
                Comparison::Nan => 0,
            };
            if compare.is_unordered { ordered | unordered } else { ordered }
        }
    };
}

compare!(compare_bits32, u32, f32);
compare!(compare64, u64, f64);

/// Returns the lanes of which a comparison of 32 bits is true.
pub(crate) fn compare32(compare: Compare, a: &Lanes<u32>, b: &Lanes<u32>) -> u32 {
    let flushed = |of| map(of, |bits| flush(compare.flushes, bits));
    compare_bits32(compare, &flushed(a), &flushed(b))
}
