//! Operations on integers and bits, beside plain arithmetic with 128 bits.

mod device;

use device::{Random, apply, pairs, rows};

/// Numbers at which something changes, for so many bits.
fn special(bits: u8) -> Vec<u64> {
    let top = 1_u64 << (bits - 1);
    let mask = u64::MAX >> (64 - bits);
    let mut all = vec![0, 1, 2, 3, 7, 31, 32, 33, 255, top - 1, top, top + 1, mask - 1, mask];
    if bits > 16 {
        all.extend([63, 64, 65, 0x8000, 0xffff, 0x1234_5678]);
    }
    all.iter().map(|of| of & mask).collect()
}

/// A number as its type reads it.
fn value(bits: u8, is_signed: bool, of: u64) -> i128 {
    let above = 64 - u32::from(bits);
    if is_signed {
        i128::from((of << above) as i64 >> above)
    } else {
        i128::from(of << above >> above)
    }
}

fn low(bits: u8, of: i128) -> u64 {
    of as u64 & (u64::MAX >> (64 - bits))
}

fn check(name: &str, rows: &[[u64; 3]], found: &[u64], expected: impl Fn([u64; 3]) -> u64) {
    for (&row, &found) in rows.iter().zip(found) {
        let expected = expected(row);
        assert_eq!(found, expected, "{name} of {row:x?}: {found:x} and not {expected:x}");
    }
}

/// What the lower of two parts carries, or borrows, reaches the upper one.
#[test]
fn sums_of_two_parts() {
    for bits in [32_u8, 64] {
        let rows = pairs(&special(bits), bits, 20_000);
        let mut carries = 0;
        for (lower, upper) in [("add.cc", "addc"), ("add.cc", "addc.cc"), ("sub.cc", "subc")] {
            let text = format!(
                "{{ .reg .b{bits} %low; {lower}.u{bits} %low, %a, %b; {upper}.s{bits} %d, %b, %a; }}"
            );
            let found = apply([bits; 4], &text, &rows);
            check(&text, &rows, &found, |[a, b, _]| {
                let (one, other) =
                    (u128::from(b) << bits | u128::from(a), u128::from(a) << bits | u128::from(b));
                let whole = match upper {
                    "subc" => one.wrapping_sub(other),
                    _ => one.wrapping_add(other),
                };
                low(bits, (whole >> bits) as i128)
            });
            let uncarried = |[a, b, _]: [u64; 3]| match upper {
                "subc" => low(bits, i128::from(b.wrapping_sub(a))),
                _ => low(bits, i128::from(b.wrapping_add(a))),
            };
            carries +=
                rows.iter().zip(&found).filter(|(row, found)| uncarried(**row) != **found).count();
        }
        assert!(carries > 1000, "{carries}");
    }
}

#[test]
fn two_integers() {
    for bits in [16_u8, 32, 64] {
        let rows = pairs(&special(bits), bits, 20_000);
        for is_signed in [false, true] {
            let element = format!("{}{bits}", if is_signed { 's' } else { 'u' });
            let type_min = -(1_i128 << (bits - 1));
            for name in ["add", "sub", "mul.lo", "mul.hi", "div", "rem", "min", "max"] {
                let found = apply([bits; 4], &format!("{name}.{element} %d, %a, %b;"), &rows);
                check(&format!("{name}.{element}"), &rows, &found, |[a, b, _]| {
                    let (a, b) = (value(bits, is_signed, a), value(bits, is_signed, b));
                    low(
                        bits,
                        match name {
                            "add" => a + b,
                            "sub" => a - b,
                            "mul.lo" => a.wrapping_mul(b),
                            // Of 64 bits unsigned, the product has all of 128.
                            "mul.hi" if is_signed => (a * b) >> bits,
                            "mul.hi" => ((a as u128 * b as u128) >> bits) as i128,
                            "div" if b == 0 => -1,
                            "div" if is_signed && a == type_min && b == -1 => a,
                            "div" => a / b,
                            "rem" if b == 0 => a,
                            "rem" => a % b,
                            "min" => a.min(b),
                            _ => a.max(b),
                        },
                    )
                });
            }
        }
        for name in ["and", "or", "xor"] {
            let found = apply([bits; 4], &format!("{name}.b{bits} %d, %a, %b;"), &rows);
            check(name, &rows, &found, |[a, b, _]| match name {
                "and" => a & b,
                "or" => a | b,
                _ => a ^ b,
            });
        }
    }
}

