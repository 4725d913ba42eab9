//! A decision is about the gradient, not about the numbers that carry it.

use adaloss_core::{
    format::{Encoding, Narrowing},
    policy::{Amax, Config, Policy, Recovery},
    scale::Scale,
};
use adaloss_oracle::{
    inputs::{SplitMix64, cases},
    narrowings,
};
use proptest::prelude::*;

use crate::visit::{step, with};

/// The policies that decide an absolute scale from results, with and without recovery.
fn configs(narrowing: Narrowing) -> Vec<Config> {
    let config = Config::for_format(narrowing.format)
        .with_rounding(narrowing.rounding, 0)
        .with_overflow(narrowing.overflow);
    let amax = |window, margin| with(config, Policy::Amax(Amax { window, margin }));
    let replaying = [config, amax(5, 1), amax(100, 0)];
    let skipping = replaying.map(|config| config.with_recovery(Recovery::Skip));
    replaying.into_iter().chain(skipping).collect()
}

/// Tensors around a centre that wanders, so that cells overflow, underflow and calibrate; some are
/// zero, and some have a value that is not finite.
fn tensors(count: usize, generator: &mut SplitMix64) -> Vec<Vec<f32>> {
    let mut centre = 0;
    let tensors = (0..count).map(|_| {
        centre = (centre + generator.below(25) as i32 - 12).clamp(-30, 30);
        let width = generator.below(20) as i32;
        let mut values: Vec<f32> =
            (0..50).map(|_| generator.between_binades(centre - width, centre)).collect();
        match generator.below(8) {
            0 => values.fill(0.0),
            1 => values[7] = f32::NAN,
            2 => values[7] = f32::NEG_INFINITY,
            _ => {}
        }
        values
    });
    tensors.collect()
}

/// Multiplies by a power of two, exactly: the values are far from both ends of f32.
fn times(values: &[f32], scale: Scale) -> Vec<f32> {
    values.iter().map(|x| x * scale.factor()).collect()
}

fn any_narrowing() -> impl Strategy<Value = Narrowing> {
    prop::sample::select(narrowings())
}

/// Narrowings to formats of less range than f32, where scales do not end before values do.
fn narrow_ranges() -> impl Strategy<Value = Narrowing> {
    let is_wide =
        |n: &Narrowing| matches!(n.format.encoding, Encoding::BFloat16 | Encoding::Binary32);
    prop::sample::select(narrowings().into_iter().filter(|n| !is_wide(n)).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(cases(300))]

    /// The same gradient, carried at whatever scale it arrives with, decides the same absolute scale
    /// in every step and leaves the same memory.
    #[test]
    fn the_incoming_scale_changes_no_decision(narrowing in any_narrowing(), seed: u64) {
        let mut generator = SplitMix64(seed);
        for config in configs(narrowing) {
            let (mut plain, mut carried) = (config.cell(), config.cell());
            for values in tensors(12, &mut generator) {
                let incoming = Scale::saturating(generator.below(121) as i32 - 60);
                let expected = step(&config, &mut plain, &values, Scale::ONE);
                let values = times(&values, incoming);
                let found = step(&config, &mut carried, &values, incoming);
                prop_assert_eq!((found.scale, found.again), (expected.scale, expected.again));
                prop_assert_eq!(found.outcome.underflow, expected.outcome.underflow);
                prop_assert_eq!(carried.to_bytes(), plain.to_bytes());
            }
        }
    }

    /// Scaling every gradient by `2^j` moves every decision by `-j` and changes nothing else.
    #[test]
    fn scaling_the_gradients_moves_every_decision(
        narrowing in narrow_ranges(),
        j in -20..=20,
        seed: u64,
    ) {
        let mut generator = SplitMix64(seed);
        for config in configs(narrowing) {
            let (mut cell, mut moved) = (config.cell(), config.cell());
            for values in tensors(12, &mut generator) {
                let was_calibrated = cell.is_calibrated();
                let first = step(&config, &mut cell, &values, Scale::ONE);
                let values = times(&values, Scale::saturating(j));
                let second = step(&config, &mut moved, &values, Scale::ONE);
                // What was never decided stays at 2^0, where another tensor loses something else.
                if !cell.is_calibrated() {
                    continue;
                }
                prop_assert_eq!(cell.scale().log2() - j, moved.scale().log2());
                prop_assert_eq!((cell.trigger(), cell.age()), (moved.trigger(), moved.age()));
                prop_assert_eq!(first.scale - j, second.scale);
                prop_assert_eq!(first.outcome.underflow, second.outcome.underflow);
                prop_assert_eq!(first.outcome.overflow, second.outcome.overflow);
                // A first scale may be 2^0 by chance.
                prop_assert!(!was_calibrated || first.again == second.again);
            }
        }
    }
}
