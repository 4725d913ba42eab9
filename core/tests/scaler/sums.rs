//! Sums in f32 that overflow although every gradient is finite: the cell that the gradient came from is lowered.

use adaloss_core::{
    format::{Element, Format, bf16, f16},
    policy::{Amax, Config, Policy, Seen},
    propagate::Scaled,
    scale::Scale,
    scaler::LossScaler,
    unscale::{Cause, Place, Unscaled, Verdict},
};

use super::{narrow_as, run};

/// A weight gradient `3 g0 - 2 g1` of a loss gradient `[1, -1]`, which is 5: the step is usable, in every
/// format, under every policy that follows maxima.
#[test]
fn a_sum_of_three_and_two_is_five() {
    fn check<F: Element>(format: Format) {
        let measured = Config::for_format(format);
        let amax = Policy::Amax(Amax { window: 16, margin: 0 });
        for config in [measured, measured.with_policy(amax).unwrap()] {
            let mut scaler = LossScaler::<1>::new(config);
            for _ in 0..40 {
                let mut step = scaler.begin();
                let gradient = run(step.loss(), |pass| narrow_as::<F>(&[1.0, -1.0], pass)).unwrap();
                let weight = step.unscale(0, &gradient, |g, inverse| {
                    let sum = [(3.0 * g[0].widen() - 2.0 * g[1].widen()) * inverse];
                    (sum, Unscaled::of(&sum))
                });
                assert_eq!((weight, step.finish()), ([5.0], Verdict::Apply));
            }
        }
    }
    check::<bf16>(Format::BFLOAT16);
    check::<f16>(Format::BINARY16);
    check::<f32>(Format::BINARY32);
}

/// Activations of 10^37: the weight gradient is finite, and at the scale of its gradient it is not.  A few steps
/// are skipped, and then one in some 128.
#[test]
fn a_weight_gradient_lowers_the_cell_of_its_gradient() {
    let mut scaler = LossScaler::<2>::new(Config::for_format(Format::BINARY16));
    let (mut skipped, mut first_usable) = (0, None);
    for nth in 0..1000 {
        let mut step = scaler.begin();
        let loss = run(step.loss(), |pass| narrow_as::<f16>(&[1.0, -0.5], pass)).unwrap();
        let g = loss.scaled();
        let results = [g[0].widen() * 0.25, g[1].widen()];
        let visit = step.layer(0, &loss).unwrap();
        let hidden = run(visit, |pass| narrow_as::<f16>(&results, pass)).unwrap();
        assert_eq!(hidden.origin(), Some(Place::Layer(0)));
        let carried = hidden.as_ref().carry(|g| g);
        step.unscale(1, &carried, |g, inverse| {
            let sum = [g[0].widen() * 1.0e37 * inverse];
            (sum, Unscaled::of(&sum))
        });
        match step.finish() {
            Verdict::Apply => _ = first_usable.get_or_insert(nth),
            verdict => {
                let expected = Verdict::Skip { layer: Place::Weight(1), cause: Cause::NonFinite };
                assert_eq!(verdict, expected);
                skipped += 1;
            }
        }
    }
    assert!(first_usable.is_some_and(|nth| nth <= 2), "{first_usable:?}");
    assert!(skipped <= 5 + 1000 / 128, "{skipped}");
    // Nobody else paid.
    let scale_of = |place| scaler.cell(place).unwrap().scale().log2();
    assert!(scale_of(Place::Loss) >= 14 && scale_of(Place::Layer(0)) <= 7);
}

/// The same where the next layer's f32 results overflow, and where branches are joined.
#[test]
fn results_lower_the_cells_of_their_gradients() {
    for joined in [false, true] {
        let mut scaler = LossScaler::<2>::new(Config::for_format(Format::BINARY16));
        let mut usable = 0;
        for _ in 0..50 {
            let mut step = scaler.begin();
            let loss = run(step.loss(), |pass| narrow_as::<f16>(&[1.0, -0.5], pass)).unwrap();
            let results = [loss.scaled()[0].widen() * 2.0e37, 0.0];
            let branches = [loss.tag(), loss.tag()];
            let visit = if joined { step.join(0, &branches) } else { step.layer(0, &loss) };
            run(visit.unwrap(), |pass| narrow_as::<f16>(&results, pass)).unwrap();
            usable += u32::from(step.finish() == Verdict::Apply);
        }
        assert!(usable >= 47, "{usable} of 50 steps were usable, joined: {joined}");
    }
}

