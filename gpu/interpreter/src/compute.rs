//! What reads and writes registers only.

use crate::{
    bits,
    code::{File, NONE, Op, Place, Register},
    compare::{compared, logic},
    convert::convert,
    float, integer,
    lanes::{LANES, Lanes, map, select, zip, zip3},
    machine::Machine,
    operation::Unary,
    small,
    warp::Warp,
};

/// Writes values that were extended to 64 bits to a register of so many.
pub(crate) fn set_extended(
    warp: &mut Warp,
    to: Register,
    to_bits: u8,
    mask: u32,
    values: &Lanes<u64>,
) {
    match to_bits {
        _ if to == NONE => {}
        64 => warp.set_long(to, mask, values),
        32 => warp.set_word(to, mask, &map(values, |value| value as u32)),
        _ => warp.set_word(to, mask, &map(values, |value| value as u32 & 0xffff)),
    }
}

/// Reads a register as 64 bits.
pub(crate) fn wide(warp: &Warp, place: Place) -> Lanes<u64> {
    match place.file {
        File::Longs => *warp.long(place.register),
        _ => map(warp.word(place.register), u64::from),
    }
}

/// Executes what reads and writes registers only.
pub(crate) fn compute(warp: &mut Warp, op: &Op, mask: u32) {
    match *op {
        Op::Binary { what, bits: 16, to, a, b } => {
            let result = integer::binary16(what, warp.word(a), warp.word(b));
            warp.set_word(to, mask, &result);
        }
        Op::Binary { what, bits: 32, to, a, b } => {
            let result = integer::binary32(what, warp.word(a), warp.word(b));
            warp.set_word(to, mask, &result);
        }
        Op::Binary { what, to, a, b, .. } => {
            let result = integer::binary64(what, warp.long(a), warp.long(b));
            warp.set_long(to, mask, &result);
        }
        Op::Shift { what, bits: 16, to, a, by } => {
            let result = integer::shift16(what, warp.word(a), warp.word(by));
            warp.set_word(to, mask, &result);
        }
        Op::Shift { what, bits: 32, to, a, by } => {
            let result = integer::shift32(what, warp.word(a), warp.word(by));
            warp.set_word(to, mask, &result);
        }
        Op::Shift { what, to, a, by, .. } => {
            let result = integer::shift64(what, warp.long(a), warp.word(by));
            warp.set_long(to, mask, &result);
        }
        Op::Select { bits: 64, to, a, b, which } => {
            let (which, a, b) = (warp.predicate(which), warp.long(a), warp.long(b));
            let result = select(which, a, b);
            warp.set_long(to, mask, &result);
        }
        Op::Select { to, a, b, which, .. } => {
            let (which, a, b) = (warp.predicate(which), warp.word(a), warp.word(b));
            let result = select(which, a, b);
            warp.set_word(to, mask, &result);
        }
        Op::Move { bits: 64, to, a } => {
            let value = *warp.long(a);
            warp.set_long(to, mask, &value);
        }
        Op::Move { to, a, .. } => {
            let value = *warp.word(a);
            warp.set_word(to, mask, &value);
        }
        Op::SetPredicate { compare, join, to, other, a, b } => {
            let is_true = compared(warp, compare, a, b);
            let with = |is_true: u32| match join {
                None => is_true,
                Some((what, register, is_negated)) => {
                    let with = warp.predicate(register);
                    logic(what, is_true, if is_negated { !with } else { with })
                }
            };
            let (result, opposite) = (with(is_true), with(!is_true));
            warp.set_predicate(to, mask, result);
            if other != NONE {
                warp.set_predicate(other, mask, opposite);
            }
        }
        Op::Logic { what, to, a, b } => {
            let result = logic(what, warp.predicate(a), warp.predicate(b));
            warp.set_predicate(to, mask, result);
        }
        Op::NotPredicate { to, a } => warp.set_predicate(to, mask, !warp.predicate(a)),
        Op::MovePredicate { to, a } => warp.set_predicate(to, mask, warp.predicate(a)),
        Op::FloatBinary { .. } | Op::FloatUnary { .. } | Op::Fused { .. } | Op::Set { .. } => {
            compute_float(warp, op, mask);
        }
        Op::Convert { what, to, to_bits, a } => {
            let result = convert(what, &wide(warp, a));
            set_extended(warp, to.register, to_bits, mask, &result);
        }
        Op::WidenHalf { to, a } => {
            let result = map(warp.word(a), small::widened);
            warp.set_word(to, mask, &result);
        }
        Op::RoundPair { what, to, a, b } => {
            let result = zip(warp.word(a), warp.word(b), |a, b| what.pair(a, b));
            warp.set_word(to, mask, &result);
        }
        Op::WidenPair { what, to, a } => {
            let result = map(warp.word(a), |pair| what.halves(pair));
            warp.set_word(to, mask, &result);
        }
        Op::ConvertAddress { to_space, space, to, a } => {
            let a = *warp.long(a);
            warp.set_long(to, mask, &Machine::convert_address(to_space, space, &a));
        }
        _ => compute_integer(warp, op, mask),
    }
}

