//! Operations and conversions of floating-point numbers, beside LLVM's APFloat.

mod device;

use adaloss_interpreter::operation::Operation;
use device::{Random, apply, pairs, rows};
use rustc_apfloat::{
    Float, FloatConvert, Round,
    ieee::{BFloat, Double, Float8E4M3FN, Float8E5M2, Half, Single},
};

/// Numbers of 32 bits at which something changes; the same with their signs, too.
fn singles() -> Vec<u64> {
    let magnitudes = [
        0,
        1,
        2,
        0x007f_ffff,
        0x0080_0000,
        0x0080_0001,
        0x3f00_0000,
        0x3f80_0000,
        0x3f80_0001,
        0x4b00_0000,
        0x4b7f_ffff,
        0x4f00_0000,
        0x5f00_0000,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7f80_0001,
        0x7fc0_1234,
    ];
    magnitudes.iter().flat_map(|&of| [of, of | 1 << 31]).collect()
}

/// The same of 64 bits.
fn doubles() -> Vec<u64> {
    let magnitudes = [
        0,
        1,
        0x000f_ffff_ffff_ffff,
        0x0010_0000_0000_0000,
        0x3690_0000_0000_0000,
        0x36a0_0000_0000_0001,
        0x380f_ffff_f000_0000,
        0x3810_0000_0000_0000,
        0x3fe0_0000_0000_0000,
        0x3ff0_0000_0000_0000,
        0x3ff0_0000_1000_0000,
        0x3ff0_0000_1000_0001,
        0x41df_ffff_ffc0_0000,
        0x43e0_0000_0000_0000,
        0x47ef_ffff_e000_0000,
        0x47ef_ffff_f000_0000,
        0x7fef_ffff_ffff_ffff,
        0x7ff0_0000_0000_0000,
        0x7ff0_0000_0000_0001,
        0x7ff8_0000_dead_beef,
    ];
    magnitudes.iter().flat_map(|&of| [of, of | 1 << 63]).collect()
}

fn single(bits: u64) -> Single {
    Single::from_bits(u128::from(bits & 0xffff_ffff))
}

fn double(bits: u64) -> Double {
    Double::from_bits(u128::from(bits))
}

/// What a result of 32 bits is: any NaN is one and the same.
fn of_single(value: Single) -> u64 {
    if value.is_nan() { 0x7fff_ffff } else { value.to_bits() as u64 }
}

/// What a result of 64 bits is: the first operand that is a NaN, quiet, or one that is made.
fn of_double(value: Double, operands: &[u64]) -> u64 {
    if !value.is_nan() {
        return value.to_bits() as u64;
    }
    let nan = operands.iter().find(|&&of| double(of).is_nan());
    nan.map_or(0xfff8_0000_0000_0000, |of| of | 1 << 51)
}

fn flushed(bits: u64) -> u64 {
    if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits }
}

fn check(name: &str, rows: &[[u64; 3]], found: &[u64], expected: impl Fn([u64; 3]) -> u64) {
    for (&row, &found) in rows.iter().zip(found) {
        let expected = expected(row);
        assert_eq!(found, expected, "{name} of {row:x?}: {found:x} and not {expected:x}");
    }
}

type OfSingles = fn(Single, Single) -> Single;
type OfDoubles = fn(Double, Double) -> Double;

#[test]
fn two_numbers_of_32_bits() {
    let rows = pairs(&singles(), 32, 100_000);
    let operations: [(&str, OfSingles); 4] = [
        ("add.rn", |a, b| (a + b).value),
        ("sub.rn", |a, b| (a - b).value),
        ("mul.rn", |a, b| (a * b).value),
        ("div.rn", |a, b| (a / b).value),
    ];
    for (name, meaning) in operations {
        let found = apply([32; 4], &format!("{name}.f32 %d, %a, %b;"), &rows);
        check(name, &rows, &found, |[a, b, _]| of_single(meaning(single(a), single(b))));
        let found = apply([32; 4], &format!("{name}.ftz.f32 %d, %a, %b;"), &rows);
        check(name, &rows, &found, |[a, b, _]| {
            flushed(of_single(meaning(single(flushed(a)), single(flushed(b)))))
        });
    }
}

