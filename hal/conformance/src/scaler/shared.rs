//! Two scalers that share the weights, as those of two losses do.

use adaloss_core::{
    format::Format,
    policy::{Config, Policy},
    scale::Scale,
    scaler::device::{Entry, Line, StepEnd},
    unscale::{Cause, LossSum, Place, Unscaled, Verdict},
};
use adaloss_hal::{
    Memory,
    scaler::{Engine, Evidence, HasScaler},
};

use crate::{Case, Failure, bench::Bench, tensor::read_one};

/// What happens in a step: what the first scaler finds itself, and what only the weights show.
#[derive(Clone, Copy)]
struct Happens {
    /// Whether the first scaler meets a weight gradient that is not finite.
    is_bad: bool,
    /// Whether the second one's loss is not finite.
    has_no_loss: bool,
    /// Whether a weight gradient's squares are not finite.
    has_no_norm: bool,
}

/// All that can happen.
const STEPS: [Happens; 8] = {
    let mut steps = [Happens { is_bad: false, has_no_loss: false, has_no_norm: false }; 8];
    let mut nth = 0;
    while nth < 8 {
        steps[nth].is_bad = nth & 1 == 1;
        steps[nth].has_no_loss = nth & 2 == 2;
        steps[nth].has_no_norm = nth & 4 == 4;
        nth += 1;
    }
    steps
};

/// A weight gradient is told to both; of what only the weights show, the second is told.
#[inline(never)]
pub(super) fn check<D: Memory + HasScaler>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    let case = Case::new("two scalers that share the weights", 1);
    let device = &mut *bench.device;
    let config = Config::for_format(Format::BINARY16);
    let config = case.finds(config.with_policy(Policy::Fixed(Scale::ONE)).ok())?;
    let mut first = case.succeeds(Engine::new(device, config, 1, 8))?;
    let mut second = case.succeeds(Engine::new(device, config, 1, 8))?;
    let mut counts = case.succeeds(device.zeroed(1))?;
    let mut loss = case.succeeds(device.zeroed(1))?;
    let mut squares = case.succeeds(device.zeroed(1))?;
    let mut updates = 0;
    for happens in STEPS.into_iter().chain([STEPS[0]]) {
        let Happens { is_bad, has_no_loss, has_no_norm } = happens;
        for (engine, nonfinite) in [(&mut first, is_bad.into()), (&mut second, 0)] {
            let met = Unscaled { elements: 3, nonfinite, tiny: 0 };
            case.succeeds(device.write(&[met], D::view_mut(&mut counts)))?;
            let counts = D::view_mut(&mut counts);
            let evidence = Evidence::Unscaled { id: 5, origin: None, elements: 3, counts };
            case.succeeds(engine.judge(device, evidence, None))?;
        }
        let sum = LossSum {
            loss: if has_no_loss { f64::NAN } else { 0.5 },
            rows: 2,
            ..LossSum::default()
        };
        case.succeeds(device.write(&[sum], D::view_mut(&mut loss)))?;
        case.is_done(second.judge_loss(device, 2, D::view(&loss), Some(&mut first)))?;
        let sum = if has_no_norm { f64::INFINITY } else { 4.0 };
        case.succeeds(device.write(&[sum], D::view_mut(&mut squares)))?;
        let evidence = Evidence::Squares { id: 7, is_gradient: true, sum: D::view(&squares) };
        case.succeeds(second.judge(device, evidence, Some(&mut first)))?;
        case.is_done(first.conclude(device, None))?;
        case.is_done(second.conclude(device, Some(&first)))?;

        let skip = |layer, cause| Verdict::Skip { layer, cause };
        let expected = [
            if is_bad { skip(Place::Weight(5), Cause::NonFinite) } else { Verdict::Apply },
            match happens {
                // The first scaler has said so.
                Happens { is_bad: true, .. } => Verdict::Apply,
                Happens { has_no_loss: true, .. } => skip(Place::Loss, Cause::NonFinite),
                Happens { has_no_norm: true, .. } => skip(Place::Weight(7), Cause::NonFinite),
                _ => Verdict::Apply,
            },
        ];
        for (engine, expected) in [&mut first, &mut second].into_iter().zip(expected) {
            let mut room = [Line::EMPTY; 8];
            let last = case.is_done(engine.read(device, &mut room))?.next_back();
            let found = last.and_then(Result::ok).and_then(|entry| match entry {
                Entry::Step(StepEnd { verdict, .. }) => Some(verdict),
                _ => None,
            });
            case.whole("the verdict", &Some(expected), &found)?;
        }
        let applies = expected == [Verdict::Apply; 2];
        updates += u32::from(applies);
        let found = read_one(case, device, second.applies())?;
        case.number("whether the step applies", applies.into(), found.into())?;
        let found = read_one(case, device, second.updates())?;
        case.number("the number of updates", updates.into(), found.into())?;
        bench.report.operations += 6;
    }
    Ok(())
}