/// What a caller says of sums of its own lowers the cell that they came from.
#[test]
fn sums_of_the_callers_lower_a_cell() {
    let [kept, lowered] = [false, true].map(|overflowed| {
        let mut scaler = LossScaler::<1>::new(Config::for_format(Format::BINARY16));
        let mut step = scaler.begin();
        run(step.loss(), |pass| narrow_as::<f16>(&[1.0, -0.5], pass)).unwrap();
        if overflowed {
            step.sums_overflowed(Place::Loss);
        }
        assert_eq!(step.finish(), Verdict::Apply);
        scaler.cell(Place::Loss).unwrap().scale()
    });
    assert!(lowered < kept, "{lowered} and {kept}");
}

/// What was bad before, and what nobody knows the origin of, lowers nothing.
#[test]
fn only_the_first_bad_place_lowers_a_cell() {
    let mut scaler = LossScaler::<2>::new(Config::for_format(Format::BINARY16));
    let mut scales = Vec::new();
    for nth in 0..5 {
        let mut step = scaler.begin();
        let loss = run(step.loss(), |pass| narrow_as::<f16>(&[1.0, -0.5], pass)).unwrap();
        if nth == 2 {
            let results = [loss.scaled()[0].widen()];
            run(step.layer(0, &loss).unwrap(), |pass| narrow_as::<f16>(&results, pass)).unwrap();
        }
        scales.push(loss.scale().log2());
        let bad = Unscaled { elements: 1, nonfinite: 1, tiny: 0 };
        match nth {
            0 => step.reject(Place::Loss, Cause::NonFinite),
            1 => step.unscaled(0, &bad),
            2 => step.sums_overflowed(Place::Layer(1)), // no such cell is in use
            3 => step.sums_overflowed(Place::Layer(0)), // nobody visited it
            _ => {}
        }
        let known = loss.as_ref();
        let unknown = Scaled::new(known.into_parts().0, Scale::ONE);
        step.unscale(0, if nth == 0 { &known } else { &unknown }, |_, _| ((), bad));
        let _verdict = step.finish();
        let layer = scaler.cell(Place::Layer(0));
        assert!(layer.is_none_or(|cell| cell.seen() == Seen::NOTHING));
    }
    assert!(scales.iter().all(|&log2| log2 >= scales[0]), "{scales:?}");
}

/// Takes a scaler through steps in which the sums of the loss gradient overflow where `overflows` says so of the step
/// and the scale's exponent; returns these exponents.
fn scales(steps: usize, overflows: impl Fn(usize, i32) -> bool) -> Vec<i32> {
    let mut scaler = LossScaler::<1>::new(Config::for_format(Format::BINARY16));
    let mut scales = Vec::new();
    for nth in 0..steps {
        let mut step = scaler.begin();
        let gradient = run(step.loss(), |pass| narrow_as::<f16>(&[1.0e-3, -0.5e-3], pass)).unwrap();
        let log2 = gradient.scale().log2();
        let nonfinite = u64::from(overflows(nth, log2));
        step.unscale(0, &gradient, |_, _| ((), Unscaled { elements: 1, nonfinite, tiny: 0 }));
        let _verdict = step.finish();
        scales.push(log2);
    }
    scales
}

/// Weights or activations that make sums infinite for some steps: the scale is where it was soon after them.
#[test]
fn what_no_scale_causes_is_over_soon() {
    for bad in 1..=40 {
        let usual = scales(200, |_, _| false);
        let found = scales(200, |nth, _| (100..100 + bad).contains(&nth));
        assert_eq!(found[..=100], usual[..=100]);
        let after = 100 + bad + 34;
        assert_eq!(found[after..], usual[after..], "{bad}: {found:?}");
    }
}

/// Wherever sums fit, that is found in a few steps, and then one step in some 128 is lost.
#[test]
fn the_scale_at_which_sums_fit_is_found() {
    for greatest in -100..=24 {
        let found = scales(2000, |_, log2| log2 > greatest);
        let lost = found.iter().filter(|&&log2| log2 > greatest).count();
        assert!(lost <= 9 + 2000 / 128, "{greatest}: {lost} of {found:?}");
        let high = found[40..].iter().filter(|&&log2| log2 >= greatest.min(24) - 5).count();
        assert!(high >= 1900, "{greatest}: {high} of {found:?}");
    }
}
