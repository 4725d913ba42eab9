//! `measured` against its words: two guesses of the next ceiling.

use adaloss_core::{
    format::{Format, Overflow, Rounding},
    policy::{Config, Fraction, Measured, Policy, Recovery, Seen, finish},
    scale::Scale,
};
use adaloss_oracle::{
    counted_narrowings,
    guesses::{Shown, TwoGuesses, placed},
    in_parallel,
    inputs::SplitMix64,
};

use crate::visit::{ceiling, pow2, step, visit, with};

fn measured(format: Format, most_headroom: u8) -> Policy {
    Policy::Measured(Measured { most_headroom, ..Measured::for_format(format) })
}

/// Largest magnitudes that drift, leap, storm and rest, so that either guess is in use and every cap is reached.
fn exponent(at: &mut i32, generator: &mut SplitMix64) -> i32 {
    *at = match generator.below(40) {
        0 => generator.below(60) as i32 - 40,
        1..10 => *at + generator.below(5) as i32 - 2,
        _ => *at,
    };
    let leap = if generator.below(12) == 0 { generator.below(14) as i32 } else { 0 };
    (*at + leap).clamp(-60, 60)
}

#[test]
fn scales_are_those_of_the_two_guesses() {
    let checked = in_parallel(&counted_narrowings(), |&narrowing| {
        let format = narrowing.format;
        let mut checked = 0;
        for (most_headroom, seed) in [(1, 1), (2, 2), (2, 3), (8, 4), (16, 5)] {
            let mut generator = SplitMix64(seed);
            let config = Config::for_format(format).with_rounding(narrowing.rounding, 0);
            let config = with(config, measured(format, most_headroom));
            let mut cell = config.cell();
            let mut guesses = TwoGuesses::new(most_headroom.into());
            let mut at = 0;
            for nth in 0..1500 {
                let incoming = Scale::saturating(generator.below(31) as i32 - 15);
                let log2 = exponent(&mut at, &mut generator);
                let max_abs = generator.between_binades(log2, log2).abs();
                let values = [max_abs / 3.0, -max_abs, 0.0].map(|x| x * incoming.factor());
                let expected = match nth {
                    0 => placed(format.encoding, ceiling(&config, max_abs, Scale::ONE) - 1),
                    _ => placed(format.encoding, guesses.greatest()),
                };
                let ceiling = ceiling(&config, max_abs, Scale::ONE);
                let visited = visit(&config, &mut cell, &values, incoming);
                let overflowed = ceiling < expected;
                let left = if overflowed { ceiling } else { expected };
                assert_eq!(visited.scale, left, "step {nth}, {config:?}");
                assert_eq!(visited.outcome.overflow, 0);
                assert_eq!(cell.scale().log2(), expected, "a scale moves between steps only");
                assert_eq!(cell.seen().overflowed, overflowed);
                finish(&config, &mut cell);
                guesses.finish(Shown { ceiling, overflowed });
                assert_eq!(cell.seen(), Seen::NOTHING);
                checked += 1;
            }
        }
        checked
    });
    println!("measured: {checked} steps");
}

/// Where nothing is replayed, the scale is one binade below the least ceiling of late: whether overflow
/// saturates, or a caller's kernel cannot replay.
#[test]
fn without_replay_the_least_ceiling_counts() {
    for format in [Format::BINARY16, Format::E5M2, Format::E4M3] {
        let config = Config::for_format(format);
        let skips = config.with_recovery(Recovery::Skip);
        let saturates = config.with_overflow(Overflow::Saturate);
        for config in [skips, saturates, saturates.with_recovery(Recovery::Skip)] {
            let mut generator = SplitMix64(7);
            let (mut cell, mut at) = (config.cell(), 0);
            let mut guesses = TwoGuesses::new(16);
            for nth in 0..800 {
                let log2 = exponent(&mut at, &mut generator);
                let max_abs = pow2(log2);
                let ceiling = ceiling(&config, max_abs, Scale::ONE);
                let expected =
                    if nth == 0 { ceiling - 1 } else { guesses.greatest_without_replay() };
                let visited = step(&config, &mut cell, &[max_abs], Scale::ONE);
                assert_eq!(visited.scale, expected, "step {nth}");
                assert_eq!(visited.again, nth == 0, "nothing is replayed");
                assert_eq!(visited.outcome.overflow > 0, ceiling < expected);
                guesses.finish(Shown { ceiling, overflowed: ceiling < expected });
            }
        }
    }
}