#[test]
fn two_numbers_of_64_bits() {
    let rows = pairs(&doubles(), 64, 100_000);
    let operations: [(&str, OfDoubles); 4] = [
        ("add.rn", |a, b| (a + b).value),
        ("sub.rn", |a, b| (a - b).value),
        ("mul.rn", |a, b| (a * b).value),
        ("div.rn", |a, b| (a / b).value),
    ];
    for (name, meaning) in operations {
        let found = apply([64; 4], &format!("{name}.f64 %d, %a, %b;"), &rows);
        check(name, &rows, &found, |[a, b, _]| of_double(meaning(double(a), double(b)), &[a, b]));
    }
}

#[test]
fn products_that_are_added_with_one_rounding() {
    let of_singles = rows(&singles(), 32, 50_000);
    let found = apply([32; 4], "fma.rn.f32 %d, %a, %b, %c;", &of_singles);
    check("fma", &of_singles, &found, |[a, b, c]| {
        of_single(single(a).mul_add(single(b), single(c)).value)
    });
    let found = apply([32; 4], "fma.rn.ftz.f32 %d, %a, %b, %c;", &of_singles);
    check("fma.ftz", &of_singles, &found, |row| {
        let [a, b, c] = row.map(|of| single(flushed(of)));
        flushed(of_single(a.mul_add(b, c).value))
    });
    let of_doubles = rows(&doubles(), 64, 50_000);
    let found = apply([64; 4], "fma.rn.f64 %d, %a, %b, %c;", &of_doubles);
    check("fma.f64", &of_doubles, &found, |[a, b, c]| {
        of_double(double(a).mul_add(double(b), double(c)).value, &[a, b, c])
    });
}

/// Minimum and maximum by the definition: of a NaN and a number it is the number, and -0 is less than +0.
fn extreme<F: Float>(a: F, b: F, larger: bool) -> F {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a.is_zero() && b.is_zero() => {
            if a.is_negative() != larger {
                a
            } else {
                b
            }
        }
        _ => {
            if (a < b) != larger {
                a
            } else {
                b
            }
        }
    }
}

#[test]
fn the_smaller_and_the_larger_number() {
    let of_singles = pairs(&singles(), 32, 50_000);
    let of_doubles = pairs(&doubles(), 64, 50_000);
    for (name, larger) in [("min", false), ("max", true)] {
        let found = apply([32; 4], &format!("{name}.f32 %d, %a, %b;"), &of_singles);
        check(name, &of_singles, &found, |[a, b, _]| {
            of_single(extreme(single(a), single(b), larger))
        });
        let found = apply([32; 4], &format!("{name}.NaN.f32 %d, %a, %b;"), &of_singles);
        check(name, &of_singles, &found, |[a, b, _]| {
            let is_nan = single(a).is_nan() || single(b).is_nan();
            if is_nan { 0x7fff_ffff } else { of_single(extreme(single(a), single(b), larger)) }
        });
        let found = apply([64; 4], &format!("{name}.f64 %d, %a, %b;"), &of_doubles);
        check(name, &of_doubles, &found, |[a, b, _]| {
            match double(a).is_nan() && double(b).is_nan() {
                true => a | 1 << 51,
                false => extreme(double(a), double(b), larger).to_bits() as u64,
            }
        });
    }
}

#[test]
fn the_sign_of_another_number() {
    let of_singles = pairs(&singles(), 32, 20_000);
    let found = apply([32; 4], "copysign.f32 %d, %a, %b;", &of_singles);
    check("copysign", &of_singles, &found, |[a, b, _]| {
        single(b).copy_sign(single(a)).to_bits() as u64
    });
    let of_doubles = pairs(&doubles(), 64, 20_000);
    let found = apply([64; 4], "copysign.f64 %d, %a, %b;", &of_doubles);
    check("copysign", &of_doubles, &found, |[a, b, _]| {
        double(b).copy_sign(double(a)).to_bits() as u64
    });
}

