//! Recovery from overflow: one exact move.

use adaloss_core::{
    format::{Fate, Rounding},
    policy::{Amax, Config, Measured, Policy, Range, join_target, paper_join_target, recover},
    scale::Scale,
    statistics::Outcome,
};
use adaloss_oracle::{
    Limits, in_parallel,
    inputs::{SplitMix64, adversarial, cases},
    narrowings, product,
};
use proptest::prelude::*;

/// At the recovered scale plus its headroom nothing overflows; one binade above, something does.
#[test]
fn one_move_prevents_overflow_and_no_smaller_one_does() {
    let checked = in_parallel(&narrowings(), |&narrowing| {
        let limits = Limits::of(narrowing.format.encoding);
        let mut generator = SplitMix64(111);
        let mut checked = 0;
        let config = Config::for_format(narrowing.format)
            .with_rounding(narrowing.rounding, 0)
            .with_overflow(narrowing.overflow);
        let measured = Measured::for_format(narrowing.format);
        let amax = Amax { window: 4, margin: 3 };
        let policies = [
            (Policy::Measured(measured), 0),
            (Policy::Amax(amax), 0),
            (Policy::Range(Range::new(narrowing.format)), 1),
        ];
        for (policy, headroom) in policies {
            let config = config.with_policy(policy).expect("legal");
            for x in adversarial(narrowing.format, 2000, 112) {
                let incoming = Scale::saturating(generator.below(253) as i32 - 126);
                let mut outcome = Outcome::EMPTY;
                // Smaller, zero and non-finite elements do not matter.
                outcome.record(x, Fate::Overflow);
                outcome.record(x / 2.0, Fate::Normal);
                outcome.record(0.0, Fate::Zero);
                outcome.record(f32::INFINITY, Fate::NonFinite);
                let overflows =
                    |k: i32| limits.overflows(narrowing, product(x.abs(), k - incoming.log2()));
                let context = || format!("{narrowing:?} {:#010x} at {incoming}", x.to_bits());
                let Some(scale) = recover(&config, &outcome, incoming) else {
                    assert!(overflows(-126), "{}", context());
                    continue;
                };
                let highest = (scale.log2() + headroom).min(126);
                if scale > Scale::MIN {
                    assert!(!overflows(highest), "{}", context());
                    assert!(highest == 126 || overflows(highest + 1), "{}", context());
                } else {
                    // The headroom is cut by the least legal scale.
                    assert!(!overflows(-126) && overflows(-126 + headroom + 1), "{}", context());
                }
                // The same by narrowing; with stochastic rounding the word 0 rounds up.
                let fate = |k: i32| narrowing.narrow(x, k - incoming.log2(), 0).fate;
                assert_ne!(fate(scale.log2()), Fate::Overflow);
                let next = highest + 1;
                assert!(next > 126 || scale == Scale::MIN || fate(next) == Fate::Overflow);
                checked += 1;
            }
        }
        checked
    });
    println!("recovery: {checked} moves, each enough and none too far");
}

#[test]
fn nothing_finite_has_no_recovery() {
    for narrowing in narrowings().iter().filter(|n| n.rounding == Rounding::NearestEven) {
        let config = Config::for_format(narrowing.format);
        let mut outcome = Outcome::EMPTY;
        assert_eq!(recover(&config, &outcome, Scale::ONE), None);
        outcome.record(f32::NAN, Fate::NonFinite);
        outcome.record(f32::INFINITY, Fate::NonFinite);
        outcome.record(0.0, Fate::Zero);
        assert_eq!(recover(&config, &outcome, Scale::MAX), None);
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    /// The target of a join is the greatest scale of a branch that fits, else the greatest that fits
    /// below the least of them, down to 2^-4: whatever the order of the branches, and whatever fits.
    #[test]
    fn a_join_has_one_target_in_any_order(
        exponents in prop::collection::vec(-126..=126_i32, 0..7),
        unfit in prop::collection::btree_set(-126..=126_i32, 0..150),
        magnitudes in prop::array::uniform7(any::<f32>()),
        seed: u64,
    ) {
        let fits = |scale: Scale| !unfit.contains(&scale.log2());
        let of_branch = exponents.iter().copied().filter(|k| !unfit.contains(k)).max();
        let below = || {
            let least = exponents.iter().copied().min()?;
            (-4..least).rev().find(|k| !unfit.contains(k))
        };
        let expected = of_branch.or_else(below).map(Scale::saturating);
        let scales = exponents.into_iter().map(Scale::saturating);
        let mut branches: Vec<(f32, Scale)> = magnitudes.map(f32::abs).into_iter().zip(scales).collect();
        let by_paper = paper_join_target(branches.iter().copied(), 65504.0);
        for _ in 0..4 {
            SplitMix64(seed).shuffle(&mut branches);
            let scales = branches.iter().map(|branch| branch.1);
            prop_assert_eq!(join_target(scales, fits), expected);
            prop_assert_eq!(paper_join_target(branches.iter().copied(), 65504.0), by_paper);
        }
    }
}
