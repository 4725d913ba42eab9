//! The room `scaler`: whole steps, visit by visit, against a walk that does one thing after another.
//!
//! Whatever enters, many NaN in a row included: scales stay legal, every non-finite value is in the verdict
//! of its step with the first place in backward order, an accepted step has no such value, rows of
//! skipped steps end, and a scaler that was saved and restored goes on as the other.

mod walk;

use adaloss_core::{
    apply::Pass,
    format::{Element, Format},
    policy::Operands,
    propagate::{Scaled, shifted},
    scale::Scale,
    scaler::{LossScaler, OpenVisit, Step, StepError},
    statistics::Statistics,
    unscale::{Place, Unscaled},
    with_element,
};
use adaloss_hal::Capabilities;
use arbitrary::{Result, Unstructured};

use self::walk::{Kind, Walk};
use crate::{config::config, input};

const CELLS: usize = 5;
/// The most steps, and the most layers of each.
const STEPS: usize = 7;
const LAYERS: usize = 6;
/// The most elements of the tensors of a step.
const MOST: usize = 24;

type Scaler = LossScaler<CELLS>;

/// A tensor in the gradient format, as bits.
type Bits = Vec<u32>;

/// Checks a scaler over some steps.
pub fn check(bytes: &[u8]) {
    input::run(bytes, |u| {
        let config = config(u, Capabilities::ALL)?;
        let (mut scaler, mut walk) = (Scaler::new(config), Walk::new(config));
        for _ in 0..u.int_in_range(1..=STEPS)? {
            check_step(u, &mut scaler, &mut walk)?;
            if u.ratio(1, 3)? {
                scaler = saved_and_restored(&scaler);
            }
        }
        Ok(())
    });
}

fn saved_and_restored(scaler: &Scaler) -> Scaler {
    let mut bytes = [0; Scaler::CHECKPOINT_BYTES];
    scaler.save(&mut bytes).expect("it fits");
    let restored = Scaler::restore(*scaler.config(), &bytes).expect("it was just saved");
    assert_eq!((restored.digest(), restored.totals()), (scaler.digest(), scaler.totals()));
    restored
}

/// Goes back through one network and compares everything that a caller can see.
fn check_step(u: &mut Unstructured<'_>, scaler: &mut Scaler, walk: &mut Walk) -> Result<()> {
    let format = walk.config.narrowing().format;
    let length = u.int_in_range(0..=MOST)?;
    let mut step = scaler.begin();
    let values = tensor(u, format, length)?;
    let mut gradient = loss(&mut step, walk, &values);
    let mut behind = gradient.clone();
    for _ in 0..u.int_in_range(0..=LAYERS)? {
        let id = u.int_in_range(0..=CELLS)?;
        if u.ratio(1, 6)? {
            let index = u.arbitrary()?;
            step.micro_batch(index);
            walk.micro_batch(index);
        }
        if u.ratio(1, 5)? {
            let met = Unscaled { elements: 9, nonfinite: u.int_in_range(0..=1)?, tiny: 2 };
            // Computed elsewhere, or from a gradient whose origin is known.
            let origin = gradient.origin().filter(|_| id % 2 == 0);
            match origin {
                Some(_) => step.unscale(id, &gradient, |_, _| ((), met)),
                None => step.unscaled(id, &met),
            }
            walk.tracing(origin, |walk| walk.unscaled(id, &met));
            continue;
        }
        let next = if u.ratio(1, 4)? {
            join(&mut step, walk, id, &[gradient.as_ref(), behind.as_ref()])
        } else {
            layer(&mut step, walk, id, &gradient, &tensor(u, format, length)?)
        };
        if let Some(next) = next {
            behind = std::mem::replace(&mut gradient, next);
        }
        assert_eq!(step.first_bad(), walk.bad, "{:?}", walk.config);
    }
    assert_eq!(step.tiny(), walk.tiny);
    let verdict = step.finish();
    assert_eq!(verdict, walk.finish(), "{:?}", walk.config);
    walk.check(scaler);
    Ok(())
}