#[test]
fn one_number() {
    let of_singles = pairs(&singles(), 32, 20_000);
    let of_doubles = pairs(&doubles(), 64, 20_000);
    let find = |bits: u8, name: &str, rows: &[[u64; 3]]| {
        apply([bits; 4], &format!("{name}.f{bits} %d, %a;"), rows)
    };
    check("abs", &of_singles, &find(32, "abs", &of_singles), |[a, ..]| a & 0x7fff_ffff);
    check("neg", &of_singles, &find(32, "neg", &of_singles), |[a, ..]| a ^ 1 << 31);
    check("abs.ftz", &of_singles, &find(32, "abs.ftz", &of_singles), |[a, ..]| {
        flushed(a) & 0x7fff_ffff
    });
    check("abs", &of_doubles, &find(64, "abs", &of_doubles), |[a, ..]| a & u64::MAX >> 1);
    check("neg", &of_doubles, &find(64, "neg", &of_doubles), |[a, ..]| a ^ 1 << 63);
    check("rcp", &of_singles, &find(32, "rcp.rn", &of_singles), |[a, ..]| {
        of_single((single(0x3f80_0000) / single(a)).value)
    });
    // The root is the number whose square is nearest: half a digit more and less is beyond.
    for (&[a, ..], &root) in of_singles.iter().zip(&find(32, "sqrt.rn", &of_singles)) {
        let (value, root) = (f32::from_bits(a as u32), f32::from_bits(root as u32));
        if value.is_nan() || value < 0.0 {
            assert_eq!(root.to_bits(), 0x7fff_ffff);
        } else if value == 0.0 || value.is_infinite() {
            assert_eq!(root.to_bits(), a as u32);
        } else {
            let middle = |other: f32| (f64::from(root) + f64::from(other)) / 2.0;
            let (below, above) = (middle(root.next_down()), middle(root.next_up()));
            assert!(below * below <= f64::from(value) && f64::from(value) <= above * above);
        }
    }
}

#[test]
fn comparisons() {
    let of_singles = pairs(&singles(), 32, 20_000);
    let of_doubles = pairs(&doubles(), 64, 20_000);
    let names = [
        "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
    ];
    let is_true = |name: &str, order: Option<std::cmp::Ordering>| match (name, order) {
        ("num", order) => order.is_some(),
        ("nan", order) => order.is_none(),
        (name, None) => name.len() == 3,
        (name, Some(order)) => match &name[..2] {
            "eq" => order.is_eq(),
            "ne" => order.is_ne(),
            "lt" => order.is_lt(),
            "le" => order.is_le(),
            "gt" => order.is_gt(),
            _ => order.is_ge(),
        },
    };
    for name in names {
        let compare = |bits: u8, flushes: &str| {
            format!("setp.{name}{flushes}.f{bits} %p, %a, %b;\nselp.b32 %d, 1, 0, %p;")
        };
        let found = apply([32; 4], &compare(32, ""), &of_singles);
        check(name, &of_singles, &found, |[a, b, _]| {
            u64::from(is_true(name, single(a).partial_cmp(&single(b))))
        });
        let found = apply([32; 4], &compare(32, ".ftz"), &of_singles);
        check(name, &of_singles, &found, |[a, b, _]| {
            u64::from(is_true(name, single(flushed(a)).partial_cmp(&single(flushed(b)))))
        });
        let found = apply([32, 64, 64, 64], &compare(64, ""), &of_doubles);
        check(name, &of_doubles, &found, |[a, b, _]| {
            u64::from(is_true(name, double(a).partial_cmp(&double(b))))
        });
        let set = format!("set.{name}.f32.f32 %d, %a, %b;");
        let found = apply([32; 4], &set, &of_singles);
        check(name, &of_singles, &found, |[a, b, _]| {
            let is_true = is_true(name, single(a).partial_cmp(&single(b)));
            if is_true { 0x3f80_0000 } else { 0 }
        });
    }
}

const ROUNDINGS: [(&str, Round); 4] = [
    ("rn", Round::NearestTiesToEven),
    ("rz", Round::TowardZero),
    ("rm", Round::TowardNegative),
    ("rp", Round::TowardPositive),
];

