//! What may never happen, whatever tensors come and whatever the configuration.

use adaloss_core::{
    format::Overflow,
    policy::{Config, Rule},
    scale::Scale,
    scaler::Visit,
    unscale::{Cause, Place, Verdict},
};
use adaloss_oracle::{
    Limits,
    inputs::{SplitMix64, cases},
    product,
};
use proptest::prelude::*;

use super::{
    Scaler,
    walk::{self, Event, Walk},
};

/// Returns what an event makes of a step, from the values alone where they are not finite.
fn judged(config: &Config, event: &Event) -> Option<(Place, Cause)> {
    match event {
        Event::Unscaled { id, met } => {
            (met.nonfinite > 0).then_some((Place::Weight(*id), Cause::NonFinite))
        }
        Event::Visited { values, visit, .. } => {
            let overflows = config.narrowing().overflow == Overflow::Infinity;
            if nonfinite(values) > 0 {
                Some((visit.place, Cause::NonFinite))
            } else {
                let is_lost = overflows && visit.outcome.overflow > 0;
                is_lost.then_some((visit.place, Cause::Overflow))
            }
        }
    }
}

fn nonfinite(values: &[u32]) -> u64 {
    values.iter().filter(|&&bits| !f32::from_bits(bits).is_finite()).count() as u64
}

/// Scales are legal and exact, what is not finite is counted, and a pass runs as often as documented.
fn check_visit(config: &Config, values: &[u32], runs: u64, scale: Scale, visit: &Visit) {
    assert_eq!(visit.outgoing, scale);
    for scale in [visit.incoming, visit.outgoing] {
        assert!((-126..=126).contains(&scale.log2()));
        assert!(scale.factor().is_normal() && scale.factor().to_bits() << 9 == 0);
    }
    assert_eq!(visit.outcome.elements, values.len() as u64);
    assert_eq!(visit.outcome.nonfinite, nonfinite(values));
    assert_eq!(runs, u64::from(visit.passes));
    let follows = config.policy().follows_maxima();
    let certified = follows && visit.certificate.is_some();
    let is_join = visit.certificate.is_some_and(|certificate| certificate.rule == Rule::Join);
    let most = 1 + u64::from(certified) + u64::from(visit.replayed) + u64::from(is_join);
    // A first visit runs once more.
    let is_first = follows && !visit.replayed && runs == most + 1;
    assert!(runs == most || is_first || is_join && runs == most - 1, "{runs} runs, {visit:?}");
    assert!(!certified || !visit.broke_promise || visit.outcome.underflow > 0);
}

/// A replay cures: what overflows after one, or without one where one is wanted, overflows at every
/// scale.
fn check_recovery(config: &Config, values: &[u32], visit: &Visit) {
    let narrowing = config.narrowing();
    let may_replay = config.replays() && nonfinite(values) == 0;
    assert!(may_replay || !visit.replayed);
    assert!(!visit.replayed || visit.outcome.overflow == 0);
    if may_replay && visit.outcome.overflow > 0 {
        let max_abs = values.iter().map(|&bits| f32::from_bits(bits).abs()).fold(0.0, f32::max);
        let least = product(max_abs, Scale::MIN.log2() - visit.incoming.log2());
        let limits = Limits::of(narrowing.format.encoding);
        assert!(limits.overflows(narrowing, least), "some scale would have cured this");
    }
}

/// The verdict is that of the first event in backward order that was bad, and ends a row of skips.
fn check_verdict(config: &Config, walk: &Walk, skipped_in_row: &mut u32) {
    let format = config.narrowing().format;
    let bad = walk.events.iter().find_map(|event| judged(config, event));
    let Some((layer, cause)) = bad else {
        assert_eq!(walk.verdict, Verdict::Apply);
        *skipped_in_row = 0;
        for event in &walk.events {
            if let Event::Visited { narrowed, .. } = event {
                assert!(narrowed.iter().all(|&bits| format.widen(bits).is_finite()));
            }
        }
        return;
    };
    *skipped_in_row += 1;
    let skipped = *skipped_in_row;
    if skipped < config.max_skips() {
        assert_eq!(walk.verdict, Verdict::Skip { layer, cause });
    } else {
        assert_eq!(walk.verdict, Verdict::Stop { layer, cause, skipped });
        assert_eq!(skipped, config.max_skips());
        *skipped_in_row = 0;
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    /// No scale that is no exact power of two in range, no non-finite value that passes unseen, no
    /// step that is skipped without its place, no endless row of skips.
    #[test]
    fn no_sequence_of_tensors_breaks_a_promise(seed: u64) {
        let mut generator = SplitMix64(seed);
        let config = walk::config(&mut generator);
        let mut scaler = Scaler::new(config);
        let (mut skipped_in_row, mut skipped) = (0, 0);
        for steps in 1..=25 {
            let walk = walk::step(&mut scaler, &mut generator);
            for event in &walk.events {
                if let Event::Visited { values, runs, scale, visit, .. } = event {
                    check_visit(&config, values, *runs, *scale, visit);
                    check_recovery(&config, values, visit);
                }
            }
            check_verdict(&config, &walk, &mut skipped_in_row);
            skipped += u64::from(walk.verdict != Verdict::Apply);
            let totals = scaler.totals();
            prop_assert_eq!((totals.steps, totals.skipped), (steps, skipped));
        }
    }

    /// Nothing but NaN, for ever: every step names the loss, and every `max_skips`-th one stops.
    #[test]
    fn a_storm_of_nan_stops_on_time(seed: u64) {
        let config = walk::config(&mut SplitMix64(seed));
        let mut scaler = Scaler::new(config);
        let before = *scaler.cell(Place::Loss).expect("the loss has a cell");
        for steps in 1..=3 * config.max_skips() {
            let mut step = scaler.begin();
            super::loss(&mut step, &[f32::NAN; 3]).expect("a pass that succeeds");
            let (layer, cause, skipped) = (Place::Loss, Cause::NonFinite, config.max_skips());
            let expected = if steps.is_multiple_of(skipped) {
                Verdict::Stop { layer, cause, skipped }
            } else {
                Verdict::Skip { layer, cause }
            };
            prop_assert_eq!(step.finish(), expected);
        }
        // No scale cures that: only the whole model's shrinks, by trial and error.
        let after = *scaler.cell(Place::Loss).expect("the loss has a cell");
        prop_assert!(config.policy().name() == "backoff" || after.scale() == before.scale());
    }
}
