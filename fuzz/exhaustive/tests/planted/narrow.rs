//! Mistakes in the rounding of single values.

use adaloss_core::{
    format::{Encoding, Fate, Format, Narrowing, Overflow, Rounding, Subnormals},
    scale::Scale,
};
use adaloss_exhaustive::BLOCK;

use super::{Narrow, Planted, block_of};

fn planted(narrow: Narrow) -> Planted {
    Planted { narrow: Some(narrow), ..Planted::default() }
}

#[test]
fn a_tie_that_goes_away_from_zero() {
    let ties_away = planted(|narrowing, x, k, word| {
        // Halfway between two normal numbers of binary16, the even one below.
        let is_tie = x.to_bits() & 0x3fff == 0x1000;
        narrowing.narrow(f32::from_bits(x.to_bits() + u32::from(is_tie)), k, word)
    });
    // One magnitude of the block with both signs, gradual and flushed, to infinity and saturated.
    let block = block_of(f32::from_bits(0x3f80_1000));
    let described = "2^0 * 0x3f801000 (1.00048828125e0), word 0x00000000 \
                     gave 0x3c01 (1.0009765625e0) Normal instead of 0x3c00 (1e0) Normal";
    ties_away.is_found("binary16 nearest even from f32", block, 8, described);
    ties_away.is_missed("binary16 toward zero from f32", block);
}

#[test]
fn a_tie_with_infinity_that_stays_finite() {
    let largest_wins = planted(|narrowing, x, k, word| {
        narrowing.narrow(if x == 65520.0 { 65504.0 } else { x }, k, word)
    });
    let described = "gave 0x7bff (6.5504e4) Normal instead of 0x7c00 (inf) Overflow";
    largest_wins.is_found("binary16 nearest even from f32", block_of(65520.0), 4, described);
}

#[test]
fn a_nan_that_becomes_a_zero() {
    let drops_nan = planted(|narrowing, x, k, word| {
        narrowing.narrow(if x.is_nan() { 0.0 } else { x }, k, word)
    });
    // The first block with NaN has an infinity too; stochastic rounding tries two words.
    for (job, times) in [
        ("E4M3 nearest even from f32", 4),
        ("bfloat16 stochastic from f32", 8),
        ("binary32 toward zero from f32", 4),
    ] {
        let count = 2 * times * u64::from(BLOCK - 1);
        drops_nan.is_found(job, block_of(f32::INFINITY), count, "0x7f800001 (NaN)");
    }
}

#[test]
fn a_payload_that_is_kept() {
    let keeps_payload = planted(|narrowing, x, k, word| {
        let mut narrowed = narrowing.narrow(x, k, word);
        narrowed.bits |= u32::from(x.is_nan()) * (x.to_bits() & 1);
        narrowed
    });
    let count = 8 * u64::from(BLOCK) / 2;
    let described = "0x7fc00001 (NaN), word 0x00000000 gave 0x7fc1 (NaN)";
    keeps_payload.is_found("bfloat16 nearest even from f32", block_of(f32::NAN), count, described);
}

#[test]
fn a_flush_that_is_missing() {
    let never_flushes = planted(|narrowing, x, k, word| {
        let format = narrowing.format.encoding.into();
        Narrowing { format, ..narrowing }.narrow(x, k, word)
    });
    // 2^-15 is subnormal in E5M2.
    let (block, count) = (block_of(2.0_f32.powi(-15)), 4 * u64::from(BLOCK));
    never_flushes.is_found("E5M2 nearest even from f32", block, count, "subnormals: Flush }");
}

#[test]
fn a_flush_that_comes_after_rounding() {
    let flushes_late = planted(|narrowing, x, k, word| {
        let format = narrowing.format.encoding.into();
        let rounded = Narrowing { format, ..narrowing }.narrow(x, k, word);
        if rounded.fate == Fate::Subnormal { narrowing.narrow(x, k, word) } else { rounded }
    });
    // The last 2^13 f32 below 2^-14 are half a unit of binary16: the whole block rounds up.
    let (block, count) = (block_of(2.0_f32.powi(-14).next_down()), 4 * u64::from(BLOCK));
    let described = "Normal instead of 0x0000 (0e0) Underflow";
    flushes_late.is_found("binary16 nearest even from f32", block, count, described);
}

#[test]
fn an_infinity_that_does_not_saturate() {
    let escapes = planted(|narrowing, x, k, word| {
        let to_infinity = Narrowing { overflow: Overflow::Infinity, ..narrowing };
        if x.is_infinite() { to_infinity } else { narrowing }.narrow(x, k, word)
    });
    let described = "overflow: Saturate }: 2^0 * 0x7f800000 (inf)";
    escapes.is_found("E5M2 toward zero from f32", block_of(f32::INFINITY), 4, described);
}

#[test]
fn a_multiplication_before_a_cast() {
    let rounds_twice = planted(|narrowing, x, k, word| {
        let factor = Scale::new(k).map_or(f32::NAN, Scale::factor);
        narrowing.narrow(x * factor, 0, word)
    });
    // The product is subnormal in f32 and rounds there before it rounds to bfloat16: at a tie of
    // bfloat16 that the lost bits would have broken.
    let block = block_of((1.0 + 2.0_f32.powi(-5)) * 2.0_f32.powi(-121));
    let found = rounds_twice.tally("bfloat16 from small f32 at 2^-8 and 2^-7", block);
    assert!(found.mismatches > 0);
    // To binary16 it does no harm.
    rounds_twice.is_missed("binary16 from small f32 at 2^101 and 2^102", block);
}

#[test]
fn a_random_word_too_many_or_too_few() {
    let one_more = planted(|narrowing, x, k, word| narrowing.narrow(x, k, word.saturating_sub(1)));
    let one_less = planted(|narrowing, x, k, word| narrowing.narrow(x, k, word.saturating_add(1)));
    // All of the block but 1 lie between 1 and the next number of binary16, 2^-13 of the way apart.
    let (job, block) = ("binary16 stochastic from f32", block_of(1.0));
    let count = 8 * u64::from(BLOCK - 1);
    let described = "word 0x00080000 gave 0x3c01 (1.0009765625e0) Normal instead of 0x3c00";
    one_more.is_found(job, block, count, described);
    let described = "word 0x0007ffff gave 0x3c00 (1e0) Normal instead of 0x3c01";
    one_less.is_found(job, block, count, described);
    one_more.is_missed("binary16 nearest even from f32", block);
}

/// One number at one shift in one format, for two words and two treatments of overflow.
#[test]
fn one_wrong_result_among_all_shifts() {
    let wrong_once = planted(|narrowing, x, k, word| {
        let mut narrowed = narrowing.narrow(x, k, word);
        let is_wrong = k == -77
            && x == 448.0
            && narrowing.rounding == Rounding::Stochastic
            && narrowing.format == Format::new(Encoding::BFloat16, Subnormals::Flush);
        narrowed.bits ^= u32::from(is_wrong);
        narrowed
    });
    let job = "E4M3 into every encoding by every shift";
    wrong_once.is_found(job, 252 - 77, 4, "2^-77 * 0x43e00000 (4.48e2)");
    wrong_once.is_missed(job, 252 - 76);
}