#[test]
fn numbers_become_wider_and_narrower() {
    let mut of_doubles = pairs(&doubles(), 64, 20_000);
    // Most doubles are beyond singles: some that are not, and some beside them.
    let mut random = Random(5);
    for _ in 0..50_000 {
        let near = f64::from(f32::from_bits(random.bits() as u32)).to_bits();
        of_doubles.push([
            near.wrapping_add((random.bits() % 3) << 28).wrapping_sub(random.bits() % 2),
            0,
            0,
        ]);
    }
    for (name, round) in ROUNDINGS {
        let found = apply([32, 64, 64, 64], &format!("cvt.{name}.f32.f64 %d, %a;"), &of_doubles);
        check(name, &of_doubles, &found, |[a, ..]| {
            let value: Single = double(a).convert_r(round, &mut false).value;
            of_single(value)
        });
    }
    let of_singles = pairs(&singles(), 32, 50_000);
    let found = apply([64, 32, 32, 32], "cvt.f64.f32 %d, %a;", &of_singles);
    check("cvt.f64.f32", &of_singles, &found, |[a, ..]| {
        let value: Double = single(a).convert(&mut false).value;
        let quiet = if value.is_nan() { 1 << 51 } else { 0 };
        value.to_bits() as u64 | quiet
    });
}

/// Integers at which something changes.
fn integers() -> Vec<u64> {
    let mut all = vec![0, 1, u64::MAX];
    for log2 in [7, 8, 15, 16, 23, 24, 25, 31, 32, 52, 53, 54, 62, 63] {
        all.extend([
            (1 << log2) - 1,
            1 << log2,
            (1 << log2) + 1,
            (3 << log2) / 2,
            (1_u64 << log2).wrapping_neg(),
        ]);
    }
    all
}

#[test]
fn integers_become_numbers() {
    let mut rows = pairs(&integers(), 64, 10_000);
    let mut random = Random(6);
    rows.extend((0..20_000).map(|nth| [random.bits() >> (nth % 64), 0, 0]));
    for bits in [8_u8, 16, 32, 64] {
        for is_signed in [false, true] {
            let from = format!("{}{bits}", if is_signed { "s" } else { "u" });
            let above = 64 - u32::from(bits);
            let value = |a: u64| match is_signed {
                true => i128::from((a << above) as i64 >> above),
                false => i128::from(a << above >> above),
            };
            let register = bits.max(16);
            for (name, round) in ROUNDINGS {
                let found =
                    apply([32, register, 32, 32], &format!("cvt.{name}.f32.{from} %d, %a;"), &rows);
                check(&from, &rows, &found, |[a, ..]| {
                    Single::from_i128_r(value(a), round).value.to_bits() as u64
                });
                let found =
                    apply([64, register, 32, 32], &format!("cvt.{name}.f64.{from} %d, %a;"), &rows);
                check(&from, &rows, &found, |[a, ..]| {
                    Double::from_i128_r(value(a), round).value.to_bits() as u64
                });
            }
        }
    }
}

#[test]
fn numbers_become_integers() {
    let mut of_singles = pairs(&singles(), 32, 5_000);
    let mut of_doubles = pairs(&doubles(), 64, 5_000);
    let mut random = Random(8);
    for nth in 0..20_000 {
        let integer = (random.bits() >> (nth % 64)) as i64 as f64 / [1.0, 2.0, 3.0][nth % 3];
        of_doubles.push([integer.to_bits(), 0, 0]);
        of_singles.push([(integer as f32).to_bits().into(), 0, 0]);
    }
    for bits in [8_u8, 16, 32, 64] {
        for is_signed in [false, true] {
            let to = format!("{}{bits}", if is_signed { "s" } else { "u" });
            let register = bits.max(16);
            let mask = u64::MAX >> (64 - register);
            for (name, round) in ROUNDINGS {
                for (from, rows) in [("f32", &of_singles), ("f64", &of_doubles)] {
                    let from_bits: u8 = from[1..].parse().expect("bits");
                    let text = format!("cvt.{name}i.{to}.{from} %d, %a;");
                    assert!(Operation::named(text.split(' ').next().expect("a name")).is_some());
                    let found = apply([register, from_bits, 32, 32], &text, rows);
                    check(&text, rows, &found, |[a, ..]| {
                        let is_nan =
                            if from == "f32" { single(a).is_nan() } else { double(a).is_nan() };
                        if is_nan {
                            // The ISA's sentence about NaN: the highest bit alone, if 64 bits are on either side.
                            let top = (from == "f64" || bits == 64).then_some(1_u64 << (bits - 1));
                            let top = top.unwrap_or(0);
                            return if is_signed { top.wrapping_neg() & mask } else { top };
                        }
                        let (bits, exact) = (usize::from(bits), &mut false);
                        let value = match (from, is_signed) {
                            ("f32", true) => single(a).to_i128_r(bits, round, exact).value as u128,
                            ("f32", false) => single(a).to_u128_r(bits, round, exact).value,
                            (_, true) => double(a).to_i128_r(bits, round, exact).value as u128,
                            (_, false) => double(a).to_u128_r(bits, round, exact).value,
                        };
                        value as u64 & mask
                    });
                }
            }
        }
    }
}

