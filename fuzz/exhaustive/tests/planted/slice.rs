//! Mistakes in slices and in what is counted of them.

use adaloss_exhaustive::BLOCK;

use super::{Defect, Planted, block_of};

fn planted(slice: Defect) -> Planted {
    Planted { slice: Some(slice), ..Planted::default() }
}

/// Flips the last bit of one value.
fn flip(from: &[f32], to: &mut [u32]) {
    for (x, to) in from.iter().zip(to) {
        *to ^= u32::from(x.to_bits() == 0x3f80_0001);
    }
}

/// One bit of one value, in the path for blocks that stay within the format or in the other one.
#[test]
fn a_single_bit_in_either_path() {
    let within = planted(|_, from, to, _| {
        if !from.contains(&f32::INFINITY) {
            flip(from, to);
        }
    });
    let beside_infinity = planted(|_, from, to, _| {
        if from.contains(&f32::INFINITY) {
            flip(from, to);
        }
    });
    let (job, block) = ("binary16 nearest even from f32", block_of(1.0));
    for planted in [within, beside_infinity] {
        let described = "2^0 * 0x3f800001 (1.0000001192092896e0) in a slice \
                         gave 0x3c01 (1.0009765625e0) instead of 0x3c00 (1e0)";
        planted.is_found(job, block, 4, described);
    }
}

/// The path for any value normalises f32 subnormals from some shift on only.
#[test]
fn f32_subnormals_that_are_read_as_zero() {
    let reads_zero = planted(|apply, from, to, _| {
        for (x, to) in from.iter().zip(to) {
            if x.is_subnormal() {
                *to = apply.narrowing.narrow(0.0_f32.copysign(*x), 0, 0).bits;
            }
        }
    });
    let block = block_of(f32::MIN_POSITIVE.next_down());
    for job in [
        "bfloat16 nearest even from f32",
        "binary32 toward zero from f32",
        "binary16 from small f32 at 2^101 and 2^102",
        "E5M2 from small f32 at 2^109 and 2^110",
        "E4M3 from small f32 at 2^116 and 2^117",
    ] {
        let found = reads_zero.tally(job, block);
        assert!(found.mismatches >= u64::from(BLOCK), "{job}");
    }
    // Without a shift there is nothing of them in binary16.
    reads_zero.is_missed("binary16 nearest even from f32", block);
}

#[test]
fn outcomes_that_count_wrongly() {
    let infinite_maximum = planted(|_, from, _, outcome| {
        if from.contains(&f32::INFINITY) {
            outcome.max_bits = f32::INFINITY.to_bits();
        }
    });
    // The slices that begin with an infinity, in four narrowings.
    let described = "max_bits: 2139095040";
    infinite_maximum.is_found("E4M3 toward zero from f32", block_of(1.0), 4, described);

    // Gradual, to infinity and saturated, each with and without infinities; flushing has none.
    let no_subnormals = planted(|_, _, _, outcome| outcome.subnormal = 0);
    let block = block_of(2.0_f32.powi(-15));
    let described = "subnormal: 0, overflow: 0";
    no_subnormals.is_found("E5M2 nearest even from f32", block, 4, described);

    let zeros_twice = planted(|_, _, _, outcome| outcome.zero *= 2);
    assert!(zeros_twice.tally("binary32 nearest even from f32", 0).mismatches >= 8);
}

/// What a slice does that forgets where in its tensor it begins.
#[test]
fn random_words_of_another_element() {
    let of_the_one_before =
        Planted { first: Some(|first| first.wrapping_sub(1)), ..Planted::default() };
    let block = block_of(1.0 + 2.0_f32.powi(-4));
    let found = of_the_one_before.tally("E5M2 stochastic from f32", block);
    assert!(found.mismatches > 100, "{found:?}");
    of_the_one_before.is_missed("E5M2 nearest even from f32", block);
}
