//! What is decided between two marks.

use adaloss_core::{
    format::{Encoding, Format},
    policy::{Config, Recovery},
    propagate::Scaled,
    scale::Scale,
    unscale::{Cause, Place, Verdict},
};
use adaloss_plug::{Backward, Judgement, Memory, Walk};

fn config() -> Config {
    Config::for_format(Format::BINARY16)
}

fn scale(log2: i32) -> Scale {
    Scale::new(log2).unwrap()
}

/// Judges a segment that ends in the output, in a step of its own.
fn judge(memory: &mut Memory, lowered: i32, results: &[f32]) -> (Scale, Judgement, Verdict) {
    let mut visits = Vec::new();
    let mut walk = memory.walk(&mut visits);
    let attempt = walk.attempt(Place::Loss, Encoding::Binary16, scale(20), lowered);
    let judgement = walk.judge(attempt, results);
    (attempt.scale, judgement, walk.finish())
}

#[test]
fn branches_meet_at_the_least_of_their_scales() {
    let mut memory = Memory::new(config(), 1);
    let mut visits = Vec::new();
    let mut walk = memory.walk(&mut visits);
    let branches =
        vec![Scaled::new(vec![8.0, 16.0], scale(4)), Scaled::new(vec![1.0, -3.0], scale(1))];
    let (sum, left_with) = walk.visit(Place::Layer(0), branches).unwrap().into_parts();
    let unscaled = sum.iter().map(|x| x / left_with.factor()).collect::<Vec<_>>();
    assert_eq!(unscaled, [0.5 + 0.5, 1.0 - 1.5]);
    assert_eq!(walk.finish(), Verdict::Apply);
    let [visit] = visits[..] else { panic!("one mark") };
    assert_eq!((visit.place, visit.incoming), (Place::Layer(0), scale(1)));
}

/// The gradient grows by eight binades from one step to the next.
#[test]
fn a_mark_that_overflows_is_narrowed_once_more() {
    let mut memory = Memory::new(config(), 0);
    let mut visits = Vec::new();
    for (gradient, left_with, replayed) in [(1.0, 14, false), (256.0, 7, true), (256.0, 7, false)] {
        let mut walk = memory.walk(&mut visits);
        let branches = vec![Scaled::new(vec![gradient, 0.5], Scale::ONE)];
        let (values, scale) = walk.visit(Place::Loss, branches).unwrap().into_parts();
        assert_eq!(scale.log2(), left_with);
        assert_eq!(values, [gradient, 0.5].map(|x| x * scale.factor()));
        assert_eq!(walk.finish(), Verdict::Apply);
        let [visit] = visits[..] else { panic!("one mark") };
        assert_eq!((visit.outgoing, visit.replayed), (scale, replayed));
    }
    assert_eq!((memory.totals().recovered, memory.totals().skipped), (1, 0));
}

#[test]
fn a_segment_that_overflows_is_lowered_and_in_the_end_rejected() {
    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let mut memory = Memory::new(config(), 0);
        for lowered in 0..5 {
            let (at, judgement, _) = judge(&mut memory, lowered, &[1.0, bad, 2.0]);
            assert_eq!((at, judgement), (scale(20 - 8 * lowered), Judgement::Lower));
        }
        let (_, judgement, verdict) = judge(&mut memory, 5, &[1.0, bad, 2.0]);
        assert_eq!(judgement, Judgement::Reject);
        let skip = Verdict::Skip { layer: Place::Loss, cause: Cause::NonFinite };
        assert_eq!(verdict, skip);
    }
}

#[test]
fn a_segment_goes_no_higher_than_where_its_results_fit() {
    let mut memory = Memory::new(config(), 0);
    let seen = |memory: &mut Memory, lowered, largest| judge(memory, lowered, &[largest]).0.log2();
    // 2^10 of binary16's 2^16 at 2^12: five binades more would fit, and one of them stays free.
    assert_eq!(seen(&mut memory, 1, 1024.0), 12);
    assert_eq!(seen(&mut memory, 0, 1024.0), 16);
    // There the limit follows the results, by one binade in sixteen steps upwards, and down at once.
    let upwards: Vec<_> = (0..48).map(|_| seen(&mut memory, 0, 1.0)).collect();
    let expected: Vec<_> = (1..=48).map(|step| 16 + step / 16).collect();
    assert_eq!(upwards, expected);
    assert_eq!(seen(&mut memory, 0, 16384.0), 19);
    assert_eq!(seen(&mut memory, 0, 1.0), 19);
    assert_eq!(seen(&mut memory, 0, 32768.0), 19);
    assert_eq!(seen(&mut memory, 0, 1.0), 18);
}

