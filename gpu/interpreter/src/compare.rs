//! Comparisons, and what is made of predicates.

use crate::{
    code::Register,
    float,
    lanes::{Lanes, mask as mask_of},
    operation::{Compare, Comparison, Logic},
    warp::Warp,
};

/// Joins the predicates of all lanes.
pub(crate) fn logic(what: Logic, a: u32, b: u32) -> u32 {
    match what {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
    }
}

/// Returns the lanes of which a comparison is true.
#[inline(always)]
pub(crate) fn compared(warp: &Warp, compare: Compare, a: Register, b: Register) -> u32 {
    macro_rules! integers {
        ($a:expr, $b:expr, $type:ty) => {
            match compare.how {
                Comparison::Equal => mask_of($a, $b, |a, b| a as $type == b as $type),
                Comparison::NotEqual => mask_of($a, $b, |a, b| a as $type != b as $type),
                Comparison::Less => mask_of($a, $b, |a, b| (a as $type) < b as $type),
                Comparison::LessOrEqual => mask_of($a, $b, |a, b| a as $type <= b as $type),
                Comparison::Greater => mask_of($a, $b, |a, b| a as $type > b as $type),
                _ => mask_of($a, $b, |a, b| a as $type >= b as $type),
            }
        };
    }
    let element = compare.element;
    match (element.bits, element.is_signed()) {
        (32, _) if element.is_float() => float::compare32(compare, warp.word(a), warp.word(b)),
        (64, _) if element.is_float() => float::compare64(compare, warp.long(a), warp.long(b)),
        (16, true) => integers!(warp.word(a), warp.word(b), i16),
        (32, true) => integers!(warp.word(a), warp.word(b), i32),
        (64, true) => integers!(warp.long(a), warp.long(b), i64),
        (64, false) => mask_unsigned(compare.how, warp.long(a), warp.long(b)),
        _ => mask_unsigned(compare.how, warp.word(a), warp.word(b)),
    }
}

fn mask_unsigned<T: Copy + Ord>(how: Comparison, a: &Lanes<T>, b: &Lanes<T>) -> u32 {
    match how {
        Comparison::Equal => mask_of(a, b, |a, b| a == b),
        Comparison::NotEqual => mask_of(a, b, |a, b| a != b),
        Comparison::Less => mask_of(a, b, |a, b| a < b),
        Comparison::LessOrEqual => mask_of(a, b, |a, b| a <= b),
        Comparison::Greater => mask_of(a, b, |a, b| a > b),
        _ => mask_of(a, b, |a, b| a >= b),
    }
}
