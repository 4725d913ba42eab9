//! `backoff` stays within its bounds, whatever they are and whatever happens.

use adaloss_core::{
    format::Format,
    policy::{Backoff, Cell, Config, Growth, Policy, step},
};
use adaloss_oracle::inputs::cases;
use proptest::prelude::*;

/// Bounds anywhere within the legal scales, some of them equal.
fn bounds() -> impl Strategy<Value = [f64; 3]> {
    let exponent = prop_oneof![Just(-126.0), Just(0.0), Just(126.0), -126.0..126.0_f64];
    prop::array::uniform3(exponent).prop_map(|mut exponents| {
        exponents.sort_by(f64::total_cmp);
        exponents.map(f64::exp2)
    })
}

/// A legal factor of growth, from none to the greatest.
fn growth() -> impl Strategy<Value = f64> {
    let extremes = [1.0, 1.0_f64.next_up(), 2.0, 1.0e200, f64::MAX];
    prop_oneof![prop::sample::select(extremes.to_vec()), 1.0..4.0]
}

/// A legal factor of shrinking, from hardly any to a subnormal.
fn shrink() -> impl Strategy<Value = f64> {
    let extremes = [0.5, 1.0_f64.next_down(), f64::MIN_POSITIVE, f64::from_bits(1)];
    prop_oneof![prop::sample::select(extremes.to_vec()), 1.0e-3..1.0]
}

fn any_backoff() -> impl Strategy<Value = Backoff> {
    let interval = prop_oneof![1..5_u32, Just(100), Just(u32::MAX)];
    (bounds(), growth(), growth(), shrink(), interval).prop_map(
        |([floor, initial, cap], growth, warm_up, shrink, interval)| Backoff {
            initial,
            growth,
            warm_up,
            shrink,
            floor,
            cap,
            interval,
        },
    )
}

proptest! {
    #![proptest_config(cases(2000))]

    /// The real scale is between floor and cap, what is applied is its greatest power of two, and a
    /// step moves it in one direction only.
    #[test]
    fn no_sequence_of_steps_leaves_the_bounds(
        backoff in any_backoff(),
        steps in prop::collection::vec(prop::bool::weighted(0.8), 0..300),
    ) {
        let policy = Policy::Backoff(backoff);
        let config = Config::for_format(Format::BINARY16).with_policy(policy).expect("legal");
        let mut cell = config.cell();
        for clean in [None].into_iter().chain(steps.into_iter().map(Some)) {
            let before = Growth::of(&cell).real_scale;
            clean.into_iter().for_each(|clean| step(&config, clean, &mut cell));
            let real = Growth::of(&cell).real_scale;
            prop_assert!(backoff.floor <= real && real <= backoff.cap, "{real}");
            let applied = f64::from(cell.scale().factor());
            prop_assert!(applied <= real && real < 2.0 * applied);
            match clean {
                Some(true) => prop_assert!(real >= before),
                Some(false) => prop_assert!(real <= before),
                None => prop_assert_eq!(real, backoff.initial),
            }
            prop_assert!(Growth::of(&cell).clean_steps < backoff.interval);
            prop_assert_eq!(Cell::from_bytes(&cell.to_bytes()), Some(cell));
        }
    }
}
