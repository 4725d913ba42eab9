//! From f32 into low precision without a shift.

use adaloss_core::format::{
    Encoding, Fate, Format, Narrowed, Narrowing, Overflow, Rounding, bf16, f16,
};
use adaloss_oracle::{
    Grid,
    apfloat::{self, Round},
    in_parallel,
    inputs::{adversarial, with_neighbours},
    narrowings,
};

/// The two deterministic roundings and APFloat's names for them.
const ROUNDINGS: [(Rounding, Round); 2] =
    [(Rounding::NearestEven, Round::NearestTiesToEven), (Rounding::TowardZero, Round::TowardZero)];

/// Compares with APFloat, which rounds gradually and overflows to infinity; x is no NaN.
fn check_against_apfloat(encoding: Encoding, x: f32) {
    for (rounding, round) in ROUNDINGS {
        let narrowing = Narrowing::to(encoding.into()).with_rounding(rounding);
        let Narrowed { bits, .. } = narrowing.narrow(x, 0, 0);
        let expected = apfloat::round(encoding, x, round);
        assert_eq!(bits, expected, "{encoding:?} {rounding:?} {x:e} = {:#010x}", x.to_bits());
    }
}

/// All numbers of a format of 8 or 16 bits, what lies halfway between them and between the largest
/// and infinity, and the f32 neighbours of each, with both signs.
fn around_every_number(grid: &Grid) -> Vec<f32> {
    let mut next = grid.numbers[1..].to_vec();
    next.push(grid.limits.beyond);
    let mut values = vec![0.0, f32::from_bits(1), f32::MAX, f32::INFINITY];
    for (&low, &high) in grid.numbers.iter().zip(&next) {
        values.extend([low, (low + high) / 2.0, high].map(|v| v as f32));
    }
    let near: Vec<f32> = values.iter().copied().flat_map(with_neighbours).collect();
    values.extend(near);
    values.iter().flat_map(|&x| [x, -x]).collect()
}

#[test]
fn around_every_number_of_every_small_format() {
    let mut encodings = Encoding::ALL.to_vec();
    encodings.retain(|encoding| encoding.bits() < 32);
    let checked = in_parallel(&encodings, |&encoding| {
        let grid = Grid::new(encoding);
        let values = around_every_number(&grid);
        for &x in &values {
            check_against_apfloat(encoding, x);
        }
        for narrowing in narrowings().into_iter().filter(|n| n.format.encoding == encoding) {
            for &x in &values {
                let noise = x.to_bits().wrapping_mul(0x9e37_79b9);
                let expected = grid.narrow(narrowing, x, 0, noise);
                assert_eq!(narrowing.narrow(x, 0, noise), expected, "{narrowing:?} {x:e}");
            }
        }
        values.len() as u64
    });
    println!("narrow: {checked} numbers, midpoints and their f32 neighbours, every narrowing");
}

/// 4.2 million f32 patterns, NaN aside, in every encoding.
#[test]
fn a_dense_sweep_of_f32_against_apfloat() {
    const STRIDE: u32 = 1021;
    let parts: Vec<u32> = (0..64).collect();
    let checked = in_parallel(&parts, |&part| {
        let mut count = 0;
        let first = (part << 26).next_multiple_of(STRIDE);
        for bits in (first..=(part << 26 | 0x03ff_ffff)).step_by(STRIDE as usize) {
            let x = f32::from_bits(bits);
            if !x.is_nan() {
                Encoding::ALL.into_iter().for_each(|encoding| check_against_apfloat(encoding, x));
                count += 1;
            }
        }
        count
    });
    assert!(checked > 4_000_000);
    println!("narrow: {checked} f32 patterns, five encodings, two roundings");
}

/// Half a million f32 patterns, NaN included, under every combination of format, rounding and
/// overflow against the definition; bits and fates.
#[test]
fn a_sweep_of_f32_under_every_narrowing() {
    let checked = in_parallel(&narrowings(), |&narrowing| {
        let grid = Grid::new(narrowing.format.encoding);
        let mut count = 0;
        for bits in (0..=u32::MAX).step_by(8209) {
            let (x, noise) = (f32::from_bits(bits), bits.wrapping_mul(0x9e37_79b9));
            let expected = grid.narrow(narrowing, x, 0, noise);
            assert_eq!(narrowing.narrow(x, 0, noise), expected, "{narrowing:?} {bits:#010x}");
            count += 1;
        }
        for x in adversarial(narrowing.format, 20_000, 1) {
            let expected = grid.narrow(narrowing, x, 0, 77);
            assert_eq!(narrowing.narrow(x, 0, 77), expected, "{narrowing:?} {x:e}");
            count += 1;
        }
        count
    });
    println!("narrow: {checked} narrowings against the definition");
}