/// The example of the documentation, and what comes after it.
#[test]
fn a_cell_by_hand() {
    let config = Config::for_format(Format::BINARY16);
    let mut cell = config.cell();
    // A largest magnitude of 2^k has the ceiling 15 - k.
    let mut scales = Vec::new();
    for ceiling in [10, 10, 7, 10, 10] {
        let visited = step(&config, &mut cell, &[pow2(15 - ceiling)], Scale::ONE);
        scales.push((visited.scale, visited.again));
    }
    // The third overflows at 2^10 and is replayed at 2^7.
    assert_eq!(scales, [(9, true), (10, false), (7, true), (7, false), (9, false)]);
}

/// One batch that is not like the others moves no scale, however far out it is, and costs one replay.
#[test]
fn an_outlier_moves_nothing() {
    let config = Config::for_format(Format::BINARY16);
    let mut cell = config.cell();
    for _ in 0..200 {
        step(&config, &mut cell, &[1.0e-3, 2.0e-7], Scale::ONE);
    }
    let before = cell.scale();
    let outlier = step(&config, &mut cell, &[pow2(63), 1.0e-3], Scale::ONE);
    assert!(outlier.again && outlier.outcome.overflow == 0);
    for _ in 0..10 {
        let visited = step(&config, &mut cell, &[1.0e-3, 2.0e-7], Scale::ONE);
        assert_eq!((visited.outcome.underflow, visited.again), (0, false));
        assert!(visited.scale >= before.log2() - 1);
    }
}

/// What `Recovery::Skip` once switched off: the scale follows values that grow or shrink a millionfold.
#[test]
fn a_caller_that_cannot_replay_is_followed_too() {
    let config = Config::for_format(Format::BINARY16).with_recovery(Recovery::Skip);
    for factor in [pow2(22), pow2(-24)] {
        let mut cell = config.cell();
        step(&config, &mut cell, &[1.0, 1.0e-3], Scale::ONE);
        let values = [factor, 1.0e-3 * factor];
        let lost = (0..2000).map(|_| step(&config, &mut cell, &values, Scale::ONE).outcome);
        let bad = lost.filter(|outcome| outcome.overflow > 0 || outcome.underflow > 0).count();
        // One step overflows; downwards the least ceiling creeps, 2/128 binade a step.
        assert!(bad <= if factor > 1.0 { 1 } else { 700 }, "{bad} steps lost something");
    }
}

/// In a format with f32's range the scale is as near to 2^0 as keeps the largest magnitude at 2^-100 or above.
#[test]
fn wide_formats_stay_at_one() {
    for format in [Format::BFLOAT16, Format::BFLOAT16.flushing(), Format::BINARY32] {
        let config = Config::for_format(format);
        for (log2, expected) in
            [(0, 0), (100, 0), (-60, 0), (-98, 0), (-100, 0), (-102, 2), (-130, 30), (-140, 40)]
        {
            let mut cell = config.cell();
            for nth in 0..10 {
                let visited = step(&config, &mut cell, &[pow2(log2)], Scale::ONE);
                // One binade of headroom at the first visit and none afterwards.
                let expected = if nth == 0 { (expected - 1).max(0) } else { expected };
                assert_eq!(visited.scale, expected, "2^{log2} in {format:?}, step {nth}");
            }
        }
        // A gradient that arrives scaled is brought back, and one beyond f32 is brought down.
        let mut cell = config.cell();
        step(&config, &mut cell, &[1.0e30], Scale::saturating(40));
        assert_eq!(cell.scale(), Scale::ONE);
    }
}