fn compute_integer(warp: &mut Warp, op: &Op, mask: u32) {
    match *op {
        Op::Halves { what, to, a, b } => {
            let result = integer::halves(what, warp.word(a), warp.word(b));
            warp.set_word(to, mask, &result);
        }
        Op::Carried { subtracts, bits, to, a, b, takes, leaves } => {
            let carry = if takes == NONE { 0 } else { warp.predicate(takes) };
            let carried = if bits == 64 {
                let (a, b) = (warp.long(a), warp.long(b));
                let (result, carried) = integer::carry64(subtracts, a, b, carry);
                warp.set_long(to, mask, &result);
                carried
            } else {
                let (a, b) = (warp.word(a), warp.word(b));
                let (result, carried) = integer::carry32(subtracts, a, b, carry);
                warp.set_word(to, mask, &result);
                carried
            };
            if leaves != NONE {
                warp.set_predicate(leaves, mask, carried);
            }
        }
        Op::MultiplyWide { element, to, a, b } if element.bits == 16 => {
            let result = integer::multiply_wide16(element.is_signed(), warp.word(a), warp.word(b));
            warp.set_word(to, mask, &result);
        }
        Op::MultiplyWide { element, to, a, b } => {
            let result = integer::multiply_wide32(element.is_signed(), warp.word(a), warp.word(b));
            warp.set_long(to, mask, &result);
        }
        Op::MultiplyAddWide { element, to, a, b, c } if element.bits == 16 => {
            let result = integer::multiply_wide16(element.is_signed(), warp.word(a), warp.word(b));
            let result = zip(&result, warp.word(c), u32::wrapping_add);
            warp.set_word(to, mask, &result);
        }
        Op::MultiplyAddWide { element, to, a, b, c } => {
            let result = integer::multiply_wide32(element.is_signed(), warp.word(a), warp.word(b));
            let result = zip(&result, warp.long(c), u64::wrapping_add);
            warp.set_long(to, mask, &result);
        }
        Op::MultiplyAdd { bits: 16, to, a, b, c } => {
            let result = integer::multiply_add16(warp.word(a), warp.word(b), warp.word(c));
            warp.set_word(to, mask, &result);
        }
        Op::MultiplyAdd { bits: 32, to, a, b, c } => {
            let result = integer::multiply_add32(warp.word(a), warp.word(b), warp.word(c));
            warp.set_word(to, mask, &result);
        }
        Op::MultiplyAdd { to, a, b, c, .. } => {
            let result = integer::multiply_add64(warp.long(a), warp.long(b), warp.long(c));
            warp.set_long(to, mask, &result);
        }
        Op::Unary { what, bits, to, a } => unary(warp, mask, what, bits, to, a),
        _ => compute_bits(warp, op, mask),
    }
}

fn unary(warp: &mut Warp, mask: u32, what: Unary, bits: u8, to: Register, a: Register) {
    match bits {
        16 => {
            let result = integer::unary16(what, warp.word(a));
            warp.set_word(to, mask, &result);
        }
        32 => {
            let result = integer::unary32(what, warp.word(a));
            warp.set_word(to, mask, &result);
        }
        _ => {
            let result = integer::unary64(what, warp.long(a));
            if what.counts() {
                warp.set_word(to, mask, &map(&result, |count| count as u32));
            } else {
                warp.set_long(to, mask, &result);
            }
        }
    }
}

