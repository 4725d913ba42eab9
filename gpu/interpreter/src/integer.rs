//! Arithmetic with integers, as the ISA's sections 9.7.1 and 9.7.8 have it.
//!
//! A division by zero has no defined result: here the quotient is all ones, and the remainder the dividend.  The
//! least number divided by minus one is itself, and leaves nothing.

use crate::{
    lanes::{LANES, Lanes, map, zip, zip3},
    operation::{Binary, Shift, Unary},
};

macro_rules! integers {
    ($binary:ident, $unary:ident, $shift:ident, $multiply_add:ident, $lane:ty, $u:ty, $i:ty, $wide:ty, $wide_i:ty) => {
        pub(crate) fn $binary(what: Binary, a: &Lanes<$lane>, b: &Lanes<$lane>) -> Lanes<$lane> {
            const BITS: u32 = <$u>::BITS;
            // What is done with unsigned numbers, and with signed ones.
            macro_rules! each {
                (u $f:expr) => {
                    zip(a, b, |a, b| $f(a as $u, b as $u) as $lane)
                };
                (i $f:expr) => {
                    zip(a, b, |a, b| $f(a as $i, b as $i) as $u as $lane)
                };
            }
            match what {
                Binary::Add => each!(u <$u>::wrapping_add),
                Binary::Subtract => each!(u <$u>::wrapping_sub),
                Binary::MultiplyLow => each!(u <$u>::wrapping_mul),
                Binary::MultiplyHighUnsigned => {
                    each!(u |a, b| ((<$wide>::from(a) * <$wide>::from(b)) >> BITS) as $u)
                }
                Binary::MultiplyHighSigned => {
                    each!(i |a, b| ((<$wide_i>::from(a) * <$wide_i>::from(b)) >> BITS) as $i)
                }
                Binary::DivideUnsigned => each!(u |a: $u, b| a.checked_div(b).unwrap_or(<$u>::MAX)),
                Binary::DivideSigned => {
                    each!(i |a: $i, b| if b == 0 { -1 } else { a.wrapping_div(b) })
                }
                Binary::RemainderUnsigned => each!(u |a: $u, b| a.checked_rem(b).unwrap_or(a)),
                Binary::RemainderSigned => {
                    each!(i |a: $i, b| if b == 0 { a } else { a.wrapping_rem(b) })
                }
                Binary::MinUnsigned => each!(u <$u>::min),
                Binary::MinSigned => each!(i <$i>::min),
                Binary::MaxUnsigned => each!(u <$u>::max),
                Binary::MaxSigned => each!(i <$i>::max),
                Binary::And => each!(u |a, b| a & b),
                Binary::Or => each!(u |a, b| a | b),
                Binary::Xor => each!(u |a, b| a ^ b),
            }
        }

        pub(crate) fn $unary(what: Unary, a: &Lanes<$lane>) -> Lanes<$lane> {
            match what {
                Unary::Not => map(a, |a| !(a as $u) as $lane),
                Unary::Negate => map(a, |a| (a as $u).wrapping_neg() as $lane),
                Unary::Absolute => map(a, |a| (a as $i).wrapping_abs() as $u as $lane),
                Unary::CountLeadingZeros => map(a, |a| (a as $u).leading_zeros() as $lane),
                Unary::CountOnes => map(a, |a| (a as $u).count_ones() as $lane),
                Unary::ReverseBits => map(a, |a| (a as $u).reverse_bits() as $lane),
            }
        }

        /// Shifts by as many bits as there are or more leave nothing, or the sign.
        pub(crate) fn $shift(what: Shift, a: &Lanes<$lane>, by: &Lanes<u32>) -> Lanes<$lane> {
            const MOST: u32 = <$u>::BITS - 1;
            match what {
                Shift::Left => zip(a, by, |a, by| {
                    (if by > MOST { 0 } else { (a as $u) << (by & MOST) }) as $lane
                }),
                Shift::RightUnsigned => zip(a, by, |a, by| {
                    (if by > MOST { 0 } else { (a as $u) >> (by & MOST) }) as $lane
                }),
                Shift::RightSigned => {
                    zip(a, by, |a, by| ((a as $i) >> by.min(MOST)) as $u as $lane)
                }
            }
        }

        pub(crate) fn $multiply_add(
            a: &Lanes<$lane>,
            b: &Lanes<$lane>,
            c: &Lanes<$lane>,
        ) -> Lanes<$lane> {
            zip3(a, b, c, |a, b, c| {
                (a as $u).wrapping_mul(b as $u).wrapping_add(c as $u) as $lane
            })
        }
    };
}

#[allow(clippy::unnecessary_cast, reason = "of 32 and 64 bits, a lane is the number")]
mod widths {
    use super::*;
    integers!(binary16, unary16, shift16, multiply_add16, u32, u16, i16, u32, i32);
    integers!(binary32, unary32, shift32, multiply_add32, u32, u32, i32, u64, i64);
    integers!(binary64, unary64, shift64, multiply_add64, u64, u64, i64, u128, i128);
}
pub(crate) use widths::*;

macro_rules! carries {
    ($name:ident, $u:ty) => {
        /// Adds or subtracts with what each lane's bit of `carry` carries; returns what is carried on.
        pub(crate) fn $name(
            subtracts: bool,
            a: &Lanes<$u>,
            b: &Lanes<$u>,
            carry: u32,
        ) -> (Lanes<$u>, u32) {
            let (mut result, mut carried) = ([0; LANES], 0);
            for (lane, (&a, &b)) in a.iter().zip(b).enumerate() {
                let carry = <$u>::from(carry >> lane & 1 == 1);
                let add = if subtracts { <$u>::overflowing_sub } else { <$u>::overflowing_add };
                let (part, first) = add(a, b);
                let (part, second) = add(part, carry);
                result[lane] = part;
                carried |= u32::from(first | second) << lane;
            }
            (result, carried)
        }
    };
}
carries!(carry32, u32);
carries!(carry64, u64);

/// Works on both halves of words.
pub(crate) fn halves(what: Binary, a: &Lanes<u32>, b: &Lanes<u32>) -> Lanes<u32> {
    let low = |of: &Lanes<u32>| map(of, |of| of & 0xffff);
    let high = |of: &Lanes<u32>| map(of, |of| of >> 16);
    let (lower, upper) = (binary16(what, &low(a), &low(b)), binary16(what, &high(a), &high(b)));
    zip(&lower, &upper, |lower, upper| upper << 16 | lower)
}

/// Multiplies halves of 16 bits to words.
pub(crate) fn multiply_wide16(is_signed: bool, a: &Lanes<u32>, b: &Lanes<u32>) -> Lanes<u32> {
    if is_signed {
        zip(a, b, |a, b| (i32::from(a as i16) * i32::from(b as i16)) as u32)
    } else {
        zip(a, b, |a, b| (a & 0xffff) * (b & 0xffff))
    }
}

/// Multiplies words to 64 bits.
pub(crate) fn multiply_wide32(is_signed: bool, a: &Lanes<u32>, b: &Lanes<u32>) -> Lanes<u64> {
    if is_signed {
        zip(a, b, |a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64)
    } else {
        zip(a, b, |a, b| u64::from(a) * u64::from(b))
    }
}