#[test]
fn one_integer() {
    for bits in [16_u8, 32, 64] {
        let rows = pairs(&special(bits), bits, 5_000);
        let find = |name: &str, to: u8| {
            apply([to, bits, bits, bits], &format!("{name}{bits} %d, %a;"), &rows)
        };
        check("not", &rows, &find("not.b", bits), |[a, ..]| low(bits, !i128::from(a)));
        check("neg", &rows, &find("neg.s", bits), |[a, ..]| low(bits, -i128::from(a)));
        check("abs", &rows, &find("abs.s", bits), |[a, ..]| low(bits, value(bits, true, a).abs()));
        if bits > 16 {
            let digits = |a: u64| (0..bits).rev().map(move |nth| a >> nth & 1);
            check("clz", &rows, &find("clz.b", 32), |[a, ..]| {
                digits(a).take_while(|&digit| digit == 0).count() as u64
            });
            check("popc", &rows, &find("popc.b", 32), |[a, ..]| digits(a).sum());
            check("brev", &rows, &find("brev.b", bits), |[a, ..]| {
                (0..bits).fold(0, |all, nth| all << 1 | a >> nth & 1)
            });
        }
    }
}

#[test]
fn products_of_twice_the_bits_and_sums() {
    for bits in [16_u8, 32, 64] {
        let rows = rows(&special(bits)[..10], bits, 10_000);
        for is_signed in [false, true] {
            let element = format!("{}{bits}", if is_signed { 's' } else { 'u' });
            let product = |a, b| value(bits, is_signed, a).wrapping_mul(value(bits, is_signed, b));
            let found = apply([bits; 4], &format!("mad.lo.{element} %d, %a, %b, %c;"), &rows);
            check("mad.lo", &rows, &found, |[a, b, c]| {
                low(bits, product(a, b).wrapping_add(i128::from(c)))
            });
            if bits < 64 {
                let text = format!("mul.wide.{element} %d, %a, %b;");
                let found = apply([2 * bits, bits, bits, bits], &text, &rows);
                check("mul.wide", &rows, &found, |[a, b, _]| low(2 * bits, product(a, b)));
                let text = format!("mad.wide.{element} %d, %a, %b, %c;");
                let found = apply([2 * bits, bits, bits, 2 * bits], &text, &rows);
                check("mad.wide", &rows, &found, |[a, b, c]| {
                    low(2 * bits, product(a, b) + i128::from(c))
                });
            }
        }
    }
}

#[test]
fn shifts() {
    for bits in [16_u8, 32, 64] {
        let mut shifted = pairs(&special(bits), bits, 2_000);
        let mut random = Random(3);
        shifted.iter_mut().skip(200).for_each(|row| row[1] = random.bits() % 70);
        shifted.push([1, 0xffff_ffff, 0]);
        shifted.iter_mut().for_each(|row| row[1] &= 0xffff_ffff);
        let widths = [bits, bits, 32, 32];
        // More than the bits are as many as them.
        let by = |b: u64| b.min(u64::from(bits)) as u32;
        let found = apply(widths, &format!("shl.b{bits} %d, %a, %b;"), &shifted);
        check("shl", &shifted, &found, |[a, b, _]| low(bits, i128::from(a) << by(b)));
        for unsigned in ["u", "b"] {
            let found = apply(widths, &format!("shr.{unsigned}{bits} %d, %a, %b;"), &shifted);
            check("shr", &shifted, &found, |[a, b, _]| low(bits, i128::from(a) >> by(b)));
        }
        let found = apply(widths, &format!("shr.s{bits} %d, %a, %b;"), &shifted);
        check("shr.s", &shifted, &found, |[a, b, _]| low(bits, value(bits, true, a) >> by(b)));
    }
}

/// The ISA, 9.7.8.7: `shf.l` returns the upper word of `[b, a] << n`, `shf.r` the lower one of `[b, a] >> n`; `n` is
/// `c & 31` where it wraps, and at most 32 where it is clamped.
#[test]
fn shifts_over_two_words() {
    let mut all = pairs(&special(32), 32, 5_000);
    let mut random = Random(4);
    all.iter_mut().for_each(|row| row[2] = random.bits() % 40);
    all.push([5, 7, 0xffff_ffff]);
    for (way, how) in [("l", "wrap"), ("l", "clamp"), ("r", "wrap"), ("r", "clamp")] {
        let found = apply([32; 4], &format!("shf.{way}.{how}.b32 %d, %a, %b, %c;"), &all);
        check("shf", &all, &found, |[a, b, c]| {
            let by = if how == "wrap" { c & 31 } else { c.min(32) };
            let both = u128::from(b << 32 | a);
            low(32, if way == "l" { (both << by >> 32) as i128 } else { (both >> by) as i128 })
        });
    }
}

