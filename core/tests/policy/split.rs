//! One decision a step, however the step is split.

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, Rounding, f16},
    policy::{Amax, Config, Policy, Seen},
    scaler::{LossScaler, Step},
    unscale::{Place, Verdict},
};
use adaloss_oracle::inputs::SplitMix64;

use crate::visit::with;

type Scaler = LossScaler<2>;

/// A micro-batch: the loss gradient, and the factor of the one layer.
type Batch = (Vec<f32>, f32);

fn batch(generator: &mut SplitMix64) -> Batch {
    let centre = generator.below(16) as i32 - 20;
    let zeros = generator.below(9) == 0;
    let values = (0..20).map(|_| match zeros {
        true => 0.0,
        false => generator.between_binades(centre - 6, centre),
    });
    (values.collect(), [0.0, 1.0e-3, 2.0, 300.0][generator.below(4)])
}

/// Goes backward; returns the bits of what was narrowed.
fn backward<F: Element>(step: &mut Step<'_>, (values, factor): &Batch) -> Vec<u32> {
    fn narrowed<F: Element>(values: &[f32]) -> Vec<F> {
        vec![F::from_bits(0); values.len()]
    }
    let (mut first, mut second) = (narrowed::<F>(values), narrowed::<F>(values));
    let loss = step.loss().apply(values, &mut first).expect("equal lengths");
    let results: Vec<f32> = loss.into_parts().0.iter().map(|g| g.widen() * factor).collect();
    let layer = step.layer(0, &loss).expect("a cell");
    let layer = layer.apply(&results, &mut second).expect("equal lengths");
    let ((loss, _), (layer, _)) = (loss.into_parts(), layer.into_parts());
    loss.iter().chain(layer).map(|g| g.to_bits()).collect()
}

const PLACES: [Place; 2] = [Place::Loss, Place::Layer(0)];

/// Four micro-batches on one scaler, and one each on four scalers that merge what they saw, in any order: the same
/// bytes, step after step.
#[test]
fn four_micro_batches_decide_as_four_machines() {
    fn check<F: Element>(config: Config, seed: u64) {
        let mut generator = SplitMix64(seed);
        let mut whole = Scaler::new(config);
        let mut machines = [(); 4].map(|()| Scaler::new(config));
        for nth in 0..150 {
            let batches = [(); 4].map(|()| batch(&mut generator));
            let mut step = whole.begin();
            for batch in &batches {
                backward::<F>(&mut step, batch);
            }
            let verdict = step.finish();

            let mut steps: Vec<Step<'_>> = machines.iter_mut().map(Scaler::begin).collect();
            // Each machine takes another batch in each step.
            for (i, step) in steps.iter_mut().enumerate() {
                backward::<F>(step, &batches[(i + nth) % 4]);
            }
            for place in PLACES {
                let mut order = [0, 1, 2, 3];
                generator.shuffle(&mut order);
                let mut merged = Seen::NOTHING;
                order.iter().for_each(|&i| merged.merge(&steps[i].seen(place)));
                for step in &mut steps {
                    step.set_seen(place, merged).expect("a cell");
                }
            }
            for step in steps {
                assert_eq!(step.finish(), verdict);
            }
            for machine in &machines {
                for place in PLACES {
                    let (one, other) = (machine.cell(place), whole.cell(place));
                    assert_eq!(
                        one.map(|cell| (cell.scale(), cell.seen())),
                        other.map(|cell| (cell.scale(), cell.seen())),
                        "step {nth}, {place}"
                    );
                }
            }
        }
        assert_eq!(machines.each_ref().map(Scaler::digest), [machines[0].digest(); 4]);
    }
    for seed in 0..6 {
        let binary16 = Config::for_format(Format::BINARY16).with_period(Config::NEVER);
        check::<f16>(binary16.expect("legal"), seed);
        let e4m3 = Config::for_format(Format::E4M3).with_period(Config::NEVER).expect("legal");
        check::<E4M3>(e4m3, seed);
        check::<E4M3>(with(e4m3, Policy::Amax(Amax { window: 16, margin: 0 })), seed);
    }
}

/// With stochastic rounding as well, where each says which micro-batch it is at: the same bits of each.
#[test]
fn four_micro_batches_round_as_four_machines() {
    let config = Config::for_format(Format::E5M2).with_rounding(Rounding::Stochastic, 11);
    let mut generator = SplitMix64(5);
    let mut whole = Scaler::new(config);
    let mut machines = [(); 4].map(|()| Scaler::new(config));
    let mut moved = 0;
    for nth in 0..60 {
        let batches = [(); 4].map(|()| batch(&mut generator));
        let mut step = whole.begin();
        let together = [0, 1, 2, 3].map(|i| {
            step.micro_batch(i);
            backward::<E5M2>(&mut step, &batches[i as usize])
        });
        let verdict = step.finish();

        let mut steps: Vec<Step<'_>> = machines.iter_mut().map(Scaler::begin).collect();
        for (i, step) in steps.iter_mut().enumerate() {
            let at = (i + nth) % 4;
            step.micro_batch(at as u32);
            let alone = backward::<E5M2>(step, &batches[at]);
            // The first visit of a machine finds a scale of its own.
            if nth > 0 {
                assert_eq!(alone, together[at], "step {nth}, micro-batch {at}");
            }
        }
        for place in PLACES {
            let mut merged = Seen::NOTHING;
            steps.iter().for_each(|step| merged.merge(&step.seen(place)));
            for step in &mut steps {
                step.set_seen(place, merged).expect("a cell");
            }
        }
        steps.into_iter().for_each(|step| assert_eq!(step.finish(), verdict));

        // One batch, as two micro-batches: other words.
        let mut step = whole.begin();
        let twice = [0, 1].map(|i| {
            step.micro_batch(i);
            backward::<E5M2>(&mut step, &batches[0])
        });
        moved += u32::from(twice[0] != twice[1]);
    }
    assert!(moved > 40, "{moved} of 60");
}

/// A cell that is used many times a step is used at one scale.
#[test]
fn a_shared_weight_is_visited_at_one_scale() {
    let mut scaler = Scaler::new(Config::for_format(Format::E4M3));
    let mut replays = 0;
    for _ in 0..1000 {
        let mut step = scaler.begin();
        let mut scales = Vec::new();
        for nth in 0..8 {
            let value = [2.0_f32.powi(-2 * nth)];
            let mut narrowed = [E4M3::ZERO];
            let gradient = step.loss().apply(&value, &mut narrowed).expect("equal lengths");
            scales.push(gradient.scale());
            replays += u32::from(step.last().expect("a visit").replayed);
        }
        assert!(scales.iter().skip(1).all(|scale| scale == &scales[1]), "{scales:?}");
        assert_eq!(step.finish(), Verdict::Apply);
    }
    assert!(replays <= 12, "{replays} replays in 1,000 steps");
}
