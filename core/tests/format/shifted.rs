//! `narrow(2^k x)` rounds the exact product once.

use adaloss_core::format::{Encoding, Narrowing, Rounding};
use adaloss_oracle::{
    Grid,
    apfloat::{self, Round},
    exact::{rational, rational_pow2},
    in_parallel,
    inputs::{SplitMix64, with_neighbours},
    narrowings, pow2, product,
};

/// f32 values whose product with `2^k` lands on, halfway between and next to the numbers of the
/// grid, wherever f32 holds such a value; f32 subnormals; random patterns.
fn inputs(grid: &Grid, k: i32, count: usize, generator: &mut SplitMix64) -> Vec<f32> {
    let mut values = Vec::new();
    for _ in 0..count {
        let number = match grid.numbers.len() {
            0 => f64::from(generator.finite().abs()),
            length => grid.numbers[generator.below(length)],
        };
        let next = grid.neighbours(number).high;
        for target in [number, (number + next) / 2.0] {
            // Exact wherever f32 reaches; else the nearest it has.
            values.extend(with_neighbours((target * pow2(-k)) as f32));
        }
        values.push(generator.finite());
        values.push(f32::from_bits(1 + generator.half_word() % 0x7f_ffff));
    }
    let ends = [grid.limits.tie(), grid.limits.smallest / 2.0, grid.limits.smallest_normal];
    for end in ends {
        values.extend(with_neighbours((end * pow2(-k)) as f32));
    }
    values.retain(|x| x.is_finite());
    values
}

#[test]
fn every_shift_rounds_the_exact_product_once() {
    let shifts: Vec<i32> = (-300..=300).collect();
    let grids = Encoding::ALL.map(Grid::new);
    let checked = in_parallel(&shifts, |&k| {
        let mut generator = SplitMix64(k as u64);
        let mut count = 0;
        for grid in &grids {
            for x in inputs(grid, k, 40, &mut generator) {
                let x = if generator.word() & 1 == 0 { x } else { -x };
                for (rounding, round) in [
                    (Rounding::NearestEven, Round::NearestTiesToEven),
                    (Rounding::TowardZero, Round::TowardZero),
                ] {
                    let narrowing = Narrowing::to(grid.encoding.into()).with_rounding(rounding);
                    let expected = apfloat::round_product(grid.encoding, x, k, round);
                    let bits = narrowing.narrow(x, k, 0).bits;
                    assert_eq!(bits, expected, "{narrowing:?} 2^{k} * {:#010x}", x.to_bits());
                    count += 1;
                }
            }
        }
        count
    });
    println!("narrow: {checked} products 2^k x, k in -300..=300, against a binary128");
}

#[test]
fn every_shift_under_every_narrowing() {
    let checked = in_parallel(&narrowings(), |&narrowing| {
        let grid = Grid::new(narrowing.format.encoding);
        let mut generator = SplitMix64(5);
        let mut count = 0;
        for k in -300..=300 {
            for x in inputs(&grid, k, 10, &mut generator) {
                let noise = generator.half_word();
                let expected = grid.narrow(narrowing, x, k, noise);
                let narrowed = narrowing.narrow(x, k, noise);
                assert_eq!(narrowed, expected, "{narrowing:?} 2^{k} * {:#010x}", x.to_bits());
                count += 1;
            }
        }
        count
    });
    println!("narrow: {checked} shifted narrowings against the definition");
}

/// The references agree with rational numbers, so that none of them rests on f64 or APFloat alone.
#[test]
fn the_references_agree_with_rational_numbers() {
    let mut generator = SplitMix64(11);
    for encoding in Encoding::ALL {
        let grid = Grid::new(encoding);
        let narrowing = Narrowing::to(encoding.into());
        for _ in 0..300 {
            let k = generator.below(601) as i32 - 300;
            for x in inputs(&grid, k, 1, &mut generator) {
                let exact = rational(f64::from(x.abs())) * rational_pow2(k);
                assert_eq!(exact, rational(product(x.abs(), k)));
                if exact >= rational(grid.limits.beyond) {
                    continue;
                }
                let around = grid.neighbours(product(x.abs(), k));
                let (low, high) = (rational(around.low), rational(around.high));
                assert!(low <= exact && exact < high);
                let middle = (&low + &high) / rational(2.0);
                let up = exact > middle || (exact == middle && around.low_bits % 2 == 1);
                let bits = around.low_bits + u32::from(up);
                assert_eq!(grid.narrow(narrowing, x.abs(), k, 0).bits, bits);
                assert_eq!(narrowing.narrow(x.abs(), k, 0).bits, bits);
            }
        }
    }
}

/// Where an f32 multiplication and a cast round twice: for bfloat16 the product is subnormal in f32
/// and loses the bit that breaks the tie.
#[test]
fn a_multiplication_and_a_cast_differ_for_bfloat16() {
    let narrowing = Narrowing::to(Encoding::BFloat16.into());
    // 2^-100 (1 + 2^-23): 2^-34 times that is just above the tie 2^-134 between 0 and 2^-133.
    let (x, k) = (f32::from_bits(0x0d80_0001), -34);
    assert_eq!(f64::from(x), pow2(-100) + pow2(-123));
    let twice = narrowing.narrow(x * pow2(k) as f32, 0, 0).bits;
    let once = narrowing.narrow(x, k, 0).bits;
    assert_eq!((twice, once), (0x0000, 0x0001));
    assert_eq!(apfloat::round_product(Encoding::BFloat16, x, k, Round::NearestTiesToEven), 1);
    // The same at the tie between 2^-133 and 2^-132, where the multiplication rounds up to even.
    let x = f32::from_bits(0x0e3f_ffff);
    assert_eq!(f64::from(x), 1.5 * pow2(-99) - pow2(-122));
    let k = -34;
    let twice = narrowing.narrow(x * pow2(k) as f32, 0, 0).bits;
    let once = narrowing.narrow(x, k, 0).bits;
    assert_eq!((twice, once), (0x0002, 0x0001));
}

/// A shift beyond every exponent is an underflow or an overflow, not a panic.
#[test]
fn shifts_beyond_every_exponent() {
    for narrowing in narrowings() {
        let grid = Grid::new(narrowing.format.encoding);
        for x in [f32::from_bits(1), 1.0, -1.5, f32::MAX] {
            for (far, near) in [(i32::MIN, -700), (-100_000, -700), (i32::MAX, 700), (4096, 700)] {
                let expected = grid.narrow(narrowing, x, near, u32::MAX);
                assert_eq!(narrowing.narrow(x, far, u32::MAX), expected, "{narrowing:?} {x} {far}");
            }
        }
    }
}
