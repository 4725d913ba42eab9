//! Stochastic rounding: the exact number of random words that round up.

use adaloss_core::format::{Encoding, Fate, Format, Narrowing, Rounding};
use adaloss_oracle::{
    Grid, apfloat, formats, in_parallel, inputs::SplitMix64, pow2, product, tolerance::STOCHASTIC,
};

/// Products that lie inside a format, with the shift that brings them there.
fn inputs(grid: &Grid, count: usize, seed: u64) -> Vec<(f32, i32)> {
    let mut generator = SplitMix64(seed);
    let mut inputs = Vec::new();
    let (bottom, top) = (grid.limits.smallest.log2() as i32 - 34, grid.limits.beyond.log2() as i32);
    while inputs.len() < count {
        let x = generator.finite();
        let k =
            bottom + generator.below((top - bottom + 1) as usize) as i32 - x.abs().log2() as i32;
        let v = product(x.abs(), k);
        if v < grid.limits.beyond {
            inputs.push((x, k));
        }
    }
    inputs
}

/// Exactly `fraction` of the 2^32 words round up, the small ones: `fraction - 1` does, `fraction`
/// does not.  Everything that is decided by comparing with one threshold is thereby decided.
#[test]
fn exactly_the_discarded_fraction_of_words_rounds_up() {
    let checked = in_parallel(&formats(), |&format| {
        let grid = Grid::new(format.encoding);
        let narrowing = Narrowing::to(format).with_rounding(Rounding::Stochastic);
        let mut count = 0;
        for (x, k) in inputs(&grid, 60_000, 21) {
            let v = product(x.abs(), k);
            if format != Format::from(format.encoding) && v < grid.limits.smallest_normal {
                assert_eq!(narrowing.narrow(x, k, 0).fate, Fate::Underflow, "flushed before");
                continue;
            }
            let (fraction, _) = grid.fraction(v);
            let mut words = vec![fraction, fraction.saturating_add(1), u32::MAX, 0];
            words.extend(fraction.checked_sub(1));
            for word in words {
                let expected = grid.narrow(narrowing, x, k, word);
                assert_eq!(narrowing.narrow(x, k, word), expected, "{format:?} 2^{k} * {x:e}");
            }
            count += 1;
        }
        count
    });
    println!("stochastic: thresholds of {checked} products");
}

/// The mean over all words is the exact product, where 32 bits hold the discarded fraction; below,
/// the probability is off by less than 2^-32.
#[test]
fn the_mean_is_the_exact_product() {
    let mut exact_means = 0;
    for encoding in Encoding::ALL {
        let grid = Grid::new(encoding);
        let narrowing = Narrowing::to(encoding.into()).with_rounding(Rounding::Stochastic);
        for (x, k) in inputs(&grid, 20_000, 22) {
            let v = product(x.abs(), k);
            let around = grid.neighbours(v);
            // The number of words that round up, found by bisection in the implementation itself.
            let up = |noise| {
                let narrowed = narrowing.narrow(x.abs(), k, noise);
                assert!(narrowed.fate == Fate::Overflow || narrowed.bits - around.low_bits <= 1);
                narrowed.fate == Fate::Overflow || narrowed.bits > around.low_bits
            };
            let words = words_that_round_up(up);
            let share = words as f64 / pow2(32);
            let mean = around.low + (around.high - around.low) * share;
            if grid.fraction(v).1 {
                assert_eq!(mean, v, "{encoding:?} 2^{k} * {x:e}");
                exact_means += 1;
            } else {
                let error = (v - around.low) / (around.high - around.low) - share;
                let is_near = error >= 0.0 && STOCHASTIC.allows(error);
                assert!(is_near, "{encoding:?} 2^{k} * {x:e}");
            }
        }
    }
    assert!(exact_means > 50_000);
    STOCHASTIC.assert_needed();
    println!("stochastic: {exact_means} means are exact");
}

/// Returns how many words round up, when all below some threshold do and no others.
fn words_that_round_up(up: impl Fn(u32) -> bool) -> u64 {
    let (mut least, mut most) = (0_u64, 1 << 32);
    while least < most {
        let middle = least.midpoint(most);
        if up(middle as u32) { least = middle + 1 } else { most = middle }
    }
    least
}

/// A number of the format is never moved, whatever the word, and no result is outside the two
/// neighbours.
#[test]
fn results_are_neighbours_and_numbers_stay() {
    let mut generator = SplitMix64(23);
    for encoding in Encoding::ALL.into_iter().filter(|encoding| encoding.bits() < 32) {
        let grid = Grid::new(encoding);
        let narrowing = Narrowing::to(encoding.into()).with_rounding(Rounding::Stochastic);
        for (bits, &number) in grid.numbers.iter().enumerate() {
            for noise in [0, 1, generator.half_word(), u32::MAX] {
                assert_eq!(narrowing.narrow(number as f32, 0, noise).bits, bits as u32);
            }
        }
        for (x, k) in inputs(&grid, 20_000, 24) {
            let narrowed = narrowing.narrow(x, k, generator.half_word());
            if narrowed.fate == Fate::Overflow {
                assert!(product(x.abs(), k) > grid.limits.largest);
                continue;
            }
            let around = grid.neighbours(product(x.abs(), k));
            let number = apfloat::decode(encoding, narrowed.bits);
            assert!([around.low, around.high].contains(&number.abs()));
            assert_eq!(number.is_sign_negative(), x.is_sign_negative());
        }
    }
}

/// A value 1/4 of the way from 1 to the next binary16 number is rounded up by a quarter of the
/// words.
#[test]
fn a_quarter_of_the_words() {
    let narrowing = Narrowing::to(Format::BINARY16).with_rounding(Rounding::Stochastic);
    let x = 1.0 + 2.0_f32.powi(-12);
    assert_eq!(narrowing.narrow(x, 0, 0x3fff_ffff).bits, 0x3c01);
    assert_eq!(narrowing.narrow(x, 0, 0x4000_0000).bits, 0x3c00);
    // 2^-24 / 8 survives for an eighth of the words and is never flushed to a wrong sign.
    let x = -2.0_f32.powi(-27);
    assert_eq!(narrowing.narrow(x, 0, 0x1fff_ffff).bits, 0x8001);
    assert_eq!(narrowing.narrow(x, 0, 0x2000_0000).bits, 0x8000);
    // Between 65504 and 65536 an overflow happens with the probability of the way.
    assert_eq!(narrowing.narrow(65512.0, 0, 0x3fff_ffff).fate, Fate::Overflow);
    assert_eq!(narrowing.narrow(65512.0, 0, 0x4000_0000).bits, 0x7bff);
}
