//! What the name of an operation says, as `mul.wide.u32`.
//!
//! Names that are not read here are errors, modifiers included: a rounding that is not simulated is not
//! taken for one that is.  These are read and change nothing of what is executed:
//!
//! - `.ca` and `.cg` of a copy say which caches keep it;
//! - `.nc` of a load promises that nobody writes what it reads: it may read tables alone, which nobody can;
//! - `.uni` promises that threads do not part, and is refused under a guard, which alone could part them;
//! - `.aligned` promises that a warp's threads come together, which is asked of what lacks it, too, but that those
//!   of a barrier may come on ways of their own: whether there are such ways is for `adaloss-audit`;
//! - `.rn` is how operations round that need not say it.

use std::ops::RangeInclusive;

use crate::{
    operation::{
        Atomic, Binary, Carried, Compare, Comparison, Conversion, FloatBinary, FloatUnary, Logic,
        Operation, Permutation, Rounding, Shift, Shuffle, Small, Unary,
    },
    types::{Family, Space, Type},
};

impl Operation {
    /// Reads the name of an operation.
    pub fn named(name: &str) -> Option<Self> {
        let mut parts = [""; 10];
        let mut count = 0;
        for part in name.split('.') {
            *parts.get_mut(count)? = part;
            count += 1;
        }
        let (head, modifiers) = parts[..count].split_first()?;
        control(head, modifiers)
            .or_else(|| memory(head, modifiers))
            .or_else(|| integer(head, modifiers))
            .or_else(|| float(head, modifiers))
            .or_else(|| predicate(head, modifiers))
            .or_else(|| conversion(head, modifiers))
    }
}

fn control(head: &str, modifiers: &[&str]) -> Option<Operation> {
    Some(match (head, modifiers) {
        ("bra", [] | ["uni"]) => Operation::Branch,
        ("ret", [] | ["uni"]) | ("exit", []) => Operation::Return,
        ("trap", []) => Operation::Trap,
        ("bar", ["sync"]) | ("barrier", ["sync"] | ["sync", "aligned"]) => Operation::Barrier,
        ("bar", ["warp", "sync"]) => Operation::WarpBarrier,
        ("cp", ["async", "commit_group"]) => Operation::CommitGroup,
        ("cp", ["async", "wait_group"]) => Operation::WaitGroup,
        ("cp", ["async", "wait_all"]) => Operation::WaitAll,
        ("cp", ["async", "ca", "shared", "global"]) => Operation::CopyAsync { least_bytes: 4 },
        ("cp", ["async", "cg", "shared", "global"]) => Operation::CopyAsync { least_bytes: 16 },
        ("shfl", ["sync", how, "b32"]) => Operation::Shuffle(match *how {
            "up" => Shuffle::Up,
            "down" => Shuffle::Down,
            "bfly" => Shuffle::Butterfly,
            "idx" => Shuffle::Index,
            _ => return None,
        }),
        ("ldmatrix", ["sync", "aligned", "m8n8", count, rest @ ..]) => {
            let transposes = rest.first() == Some(&"trans");
            if rest[usize::from(transposes)..] != ["shared", "b16"] {
                return None;
            }
            let count = match *count {
                "x1" => 1,
                "x2" => 2,
                "x4" => 4,
                _ => return None,
            };
            Operation::LoadMatrices { count, transposes }
        }
        ("mma", ["sync", "aligned", "m16n8k16", "row", "col", "f32", a, b, "f32"]) if a == b => {
            Operation::MultiplyMatrices {
                is_bfloat: match *a {
                    "bf16" => true,
                    "f16" => false,
                    _ => return None,
                },
            }
        }
        _ => return None,
    })
}

