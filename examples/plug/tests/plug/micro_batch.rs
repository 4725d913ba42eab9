//! Several passes in one step.

use adaloss_core::{
    format::{Encoding, Format},
    policy::Config,
    propagate::Scaled,
    scale::Scale,
    unscale::{Cause, Place, Verdict},
};
use adaloss_plug::{Judgement, Memory, Reduction, Walk};

fn config() -> Config {
    Config::for_format(Format::BINARY16)
}

/// What a micro-batch brings: the gradient of the loss, and the results of the segment before the output, by how
/// often it was lowered.
type Batch = (f32, &'static [f32]);

/// Takes one micro-batch through the output and the segment before it; returns the scale that the segment was
/// left with.
fn pass(walk: &mut Walk<'_>, (gradient, results): Batch) -> i32 {
    let branches = vec![Scaled::new(vec![gradient], Scale::ONE)];
    let gradient = walk.visit(Place::Loss, branches).unwrap();
    if !walk.is_usable() {
        return gradient.scale().log2();
    }
    let mut lowered = 0;
    loop {
        let attempt = walk.attempt(Place::Loss, Encoding::Binary16, gradient.scale(), lowered);
        match walk.judge(attempt, &results[lowered as usize..=lowered as usize]) {
            Judgement::Lower => lowered += 1,
            Judgement::Keep | Judgement::Reject => return attempt.scale.log2(),
        }
    }
}

/// Does a step of several micro-batches.
fn step(memory: &mut Memory, batches: &[Batch]) -> (Vec<i32>, Verdict) {
    let mut visits = Vec::new();
    let mut scales = Vec::new();
    for (nth, &batch) in batches.iter().enumerate() {
        let mut walk = memory.micro_batch(nth as u32, &mut visits);
        scales.push(pass(&mut walk, batch));
        let _ = walk.suspend();
    }
    assert_eq!(visits.len(), batches.len());
    (scales, memory.finish())
}

const FITS: Batch = (1.0, &[1.0]);
const OVERFLOWS: Batch = (1.0, &[f32::INFINITY, 1024.0]);
const BAD: Batch = (f32::NAN, &[1.0]);

#[test]
fn a_limit_moves_between_steps_only() {
    let mut memory = Memory::new(config(), 0);
    let _ = step(&mut memory, &[FITS]);
    let (scales, verdict) = step(&mut memory, &[FITS, OVERFLOWS, OVERFLOWS, FITS]);
    // From the scale of the gradient in each of them, whatever the one before has shown.
    assert_eq!((scales, verdict), (vec![15, 15 - 8, 15 - 8, 15], Verdict::Apply));
    // At 2^7 five binades more would have fit, and one of them stays free: the least that one asked for.
    assert_eq!(step(&mut memory, &[FITS]).0, [7 + 4]);
}

#[test]
fn a_limit_rises_once_a_step_however_many_micro_batches_it_has() {
    let mut memory = Memory::new(config(), 0);
    let _ = step(&mut memory, &[OVERFLOWS]);
    let one_by_one: Vec<_> = (0..32).map(|_| step(&mut memory, &[FITS]).0[0]).collect();
    let mut memory = Memory::new(config(), 0);
    let _ = step(&mut memory, &[OVERFLOWS]);
    let in_fours: Vec<_> = (0..32).map(|_| step(&mut memory, &[FITS; 4]).0[0]).collect();
    assert_eq!(one_by_one, in_fours);
    assert!(one_by_one[31] > one_by_one[0]);
}

/// As of machines that take one each: what a micro-batch shows does not depend on those before.
#[test]
fn memories_are_the_same_in_whatever_order_micro_batches_come() {
    let batches = [OVERFLOWS, FITS, BAD, (2.0, &[1.0_f32] as &[f32])];
    let orders = [[0, 1, 2, 3], [2, 0, 1, 3], [3, 2, 1, 0], [1, 3, 0, 2]];
    let cells = orders.map(|order| {
        let mut memory = Memory::new(config().with_period(Config::NEVER).unwrap(), 0);
        let _ = step(&mut memory, &[FITS]);
        let (_, verdict) = step(&mut memory, &order.map(|nth| batches[nth]));
        assert_eq!(verdict, Verdict::Skip { layer: Place::Loss, cause: Cause::NonFinite });
        let cell = memory.cell(Place::Loss).unwrap();
        (cell.scale(), cell.seen(), step(&mut memory, &[FITS]).0)
    });
    assert_eq!(cells, [(); 4].map(|()| cells[0].clone()));
    // The limit is below the scale of the gradient, which would hide it.
    assert_eq!((cells[0].0.log2(), &cells[0].2[..]), (14, &[11][..]));
}

#[test]
fn a_bad_micro_batch_leaves_the_next_ones_as_they_are_and_rejects_the_step() {
    let mut memory = Memory::new(config(), 0);
    let mut visits = Vec::new();
    let mut walk = memory.micro_batch(0, &mut visits);
    let _ = pass(&mut walk, BAD);
    assert!(!walk.is_usable());
    assert!(!walk.suspend());
    let mut walk = memory.micro_batch(1, &mut visits);
    let _ = pass(&mut walk, FITS);
    assert!(walk.is_usable());
    assert!(!walk.suspend());
    let skip = Verdict::Skip { layer: Place::Loss, cause: Cause::NonFinite };
    assert_eq!(memory.finish(), skip);
    assert_eq!((memory.totals().steps, memory.totals().skipped), (1, 1));
}

#[test]
fn a_step_that_is_begun_anew_forgets_what_was_under_way() {
    let mut memory = Memory::new(config(), 0);
    let _ = step(&mut memory, &[FITS]);
    let mut untouched = memory.clone();
    let mut visits = Vec::new();
    let mut walk = memory.micro_batch(0, &mut visits);
    let _ = pass(&mut walk, OVERFLOWS);
    let _ = walk.suspend();
    for memory in [&mut memory, &mut untouched] {
        assert_eq!(step(memory, &[FITS]), (vec![15], Verdict::Apply));
        assert_eq!(step(memory, &[FITS]), (vec![15], Verdict::Apply));
    }
}

#[test]
fn a_sum_over_micro_batches_that_is_not_finite_names_the_weight() {
    for (place, named) in [(Place::Layer(0), Place::Weight(0)), (Place::Loss, Place::Loss)] {
        let mut memory = Memory::new(config(), 1);
        let mut visits = Vec::new();
        let mut walk = memory.micro_batch(0, &mut visits);
        let mut sum = vec![f32::MAX, 1.0];
        walk.accumulate(place, &mut sum, None);
        assert!(walk.is_usable());
        walk.accumulate(place, &mut sum, Some(vec![1.0, 2.0]));
        assert_eq!((&sum[..], walk.is_usable()), (&[f32::MAX, 3.0][..], true));
        walk.accumulate(place, &mut sum, Some(vec![f32::MAX, 0.0]));
        let skip = Verdict::Skip { layer: named, cause: Cause::NonFinite };
        assert_eq!(walk.finish(), skip);
    }
}

#[test]
fn a_mean_is_the_sum_divided_once() {
    for (reduction, micro_batches, expected) in [
        (Reduction::Sum, 3, [3.0, -1.0]),
        (Reduction::Mean, 3, [1.0, -1.0 / 3.0]),
        (Reduction::Mean, 1, [3.0, -1.0]),
        (Reduction::Mean, 0, [3.0, -1.0]),
    ] {
        let mut sum = [3.0_f32, -1.0];
        reduction.apply(&mut sum, micro_batches);
        assert_eq!(sum, expected, "{reduction:?} of {micro_batches}");
    }
}