/// `[1, -1]` in bfloat16, as a loss gradient whose weight gradient is `3 g0 - 2 g1`: no policy takes it to an end of
/// f32's range.
#[test]
fn no_policy_takes_bfloat16_to_the_end_of_its_range() {
    let config = Config::for_format(Format::BFLOAT16);
    let amax = Policy::Amax(adaloss_core::policy::Amax { window: 16, margin: 0 });
    for config in [config, with(config, amax)] {
        let mut cell = config.cell();
        for _ in 0..40 {
            let visited = step(&config, &mut cell, &[1.0, -1.0], Scale::ONE);
            assert_eq!(visited.scale, 0);
        }
    }
}

/// Sums in f32 that overflow although the tensor is finite lower its cell, and only that is remembered
/// for long.
#[test]
fn sums_that_overflow_lower_the_cell() {
    let config = Config::for_format(Format::BINARY16);
    let mut cell = config.cell();
    step(&config, &mut cell, &[1.0e-6], Scale::ONE);
    let before = cell.scale().log2();
    let fits = before - 20;
    let mut skipped = 0;
    for _ in 0..1000 {
        let visited = visit(&config, &mut cell, &[1.0e-6], Scale::ONE);
        if visited.scale > fits {
            cell.sums_overflowed();
            skipped += 1;
        }
        finish(&config, &mut cell);
    }
    // Falls of 4, 8 and 16 binades and a climb too many find the limit; it is tried again at once, and after 4 binades
    // at 1/32 a step.
    assert!((5..=5 + 1000 / 128).contains(&skipped), "{skipped} steps were lost");
    // A single such step is forgotten after a while.
    let mut cell = config.cell();
    for nth in 0..150 {
        visit(&config, &mut cell, &[1.0e-6], Scale::ONE);
        if nth == 10 {
            cell.sums_overflowed();
        }
        finish(&config, &mut cell);
        assert!(nth != 10 || cell.scale().log2() == before - 4);
    }
    assert!(cell.scale().log2() >= before);
}

/// Tensors without a finite nonzero value change nothing and cost nothing: one run per visit, for ever.
#[test]
fn zeros_and_infinities_show_nothing() {
    for format in [Format::BINARY16, Format::E4M3] {
        let config = Config::for_format(format);
        let mut cell = config.cell();
        for values in [&[][..], &[0.0; 8], &[f32::NAN, 1.0e9], &[f32::INFINITY]] {
            for _ in 0..20 {
                let visited = step(&config, &mut cell, values, Scale::ONE);
                assert_eq!((visited.scale, visited.again), (0, false));
                assert!(!cell.is_calibrated());
            }
        }
        step(&config, &mut cell, &[1.0e-3], Scale::ONE);
        let scale = cell.scale();
        for values in [&[0.0][..], &[f32::NAN, 1.0e30]] {
            step(&config, &mut cell, values, Scale::ONE);
            assert_eq!(cell.scale(), scale);
        }
    }
}

/// A tensor that overflows at every legal scale is not replayed for nothing.
#[test]
fn an_overflow_that_no_scale_prevents() {
    let config = Config::for_format(Format::BINARY16);
    let mut cell = config.cell();
    for _ in 0..10 {
        let visited = step(&config, &mut cell, &[f32::MAX], Scale::MIN);
        assert_eq!((visited.scale, visited.outcome.overflow), (-126, 1));
    }
    assert_eq!(cell.scale(), Scale::MIN);
}

/// The rounding says when a value overflows, and the ceiling follows it.
#[test]
fn ceilings_follow_the_rounding() {
    let nearest = Config::for_format(Format::E4M3);
    let down = nearest.with_rounding(Rounding::TowardZero, 0);
    // 470 is rounded to 480 and overflows; towards zero it becomes 448.
    for (config, expected) in [(nearest, -2), (down, -1)] {
        let mut cell = config.cell();
        assert_eq!(step(&config, &mut cell, &[470.0], Scale::ONE).scale, expected);
    }
}

#[test]
fn defaults() {
    let headroom = [
        (Format::BINARY16, 16),
        (Format::BFLOAT16, 16),
        (Format::E5M2, 16),
        (Format::E4M3, 2),
        (Format::BINARY32, 16),
    ];
    for (format, most_headroom) in headroom {
        let defaults = Measured { tolerance: Fraction::PER_MILLE, most_headroom };
        assert_eq!(Measured::for_format(format), defaults);
        assert_eq!(Measured::for_format(format.flushing()), defaults);
    }
}