fn memory(head: &str, mut modifiers: &[&str]) -> Option<Operation> {
    if !matches!(head, "ld" | "st" | "atom" | "red" | "cvta") {
        return None;
    }
    let to_space = head == "cvta" && modifiers.first() == Some(&"to");
    modifiers = &modifiers[usize::from(to_space)..];
    let mut space = Space::Generic;
    if let Some(named) = modifiers.first().and_then(|first| Space::named(first)) {
        space = named;
        modifiers = &modifiers[1..];
    }
    let is_constant = head == "ld" && space == Space::Global && modifiers.first() == Some(&"nc");
    modifiers = &modifiers[usize::from(is_constant)..];
    let (&element, modifiers) = modifiers.split_last()?;
    let element = Type::named(element)?;
    let is_parameter = space == Space::Parameter;
    Some(match (head, modifiers) {
        ("ld" | "st", _) => {
            let count = match modifiers {
                [] => 1,
                ["v2"] => 2,
                ["v4"] if element.bits < 64 => 4,
                _ => return None,
            };
            match head {
                "ld" => Operation::Load { space, is_constant, element, count },
                _ if is_parameter => return None,
                _ => Operation::Store { space, element, count },
            }
        }
        ("cvta", []) if element == Type::named("u64")? && !is_parameter => {
            if space == Space::Generic {
                return None;
            }
            Operation::ConvertAddress { to_space, space }
        }
        ("atom" | "red", [what])
            if matches!(space, Space::Generic | Space::Global | Space::Shared) =>
        {
            let what = match *what {
                "add" => Atomic::Add,
                "min" => Atomic::Min,
                "max" => Atomic::Max,
                "and" => Atomic::And,
                "or" => Atomic::Or,
                "xor" => Atomic::Xor,
                "exch" if head == "atom" => Atomic::Exchange,
                _ => return None,
            };
            let is_bitwise =
                matches!(what, Atomic::And | Atomic::Or | Atomic::Xor | Atomic::Exchange);
            let is_bits = element.family == Family::Bits;
            // An unsigned addition serves signed ones, too, but of 64 bits PTX has none.
            let is_known = element.bits >= 32
                && !element.is_float()
                && is_bitwise == is_bits
                && !(what == Atomic::Add && element.bits == 64 && element.is_signed());
            match head {
                _ if !is_known => return None,
                "atom" => Operation::Atomic { what, space, element },
                _ => Operation::Reduce { what, space, element },
            }
        }
        _ => return None,
    })
}

/// Reads a type of an integer, or of bits if those are what an operation takes.
fn of(element: &str, families: &str, most_bits: RangeInclusive<u8>) -> Option<Type> {
    let is_family = families.contains(element.get(..1)?);
    Type::named(element).filter(|of| is_family && most_bits.contains(&of.bits))
}

fn integer(head: &str, modifiers: &[&str]) -> Option<Operation> {
    use Binary::*;
    let either = |of: Type, signed: Binary, unsigned: Binary| {
        Some(Operation::Binary(if of.is_signed() { signed } else { unsigned }, of))
    };
    match (head, modifiers) {
        ("add", [element]) => Some(Operation::Binary(Add, of(element, "us", 16..=64)?)),
        ("add" | "addc" | "sub" | "subc", ["cc", element]) => {
            let (subtracts, takes) = (head.starts_with("sub"), head.ends_with('c'));
            let carried = Carried { subtracts, takes, leaves: true };
            Some(Operation::Carried(carried, of(element, "us", 32..=64)?))
        }
        ("addc" | "subc", [element]) => {
            let carried = Carried { subtracts: head == "subc", takes: true, leaves: false };
            Some(Operation::Carried(carried, of(element, "us", 32..=64)?))
        }
        ("sub", [element]) => Some(Operation::Binary(Subtract, of(element, "us", 16..=64)?)),
        ("mul", ["lo", element]) => {
            Some(Operation::Binary(MultiplyLow, of(element, "us", 16..=64)?))
        }
        ("mul", ["hi", element]) => {
            either(of(element, "us", 16..=64)?, MultiplyHighSigned, MultiplyHighUnsigned)
        }
        ("mul", ["wide", element]) => Some(Operation::MultiplyWide(of(element, "us", 16..=32)?)),
        ("mad", ["lo", element]) => Some(Operation::MultiplyAdd(of(element, "us", 16..=64)?)),
        ("mad", ["wide", element]) => Some(Operation::MultiplyAddWide(of(element, "us", 16..=32)?)),
        ("div", [element]) => either(of(element, "us", 16..=64)?, DivideSigned, DivideUnsigned),
        ("rem", [element]) => {
            either(of(element, "us", 16..=64)?, RemainderSigned, RemainderUnsigned)
        }
        ("min", ["s16x2"]) => Some(Operation::Halves(MinSigned)),
        ("min", ["u16x2"]) => Some(Operation::Halves(MinUnsigned)),
        ("max", ["s16x2"]) => Some(Operation::Halves(MaxSigned)),
        ("max", ["u16x2"]) => Some(Operation::Halves(MaxUnsigned)),
        ("min", [element]) => either(of(element, "us", 16..=64)?, MinSigned, MinUnsigned),
        ("max", [element]) => either(of(element, "us", 16..=64)?, MaxSigned, MaxUnsigned),
        ("and", [element]) => Some(Operation::Binary(And, of(element, "b", 16..=64)?)),
        ("or", [element]) => Some(Operation::Binary(Or, of(element, "b", 16..=64)?)),
        ("xor", [element]) => Some(Operation::Binary(Xor, of(element, "b", 16..=64)?)),
        ("not", [element]) => Some(Operation::Unary(Unary::Not, of(element, "b", 16..=64)?)),
        ("neg", [element]) => Some(Operation::Unary(Unary::Negate, of(element, "s", 16..=64)?)),
        ("abs", [element]) => Some(Operation::Unary(Unary::Absolute, of(element, "s", 16..=64)?)),
        _ => bits(head, modifiers),
    }
}