/// A tensor of exactly `length` values.
fn tensor(u: &mut Unstructured<'_>, format: Format, length: usize) -> Result<Vec<f32>> {
    let mut values = input::values(u, format, length)?;
    values.resize(length, 0.0);
    Ok(values)
}

fn loss(step: &mut Step<'_>, walk: &mut Walk, values: &[f32]) -> Scaled<Bits> {
    let mut passes = walk.visits(Place::Loss, Scale::ONE, Kind::Cast, values);
    let mut visit = step.loss();
    if visit.wants_operands() {
        visit.describe(&Operands::Cast(Statistics::of(values)));
    }
    let left = passes.pull(visit, |_| values.into());
    passes.check(&left, step.last(), walk);
    left
}

fn layer(
    step: &mut Step<'_>,
    walk: &mut Walk,
    id: usize,
    gradient: &Scaled<Bits>,
    results: &[f32],
) -> Option<Scaled<Bits>> {
    let mut passes = walk.tracing(gradient.origin(), |walk| {
        walk.visits(Place::Layer(id), gradient.scale(), Kind::Product, results)
    });
    let mut visit = opened(step.layer(id, gradient), id)?;
    if visit.wants_operands() {
        visit.describe(&walk::product(results));
    }
    let left = passes.pull(visit, |_| results.into());
    passes.check(&left, step.last(), walk);
    Some(left)
}

fn join(
    step: &mut Step<'_>,
    walk: &mut Walk,
    id: usize,
    branches: &[Scaled<&Bits>],
) -> Option<Scaled<Bits>> {
    let format = walk.config.narrowing().format;
    let scales: Vec<Scale> = branches.iter().map(Scaled::scale).collect();
    let common = scales.iter().copied().min().expect("branches");
    let exact = sums(
        format,
        branches.iter().map(|branch| {
            let (bits, scale) = branch.into_parts();
            (bits, (common / scale).log2())
        }),
    );
    let mut passes = walk.tracing(branches.iter().filter_map(Scaled::origin), |walk| {
        walk.visits(Place::Layer(id), common, Kind::Join(scales), &exact)
    });
    let tags: Vec<Scaled<()>> = branches.iter().map(Scaled::tag).collect();
    let visit = opened(step.join(id, &tags), id)?;
    let left = passes.pull(visit, |pass| {
        let terms = branches.iter().map(|branch| {
            let (bits, scale) = branch.into_parts();
            (bits, (pass.incoming() / scale).log2())
        });
        sums(format, terms)
    });
    passes.check(&left, step.last(), walk);
    Some(left)
}

/// Sums branches in f32, each brought to one scale.
fn sums<'a>(format: Format, branches: impl Iterator<Item = (&'a Bits, i32)>) -> Vec<f32> {
    let mut sum = Vec::new();
    for (nth, (bits, shift_log2)) in branches.enumerate() {
        let shift =
            Scale::saturating(shift_log2 / 2) / Scale::saturating(shift_log2 / 2 - shift_log2);
        let terms = bits.iter().map(|&bits| shifted(format.widen(bits), shift));
        match nth {
            0 => sum = terms.collect(),
            _ => sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term),
        }
    }
    sum
}

/// Takes a visit; the only error is a cell that the scaler does not have.
fn opened(
    visit: std::result::Result<OpenVisit<'_>, StepError>,
    id: usize,
) -> Option<OpenVisit<'_>> {
    match visit {
        Ok(visit) => {
            assert!(id < CELLS);
            Some(visit)
        }
        Err(error) => {
            assert_eq!(error, StepError::NoCell { id, cells: CELLS });
            assert_eq!(id, CELLS);
            None
        }
    }
}

/// Narrows through a pass into whatever the configured format is.
fn narrow(values: &[f32], pass: &mut Pass<'_>) -> Bits {
    fn into<F: Element>(values: &[f32], pass: &mut Pass<'_>) -> Bits {
        let mut narrowed = vec![F::from_bits(0); values.len()];
        pass.apply(values, &mut narrowed).expect("the format of the pass, and room");
        narrowed.into_iter().map(F::to_bits).collect()
    }
    with_element!(pass.narrowing().format.encoding, F => into::<F>(values, pass))
}