#[test]
fn what_overflows_on_the_way_stays_low() {
    let mut memory = Memory::new(config(), 0);
    // These results would fit at 2^20 too, where the segment failed.
    assert_eq!(judge(&mut memory, 1, &[1.0e-4]).0, scale(12));
    assert_eq!(judge(&mut memory, 0, &[1.0e-4]).0, scale(12));
}

#[test]
fn without_replay_an_overflow_is_rejected_at_once() {
    let mut memory = Memory::new(config().with_recovery(Recovery::Skip), 0);
    let (at, judgement, verdict) = judge(&mut memory, 0, &[f32::INFINITY]);
    assert_eq!((at, judgement), (scale(20), Judgement::Reject));
    assert_eq!(verdict, Verdict::Skip { layer: Place::Loss, cause: Cause::Overflow });
}

/// Scales would be the same in the next step, and the segment would overflow again.
#[test]
fn without_replay_the_next_step_is_lower() {
    let mut memory = Memory::new(config().with_recovery(Recovery::Skip), 0);
    let mut step = |results: &[f32]| {
        let mut visits = Vec::new();
        let mut walk = memory.walk(&mut visits);
        let gradient = vec![Scaled::new(vec![1.0], Scale::ONE)];
        let gradient = walk.visit(Place::Loss, gradient).unwrap().scale();
        let attempt = walk.attempt(Place::Loss, Encoding::Binary16, gradient, 0);
        let judgement = walk.judge(attempt, results);
        let _ = walk.finish();
        (attempt.scale.log2(), judgement)
    };
    // 2^15 is the greatest power of two of binary16, and one binade is free.
    assert_eq!(step(&[1.0]), (14, Judgement::Keep));
    assert_eq!(step(&[f32::INFINITY]), (14, Judgement::Reject));
    assert_eq!(step(&[1.0]), (10, Judgement::Keep));
}

/// Unscales gradients of one weight, and returns their sum and what becomes of the step.
fn weight(gradients: &[(Place, f32)]) -> (Vec<f32>, Verdict) {
    let mut memory = Memory::new(config(), 1);
    let mut visits = Vec::new();
    let mut walk = memory.walk(&mut visits);
    let add = |walk: &mut Walk<'_>, earlier, &(place, value): &(Place, f32)| {
        walk.unscale(place, Scaled::new(&[value][..], scale(1)), earlier).unwrap()
    };
    let sum = gradients.iter().fold(None, |sum, gradient| Some(add(&mut walk, sum, gradient)));
    (sum.unwrap_or_default(), walk.finish())
}

#[test]
fn gradients_of_a_weight_are_unscaled_and_summed() {
    let (sum, verdict) = weight(&[(Place::Loss, 3.0), (Place::Layer(0), -1.0)]);
    assert_eq!((&sum[..], verdict), (&[1.0][..], Verdict::Apply));
}

#[test]
fn a_sum_that_leaves_f32_names_who_added_last() {
    let large = f32::MAX / 2.0;
    for (last, layer) in [(Place::Layer(0), Place::Weight(0)), (Place::Loss, Place::Loss)] {
        let (_, verdict) = weight(&[(Place::Loss, large); 3]);
        assert_eq!(verdict, Verdict::Apply);
        let (_, verdict) = weight(&[(Place::Loss, f32::MAX), (last, f32::MAX), (last, f32::MAX)]);
        assert_eq!(verdict, Verdict::Skip { layer, cause: Cause::NonFinite });
    }
}

#[test]
fn gradients_are_handed_out_only_to_be_applied() {
    let (layer, cause) = (Place::Loss, Cause::NonFinite);
    assert!(matches!(Backward::new(Verdict::Apply, 7), Backward::Apply(7)));
    let skip = Backward::new(Verdict::Skip { layer, cause }, 7);
    assert!(matches!(skip, Backward::Skip { layer: Place::Loss, cause: Cause::NonFinite }));
    let stop = Backward::new(Verdict::Stop { layer, cause, skipped: 3 }, 7);
    assert!(matches!(stop, Backward::Stop { skipped: 3, .. }));
}