/// Returns the bits of a small number, any NaN as one and the same.
fn of_small<S: Float>(value: S, nan: u64) -> u64 {
    if value.is_nan() { nan } else { value.to_bits() as u64 }
}

/// Singles at which the rounding to a small number changes: all its numbers, and what lies half way between two.
fn around_small<S>(bits: u32) -> Vec<[u64; 3]>
where
    S: Float + FloatConvert<Single>,
{
    let mut rows = pairs(&singles(), 32, 50_000);
    for small in 0..1_u128 << bits {
        let number: Single = S::from_bits(small).convert(&mut false).value;
        let number = number.to_bits() as u64;
        for middle in [0x1000, 0x8000, 0x8_0000, 0x10_0000] {
            for near in [0, 1, middle - 1, middle, middle + 1] {
                rows.push([(number + near) & 0xffff_ffff, number, 0]);
            }
        }
    }
    // Subnormal ones, whose middles lie elsewhere.
    let mut random = Random(7);
    rows.extend((0..50_000).map(|_| {
        let exponent = 90 + random.bits() % 32;
        [(random.bits() & 0x8000_0000) | exponent << 23 | (random.bits() % 16) << 19, 0, 0]
    }));
    rows
}

fn rounds<S>(name: &str, bits: u32, nan: u64, saturates_to: Option<u64>)
where
    S: Float + FloatConvert<Single>,
    Single: FloatConvert<S>,
{
    let one = |of: u64| {
        let value: S = single(of).convert(&mut false).value;
        let magnitude = of_small(value, nan) & ((1 << (bits - 1)) - 1);
        match saturates_to {
            _ if single(of).is_nan() => nan,
            Some(most) if magnitude > most => (of >> 31) << (bits - 1) | most,
            _ => of_small(value, nan),
        }
    };
    let rows = around_small::<S>(bits);
    let to_bits = 2 * bits as u8;
    let found = apply([to_bits, 32, 32, 32], &format!("cvt.rn.{name}.f32 %d, %a, %b;"), &rows);
    check(name, &rows, &found, |[a, b, _]| one(a) << bits | one(b));
}

#[test]
fn pairs_are_rounded_to_16_and_8_bits() {
    rounds::<Half>("f16x2", 16, 0x7fff, None);
    rounds::<BFloat>("bf16x2", 16, 0x7fff, None);
    rounds::<Float8E5M2>("satfinite.e5m2x2", 8, 0x7f, Some(0x7b));
    rounds::<Float8E4M3FN>("satfinite.e4m3x2", 8, 0x7f, Some(0x7e));
}

#[test]
fn numbers_of_16_and_8_bits_become_wider() {
    let all: Vec<_> = (0..1 << 16).map(|bits| [bits, 0, 0]).collect();
    let found = apply([32, 16, 16, 16], "cvt.f32.f16 %d, %a;", &all);
    check("cvt.f32.f16", &all, &found, |[a, ..]| {
        of_single(Half::from_bits(a.into()).convert(&mut false).value)
    });
    let half = |value: Half| of_small(value, 0x7fff);
    let found = apply([32, 16, 16, 16], "cvt.rn.f16x2.e5m2x2 %d, %a;", &all);
    check("cvt.rn.f16x2.e5m2x2", &all, &found, |[a, ..]| {
        let one = |of: u64| half(Float8E5M2::from_bits(of.into()).convert(&mut false).value);
        one(a >> 8) << 16 | one(a & 0xff)
    });
    let found = apply([32, 16, 16, 16], "cvt.rn.f16x2.e4m3x2 %d, %a;", &all);
    check("cvt.rn.f16x2.e4m3x2", &all, &found, |[a, ..]| {
        let one = |of: u64| half(Float8E4M3FN::from_bits(of.into()).convert(&mut false).value);
        one(a >> 8) << 16 | one(a & 0xff)
    });
}