fn compute_bits(warp: &mut Warp, op: &Op, mask: u32) {
    match *op {
        Op::Funnel { left, wraps, to, a, b, by } => {
            let result = bits::funnel(left, wraps, warp.word(a), warp.word(b), warp.word(by));
            warp.set_word(to, mask, &result);
        }
        Op::Permute { how, to, a, b, which } => {
            let result = zip3(warp.word(a), warp.word(b), warp.word(which), |a, b, which| {
                bits::permute(how, a, b, which)
            });
            warp.set_word(to, mask, &result);
        }
        Op::Extract { element, to, a, position, count } => {
            let (position, count) = (warp.word(position), warp.word(count));
            let (signed, bits) = (element.is_signed(), u32::from(element.bits));
            if bits == 64 {
                let result = zip3(warp.long(a), position, count, |a, position, count| {
                    bits::extract(signed, 64, a, position, count)
                });
                warp.set_long(to, mask, &result);
            } else {
                let result = zip3(warp.word(a), position, count, |a, position, count| {
                    bits::extract(signed, 32, u64::from(a), position, count) as u32
                });
                warp.set_word(to, mask, &result);
            }
        }
        Op::Insert { bits, to, a, b, position, count } => {
            let (position, count) = (warp.word(position), warp.word(count));
            let field = |lane: usize, a: u64, b: u64| {
                bits::insert(u32::from(bits), a, b, position[lane], count[lane])
            };
            if bits == 64 {
                let (a, b) = (warp.long(a), warp.long(b));
                let result = std::array::from_fn(|lane| field(lane, a[lane], b[lane]));
                warp.set_long(to, mask, &result);
            } else {
                let (a, b) = (warp.word(a), warp.word(b));
                let result =
                    std::array::from_fn(|lane| field(lane, a[lane].into(), b[lane].into()) as u32);
                warp.set_word(to, mask, &result);
            }
        }
        Op::Pack { part, count, to, parts } => {
            let mut result = [0_u64; LANES];
            for (nth, &of) in parts[..usize::from(count)].iter().enumerate() {
                let shift = nth as u32 * u32::from(part);
                result = zip(&result, warp.word(of), |all, of| all | u64::from(of) << shift);
            }
            set_extended(
                warp,
                to.register,
                if to.file == File::Longs { 64 } else { 32 },
                mask,
                &result,
            );
        }
        Op::Unpack { part, count, to, a } => {
            let all = wide(warp, a);
            for (nth, &to) in to[..usize::from(count)].iter().enumerate() {
                let shift = nth as u32 * u32::from(part);
                set_extended(warp, to, part, mask, &map(&all, |all| all >> shift));
            }
        }
        // Whatever goes elsewhere, or is of the whole warp, does not come here.
        _ => {}
    }
}

fn compute_float(warp: &mut Warp, op: &Op, mask: u32) {
    match *op {
        Op::FloatBinary { what, bits: 32, flushes, to, a, b } => {
            let result = float::binary32(what, flushes, warp.word(a), warp.word(b));
            warp.set_word(to, mask, &result);
        }
        Op::FloatBinary { what, to, a, b, .. } => {
            let result = float::binary64(what, warp.long(a), warp.long(b));
            warp.set_long(to, mask, &result);
        }
        Op::FloatUnary { what, bits: 32, flushes, to, a } => {
            let result = float::unary32(what, flushes, warp.word(a));
            warp.set_word(to, mask, &result);
        }
        Op::FloatUnary { what, to, a, .. } => {
            let result = float::unary64(what, warp.long(a));
            warp.set_long(to, mask, &result);
        }
        Op::Fused { bits: 32, flushes, to, a, b, c } => {
            let result = float::fused32(flushes, warp.word(a), warp.word(b), warp.word(c));
            warp.set_word(to, mask, &result);
        }
        Op::Fused { to, a, b, c, .. } => {
            let result = float::fused64(warp.long(a), warp.long(b), warp.long(c));
            warp.set_long(to, mask, &result);
        }
        Op::Set { compare, to_float, to, a, b } => {
            let is_true = compared(warp, compare, a, b);
            let one = if to_float { 1.0_f32.to_bits() } else { u32::MAX };
            let result = select(is_true, &[one; LANES], &[0; LANES]);
            warp.set_word(to, mask, &result);
        }
        _ => {}
    }
}