fn bits(head: &str, modifiers: &[&str]) -> Option<Operation> {
    Some(match (head, modifiers) {
        ("clz", [element]) => {
            Operation::Unary(Unary::CountLeadingZeros, of(element, "b", 32..=64)?)
        }
        ("popc", [element]) => Operation::Unary(Unary::CountOnes, of(element, "b", 32..=64)?),
        ("brev", [element]) => Operation::Unary(Unary::ReverseBits, of(element, "b", 32..=64)?),
        ("shl", [element]) => Operation::Shift(Shift::Left, of(element, "b", 16..=64)?),
        ("shr", [element]) => {
            let element = of(element, "bus", 16..=64)?;
            let way = if element.is_signed() { Shift::RightSigned } else { Shift::RightUnsigned };
            Operation::Shift(way, element)
        }
        ("shf", [way @ ("l" | "r"), how @ ("wrap" | "clamp"), "b32"]) => {
            Operation::Funnel { left: *way == "l", wraps: *how == "wrap" }
        }
        ("bfe", [element]) => Operation::Extract(of(element, "us", 32..=64)?),
        ("bfi", [element]) => Operation::Insert(of(element, "b", 32..=64)?),
        ("prmt", ["b32", how @ ..]) => Operation::Permute(match how {
            [] => Permutation::Any,
            ["f4e"] => Permutation::Forward4,
            ["b4e"] => Permutation::Backward4,
            ["rc8"] => Permutation::Replicate8,
            ["ecl"] => Permutation::EdgeClampLeft,
            ["ecr"] => Permutation::EdgeClampRight,
            ["rc16"] => Permutation::Replicate16,
            _ => return None,
        }),
        ("mov", [element]) if *element != "pred" => Operation::Move(of(element, "busf", 16..=64)?),
        ("selp", [element]) => Operation::Select(of(element, "busf", 16..=64)?),
        _ => return None,
    })
}