/// The pseudocode of the ISA, 9.7.1.19: bit by bit, with the sign where a field ends or the number does.
fn field(bits: i64, is_signed: bool, a: u64, position: u64, count: u64) -> u64 {
    let msb = bits - 1;
    let (pos, len) = ((position & 0xff) as i64, (count & 0xff) as i64);
    let bit = |at: i64| a >> at & 1;
    let sign = if !is_signed || len == 0 { 0 } else { bit((pos + len - 1).min(msb)) };
    (0..=msb).fold(0, |all, at| {
        let bit = if at < len && pos + at <= msb { bit(pos + at) } else { sign };
        all | bit << at
    })
}

#[test]
fn fields_are_extracted_and_inserted() {
    for bits in [32_u8, 64] {
        let mut random = Random(u64::from(bits));
        for _ in 0..60 {
            let near = [0, 1, 5, 8, 31, 32, 33, 63, 64, 65, 128, 255, 256, 300];
            let mut pick = || near[random.bits() as usize % near.len()];
            let (position, count) = (pick(), pick());
            let rows = pairs(&special(bits), bits, 200);
            for is_signed in [false, true] {
                let element = if is_signed { 's' } else { 'u' };
                let text = format!("bfe.{element}{bits} %d, %a, {position}, {count};");
                let found = apply([bits; 4], &text, &rows);
                check(&text, &rows, &found, |[a, ..]| {
                    field(i64::from(bits), is_signed, a, position, count)
                });
            }
            let text = format!("bfi.b{bits} %d, %a, %b, {position}, {count};");
            let found = apply([bits; 4], &text, &rows);
            // The ISA, 9.7.1.20: `for (i = 0; i < len && pos + i <= msb; i++) f[pos + i] = a[i]`.
            check(&text, &rows, &found, |[a, b, _]| {
                let (pos, len) = (position & 0xff, count & 0xff);
                (0..len)
                    .take_while(|at| pos + at < u64::from(bits))
                    .fold(b, |all, at| all & !(1 << (pos + at)) | (a >> at & 1) << (pos + at))
            });
        }
    }
}

/// The ISA, 9.7.8.8: the tables of its modes, each byte's selector for `c` from 0 to 3, the upper byte first.
#[test]
fn bytes_are_permuted() {
    let tables: [(&str, [[u64; 4]; 4]); 6] = [
        ("f4e", [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]),
        ("b4e", [[5, 6, 7, 0], [6, 7, 0, 1], [7, 0, 1, 2], [0, 1, 2, 3]]),
        ("rc8", [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]),
        ("ecl", [[3, 2, 1, 0], [3, 2, 1, 1], [3, 2, 2, 2], [3, 3, 3, 3]]),
        ("ecr", [[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 0]]),
        ("rc16", [[1, 0, 1, 0], [3, 2, 3, 2], [1, 0, 1, 0], [3, 2, 3, 2]]),
    ];
    let mut all = pairs(&special(32), 32, 2_000);
    let mut random = Random(7);
    all.iter_mut().for_each(|row| row[2] = random.bits() & 0xffff_ffff);
    let byte = |a: u64, b: u64, which: u64| (b << 32 | a) >> (8 * which) & 0xff;
    for (mode, table) in tables {
        let found = apply([32; 4], &format!("prmt.b32.{mode} %d, %a, %b, %c;"), &all);
        check(mode, &all, &found, |[a, b, c]| {
            table[(c & 3) as usize].iter().fold(0, |all, &which| all << 8 | byte(a, b, which))
        });
    }
    let found = apply([32; 4], "prmt.b32 %d, %a, %b, %c;", &all);
    check("prmt", &all, &found, |[a, b, c]| {
        (0..4).rev().fold(0, |all, to| {
            let which = c >> (4 * to) & 0xf;
            let byte = byte(a, b, which & 7);
            let byte = if which < 8 {
                byte
            } else if byte >= 128 {
                0xff
            } else {
                0
            };
            all << 8 | byte
        })
    });
    // Worked by hand: the bytes of 0x33221100 and 0x77665544 are 0 to 7.
    let found = apply([32; 4], "prmt.b32 %d, %a, %b, %c;", &[[0x3322_1100, 0x7766_5544, 0x3340]]);
    assert_eq!(found, [0x3333_4400]);
}

#[test]
fn halves_of_words() {
    let rows = pairs(&special(32), 32, 5_000);
    for (name, is_signed) in [("s16x2", true), ("u16x2", false)] {
        for (head, larger) in [("min", false), ("max", true)] {
            let found = apply([32; 4], &format!("{head}.{name} %d, %a, %b;"), &rows);
            check(name, &rows, &found, |[a, b, _]| {
                let half = |shift: u32| {
                    let [a, b] = [a, b].map(|of| value(16, is_signed, of >> shift & 0xffff));
                    low(16, if larger { a.max(b) } else { a.min(b) })
                };
                half(16) << 16 | half(0)
            });
        }
    }
}