#[test]
fn half_agrees_for_binary16_and_bfloat16() {
    let (binary16, bfloat16) = (Narrowing::to(Format::BINARY16), Narrowing::to(Format::BFLOAT16));
    for bits in (0..=u32::MAX).step_by(1021).chain(0x3f80_0000..0x3f80_0000 + 200_000) {
        let x = f32::from_bits(bits);
        if !x.is_nan() {
            assert_eq!(binary16.narrow(x, 0, 0).bits, u32::from(f16::from_f32(x).to_bits()));
            assert_eq!(bfloat16.narrow(x, 0, 0).bits, u32::from(bf16::from_f32(x).to_bits()));
        }
    }
    for bits in 0..=u16::MAX {
        let (half, brain) = (f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32());
        let widened = |encoding: Encoding| encoding.widen(u32::from(bits));
        assert!(half.is_nan() || widened(Encoding::Binary16).to_bits() == half.to_bits());
        assert!(brain.is_nan() || widened(Encoding::BFloat16).to_bits() == brain.to_bits());
    }
}

/// Every NaN, whatever its sign and payload, becomes the one quiet NaN of its sign.
#[test]
fn nan_is_canonical_under_every_narrowing() {
    for narrowing in narrowings() {
        let grid = Grid::new(narrowing.format.encoding);
        let (nan, sign) = (grid.limits.nan_bits, grid.limits.sign_bit());
        for payload in [1, 0x3f_ffff, 0x40_0000, 0x55_5555, 0x7f_ffff] {
            for shift in [-400, 0, 3, i32::MAX, i32::MIN] {
                let plus = narrowing.narrow(f32::from_bits(0x7f80_0000 | payload), shift, 9);
                let minus = narrowing.narrow(f32::from_bits(0xff80_0000 | payload), shift, 9);
                assert_eq!(plus, Narrowed { bits: nan, fate: Fate::NonFinite });
                assert_eq!(minus, Narrowed { bits: sign | nan, fate: Fate::NonFinite });
            }
        }
    }
}

/// Zero and infinity are what they are at every shift.
#[test]
fn zero_and_infinity_ignore_the_shift() {
    for narrowing in narrowings() {
        let grid = Grid::new(narrowing.format.encoding);
        for x in [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY] {
            let expected = grid.narrow(narrowing, x, 0, 0);
            for shift in [i32::MIN, -252, -1, 0, 1, 252, i32::MAX] {
                assert_eq!(narrowing.narrow(x, shift, u32::MAX), expected, "{narrowing:?} {x}");
            }
        }
    }
}

/// Patterns with a meaning.
#[test]
fn named_patterns() {
    let half = Narrowing::to(Format::BINARY16);
    let e4m3 = Narrowing::to(Format::E4M3);
    let bits = |narrowing: Narrowing, x: f32| {
        let Narrowed { bits, fate } = narrowing.narrow(x, 0, 0);
        (bits, fate)
    };
    // The tie of binary16 overflow goes to infinity, that of E4M3 to the even 448.
    assert_eq!(bits(half, 65520.0), (0x7c00, Fate::Overflow));
    assert_eq!(bits(half, 65520.0_f32.next_down()), (0x7bff, Fate::Normal));
    assert_eq!(bits(e4m3, 464.0), (0x7e, Fate::Normal));
    assert_eq!(bits(e4m3, 464.0_f32.next_up()), (0x7f, Fate::Overflow));
    assert_eq!(bits(e4m3.saturating(), -1.0e30), (0xfe, Fate::Overflow));
    // Toward zero never leaves the finite numbers, and says so from 480 on.
    let toward_zero = e4m3.with_rounding(Rounding::TowardZero);
    assert_eq!(bits(toward_zero, 480.0_f32.next_down()), (0x7e, Fate::Normal));
    assert_eq!(bits(toward_zero, 480.0), (0x7e, Fate::Overflow));
    // The tie with zero is lost, the next f32 is not.
    assert_eq!(bits(half, 2.0_f32.powi(-25)), (0, Fate::Underflow));
    assert_eq!(bits(half, 2.0_f32.powi(-25).next_up()), (1, Fate::Subnormal));
    assert_eq!(bits(half, -2.0_f32.powi(-26)), (0x8000, Fate::Underflow));
    // Flushing is decided before rounding: this value would round up to the smallest normal.
    let flushing = Narrowing::to(Format::BINARY16.flushing());
    assert_eq!(bits(half, 2.0_f32.powi(-14).next_down()), (0x0400, Fate::Normal));
    assert_eq!(bits(flushing, 2.0_f32.powi(-14).next_down()), (0, Fate::Underflow));
    assert_eq!(bits(flushing, -2.0_f32.powi(-14)), (0x8400, Fate::Normal));
    // An infinite operand saturates where the narrowing does, and is non-finite all the same.
    assert_eq!(bits(half.saturating(), f32::NEG_INFINITY), (0xfbff, Fate::NonFinite));
    let saturating = Narrowing { overflow: Overflow::Saturate, ..e4m3 };
    assert_eq!(bits(saturating, f32::INFINITY), (0x7e, Fate::NonFinite));
}