fn float(head: &str, modifiers: &[&str]) -> Option<Operation> {
    let (&element, mut modifiers) = modifiers.split_last()?;
    let element = of(element, "f", 32..=64)?;
    // No rounding stands for the nearest, where an operation need not say it.
    let rounds = modifiers.first() == Some(&"rn");
    modifiers = &modifiers[usize::from(rounds)..];
    let flushes = modifiers.first() == Some(&"ftz") && element.bits == 32;
    modifiers = &modifiers[usize::from(flushes)..];
    let binary = |what| Some(Operation::FloatBinary { what, element, flushes });
    let unary = |what| Some(Operation::FloatUnary { what, element, flushes });
    match (head, rounds, modifiers) {
        ("add", _, []) => binary(FloatBinary::Add),
        ("sub", _, []) => binary(FloatBinary::Subtract),
        ("mul", _, []) => binary(FloatBinary::Multiply),
        ("div", true, []) => binary(FloatBinary::Divide),
        ("fma", true, []) => Some(Operation::Fused { element, flushes }),
        ("sqrt", true, []) => unary(FloatUnary::SquareRoot),
        ("rcp", true, []) => unary(FloatUnary::Reciprocal),
        ("min", false, []) => binary(FloatBinary::Min),
        ("max", false, []) => binary(FloatBinary::Max),
        ("min", false, ["NaN"]) if element.bits == 32 => binary(FloatBinary::MinNan),
        ("max", false, ["NaN"]) if element.bits == 32 => binary(FloatBinary::MaxNan),
        ("copysign", false, []) if !flushes => binary(FloatBinary::CopySign),
        ("abs", false, []) => unary(FloatUnary::Absolute),
        ("neg", false, []) => unary(FloatUnary::Negate),
        _ => None,
    }
}

fn predicate(head: &str, modifiers: &[&str]) -> Option<Operation> {
    Some(match (head, modifiers) {
        ("mov", ["pred"]) => Operation::MovePredicate,
        ("not", ["pred"]) => Operation::NotPredicate,
        ("and" | "or" | "xor", ["pred"]) => Operation::Logic(logic(head)?),
        ("setp", [how, rest @ ..]) => {
            let (&element, rest) = rest.split_last()?;
            let flushes = rest.last() == Some(&"ftz");
            let rest = &rest[..rest.len() - usize::from(flushes)];
            let join = match rest {
                [] => None,
                [join] => Some(logic(join)?),
                _ => return None,
            };
            Operation::SetPredicate(compare(how, element, flushes)?, join)
        }
        ("set", [how, to, element]) => {
            let to = of(to, "usf", 32..=32)?;
            Operation::Set(compare(how, element, false)?, to)
        }
        ("set", [how, "ftz", to, element]) => {
            let to = of(to, "usf", 32..=32)?;
            Operation::Set(compare(how, element, true)?, to)
        }
        _ => return None,
    })
}

fn logic(name: &str) -> Option<Logic> {
    Some(match name {
        "and" => Logic::And,
        "or" => Logic::Or,
        "xor" => Logic::Xor,
        _ => return None,
    })
}

fn compare(how: &str, element: &str, flushes: bool) -> Option<Compare> {
    use Comparison::*;
    let element = of(element, "busf", 16..=64)?;
    let (how, is_unordered) = match (how, element.family) {
        ("eq", _) => (Equal, false),
        // Of numbers: a NaN equals nothing, and yet `ne` is false for it.
        ("ne", _) => (NotEqual, false),
        (_, Family::Bits) => return None,
        ("lt", _) => (Less, false),
        ("le", _) => (LessOrEqual, false),
        ("gt", _) => (Greater, false),
        ("ge", _) => (GreaterOrEqual, false),
        ("lo", Family::Unsigned) => (Less, false),
        ("ls", Family::Unsigned) => (LessOrEqual, false),
        ("hi", Family::Unsigned) => (Greater, false),
        ("hs", Family::Unsigned) => (GreaterOrEqual, false),
        (_, Family::Unsigned | Family::Signed) => return None,
        ("equ", _) => (Equal, true),
        ("neu", _) => (NotEqual, true),
        ("ltu", _) => (Less, true),
        ("leu", _) => (LessOrEqual, true),
        ("gtu", _) => (Greater, true),
        ("geu", _) => (GreaterOrEqual, true),
        ("num", _) => (Numbers, false),
        ("nan", _) => (Nan, true),
        _ => return None,
    };
    if flushes && (element.bits != 32 || !element.is_float()) {
        return None;
    }
    Some(Compare { how, is_unordered, element, flushes })
}