#[test]
fn integers_become_wider_and_narrower() {
    for from_bits in [8_u8, 16, 32, 64] {
        let rows = pairs(&special(64), 64, 1_000);
        for to_bits in [8_u8, 16, 32, 64] {
            for (from_signed, to_signed) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let name = |is_signed, bits| format!("{}{bits}", if is_signed { 's' } else { 'u' });
                let (to, from) = (name(to_signed, to_bits), name(from_signed, from_bits));
                // Registers may be wider than the types: what is above in one is not read, and in the other the
                // number's sign, or zeros.
                for wider in [0, 1] {
                    let from_register = (from_bits.max(16) << wider).min(64);
                    let to_register = (to_bits.max(16) << wider).min(64);
                    let widths = [to_register, from_register, 16, 16];
                    for saturates in ["", ".sat"] {
                        let text = format!("cvt{saturates}.{to}.{from} %d, %a;");
                        let found = apply(widths, &text, &rows);
                        check(&text, &rows, &found, |[a, ..]| {
                            let number = value(from_bits, from_signed, a);
                            let least = if to_signed { -(1_i128 << (to_bits - 1)) } else { 0 };
                            let most = (1_i128 << (to_bits - u8::from(to_signed))) - 1;
                            let number = match saturates {
                                "" => number,
                                _ => number.clamp(least, most),
                            };
                            let number = value(to_bits, to_signed, low(to_bits, number));
                            low(to_register, number)
                        });
                    }
                }
            }
        }
    }
}

#[test]
fn comparisons() {
    for bits in [16_u8, 32, 64] {
        let rows = pairs(&special(bits), bits, 5_000);
        for (family, names) in [
            ("u", &["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"][..]),
            ("s", &["eq", "ne", "lt", "le", "gt", "ge"]),
            ("b", &["eq", "ne"]),
        ] {
            for name in names {
                let is_true = |a: u64, b: u64| {
                    let [a, b] = [a, b].map(|of| value(bits, family == "s", of));
                    match *name {
                        "eq" => a == b,
                        "ne" => a != b,
                        "lt" | "lo" => a < b,
                        "le" | "ls" => a <= b,
                        "gt" | "hi" => a > b,
                        _ => a >= b,
                    }
                };
                let text = format!(
                    "setp.{name}.{family}{bits} %p|%q, %a, %b;
selp.b32 %d, 1, 0, %p;
selp.b32 %r3, 2, 0, %q;
or.b32 %d, %d, %r3;"
                );
                let found = apply([32, bits, bits, bits], &text, &rows);
                check(name, &rows, &found, |[a, b, _]| if is_true(a, b) { 1 } else { 2 });
                if family != "b" {
                    let text = format!("set.{name}.u32.{family}{bits} %d, %a, %b;");
                    let found = apply([32, bits, bits, bits], &text, &rows);
                    check(
                        name,
                        &rows,
                        &found,
                        |[a, b, _]| if is_true(a, b) { 0xffff_ffff } else { 0 },
                    );
                }
            }
        }
    }
}

#[test]
fn predicates() {
    let rows = rows(&[0, 1], 32, 0);
    for name in ["and", "or", "xor"] {
        let join = |a: bool, b: bool| match name {
            "and" => a & b,
            "or" => a | b,
            _ => a ^ b,
        };
        let text = format!(
            "setp.ne.u32 %p, %a, 0;
setp.ne.u32 %q, %b, 0;
{name}.pred %p, %p, %q;
not.pred %q, %q;
mov.pred %q, %p;
selp.b32 %d, 1, 0, %q;"
        );
        check(name, &rows, &apply([32; 4], &text, &rows), |[a, b, _]| join(a != 0, b != 0).into());
        for (not, negates) in [("", false), ("!", true)] {
            let text = format!(
                "setp.ne.u32 %q, %c, 0;
setp.lt.{name}.u32 %p, %a, %b, {not}%q;
selp.b32 %d, 1, 0, %p;"
            );
            check(name, &rows, &apply([32; 4], &text, &rows), |[a, b, c]| {
                join(a < b, (c != 0) != negates).into()
            });
        }
    }
}

#[test]
fn registers_are_packed_and_unpacked() {
    let rows = pairs(&special(64), 64, 100);
    let text = "mov.b64 {%b, %c}, %a;\nmov.b64 %d, {%c, %b};";
    check("b64", &rows, &apply([64, 64, 32, 32], text, &rows), |[a, ..]| a.rotate_left(32));
    let text = "mov.b32 {_, %b}, %a;\nmov.b32 %d, {%b, %c};";
    check("b32", &rows, &apply([32, 32, 16, 16], text, &rows), |[a, _, c]| {
        a >> 16 & 0xffff | c << 16
    });
}