fn conversion(head: &str, modifiers: &[&str]) -> Option<Operation> {
    if head != "cvt" {
        return None;
    }
    let [rest @ .., to, from] = modifiers else { return None };
    match (rest, *to, *from) {
        ([], "f32", "f16") => return Some(Operation::WidenHalf),
        (["rn"], "f16x2", "f32") => return Some(Operation::RoundPair(Small::Half)),
        (["rn"], "bf16x2", "f32") => return Some(Operation::RoundPair(Small::Bfloat)),
        (["rn", "satfinite"], "e5m2x2", "f32") => return Some(Operation::RoundPair(Small::E5M2)),
        (["rn", "satfinite"], "e4m3x2", "f32") => return Some(Operation::RoundPair(Small::E4M3)),
        (["rn"], "f16x2", "e5m2x2") => return Some(Operation::WidenPair(Small::E5M2)),
        (["rn"], "f16x2", "e4m3x2") => return Some(Operation::WidenPair(Small::E4M3)),
        _ => {}
    }
    let (to, from) = (of(to, "usf", 8..=64)?, of(from, "usf", 8..=64)?);
    let (mut rounding, mut flushes, mut saturates) = (None, false, false);
    for modifier in rest {
        match *modifier {
            "ftz" => flushes = true,
            "sat" => saturates = true,
            "rn" | "rz" | "rm" | "rp" | "rni" | "rzi" | "rmi" | "rpi" if rounding.is_none() => {
                rounding = Some(*modifier);
            }
            _ => return None,
        }
    }
    let to_integer = !to.is_float();
    let (named, is_integral) = match rounding {
        None => (None, false),
        Some(name) => (
            Some(match &name[..2] {
                "rn" => Rounding::Nearest,
                "rz" => Rounding::Zero,
                "rm" => Rounding::Down,
                _ => Rounding::Up,
            }),
            name.len() == 3,
        ),
    };
    // Where a rounding has to be said, and where it must not be.
    let rounds = match (from.is_float(), to.is_float()) {
        (true, false) => named.is_some() && is_integral,
        (false, true) => named.is_some() && !is_integral,
        (true, true) if from.bits > to.bits => named.is_some() && !is_integral,
        (true, true) if from.bits == to.bits => named.is_some() && is_integral,
        _ => named.is_none(),
    };
    let single = from.is_float() && from.bits == 32 || to.is_float() && to.bits == 32;
    if !rounds || flushes && !single || saturates && !to_integer {
        return None;
    }
    let rounding = named.unwrap_or(Rounding::Nearest);
    Some(Operation::Convert(Conversion { to, from, rounding, flushes, saturates }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_simulated_is_not_known() {
        for name in [
            "add.rz.f32",
            "add.sat.s32",
            "mul.f16",
            "ld.volatile.b32",
            "ld.global.nc.L1::no_allocate.b32",
            "st.param.b32",
            "atom.add.f32",
            "atom.cas.b32",
            "setp.lt.b32",
            "setp.equ.u32",
            "cvt.f32.f64",
            "cvt.rn.f64.f32",
            "copysign.ftz.f32",
            "cvt.rn.f16.f32",
            "cvt.rn.f32.f16",
            "cvt.rz.f16x2.f32",
            "cvt.rn.relu.f16x2.f32",
            "cvt.rn.e4m3x2.f32",
            "cvt.rn.satfinite.f16x2.f32",
            "cvt.u32.f32",
            "cvt.rzi.u32.u64",
            "shfl.bfly.b32",
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32",
            "ldmatrix.sync.aligned.m8n8.x3.shared.b16",
            "bar.arrive",
            "call.uni",
            "brx.idx",
            "",
            ".",
            "mov",
            "bra.div",
            "add.s8",
            "add.cc.u16",
            "addc.f32",
            "shl.s32",
            "ld.v4.b64",
            "cp.async.bulk",
            "a.b.c.d.e.f.g.h.i.j.k.l",
            "red.exch.b32",
            "div.f32",
        ] {
            assert_eq!(Operation::named(name), None, "{name}");
        }
    }
}
