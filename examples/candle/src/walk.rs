//! The backward pass: marks are visited, and segments run between them.

use std::collections::HashMap;

use adaloss_core::{
    apply::ApplyError,
    format::{Format, Narrowing},
    policy::{Config, Recovery},
    propagate::{Scaled, common_scale, shifted},
    scale::Scale,
    scaler::{self, StepError, Visit},
    unscale::{Cause, Place, Verdict, unscale},
};
use candle_core::{DType, Tensor, TensorId, backprop::GradStore};

use crate::{
    ScalerError, apply,
    scaler::Shared,
    segment::{self, Arrival},
    tape::{Mark, Tape},
};

/// How much lower a segment is run again that overflowed, and how often: together all of binary16.
const BINADES: i32 = 8;
const ATTEMPTS: i32 = 5;

/// A backward pass under way.
pub(crate) struct Walk<'a> {
    config: Config,
    step: scaler::Step<'a>,
    limits: &'a mut [Scale],
    visits: &'a mut Vec<Visit>,
    replays: &'a mut u64,
    marks: &'a [Mark],
    beginnings: HashMap<TensorId, &'a Mark>,
    /// What has arrived at marks that were not visited yet, by what began there.
    branches: HashMap<TensorId, Vec<Branch>>,
    weights: GradStore,
}

/// One of the gradients that meet at a mark.
type Branch = Scaled<Vec<f32>>;

/// A scale and what a segment returned at it.
struct Run {
    scale: Scale,
    arrivals: Vec<Arrival>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(shared: &'a mut Shared, tape: &'a Tape) -> Self {
        shared.visits.clear();
        shared.replays = 0;
        Self {
            config: *shared.state.config(),
            step: shared.state.begin(&mut shared.cells),
            limits: &mut shared.limits,
            visits: &mut shared.visits,
            replays: &mut shared.replays,
            marks: tape.marks(),
            beginnings: tape.beginnings(),
            branches: HashMap::new(),
            weights: GradStore::default(),
        }
    }

    /// Walks from the loss back to the weights; the gradients are complete where the verdict is to apply.
    pub(crate) fn run(mut self, loss: &Tensor) -> candle_core::Result<(Verdict, GradStore)> {
        let elements = loss.elem_count();
        if elements != 1 {
            return Err(ScalerError::LossShape { elements }.into());
        }
        let value = loss.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if value.iter().any(|value| !value.is_finite()) {
            self.step.reject(Place::Loss, Cause::NonFinite);
            return Ok((self.step.finish(), self.weights));
        }
        let arrivals = segment::run(loss, None)?;
        self.check_loss(&arrivals)?;
        self.keep(Place::Loss, Run { scale: Scale::ONE, arrivals })?;
        for mark in self.marks.iter().rev() {
            let Some(branches) = self.branches.remove(&mark.beginning.id()) else { continue };
            let gradient = self.visit(mark.place, branches)?;
            // What comes after is not usable either.
            if self.step.first_bad().is_some() {
                break;
            }
            let run = self.run_segment(mark, &gradient)?;
            self.keep(mark.place, run)?;
        }
        Ok((self.step.finish(), self.weights))
    }

    /// Looks at what the loss was computed from.
    fn check_loss(&self, arrivals: &[Arrival]) -> Result<(), ScalerError> {
        let mut reached = arrivals.iter().filter_map(|a| self.beginnings.get(&a.leaf.id()));
        if reached.clone().next().is_none() {
            return Err(ScalerError::Unreached { marks: self.marks.len() });
        }
        match reached.find(|mark| mark.beginning.dtype() != DType::F32) {
            Some(mark) => {
                let (layer, dtype) = (mark.place, mark.beginning.dtype());
                Err(ScalerError::NoOutput { layer, dtype })
            }
            None => Ok(()),
        }
    }

    /// Narrows what arrived at a mark, the branches joined if there are several.
    fn visit(
        &mut self,
        place: Place,
        branches: Vec<Branch>,
    ) -> candle_core::Result<Scaled<Vec<f32>>> {
        let scales = branches.iter().map(Scaled::scale).collect::<Vec<_>>();
        let least = common_scale(scales.iter().copied()).unwrap_or_default();
        let common = if place == Place::Loss { Scale::ONE } else { least };
        let sum = Scaled::new(sum(branches, common), common);
        let narrowed: Result<_, StepError<ApplyError>> = match place {
            Place::Layer(id) if scales.len() == 1 => {
                self.step.layer(id, &sum, |values, pass| apply::narrow(values, pass))
            }
            Place::Layer(id) => {
                let (values, _) = sum.into_parts();
                self.step.join_scales(id, scales.into_iter(), |pass| apply::narrow(&values, pass))
            }
            Place::Loss | Place::Weight(_) => {
                let (values, _) = sum.into_parts();
                self.step.loss(&values[..], apply::narrow)
            }
        };
        self.visits.extend(self.step.last());
        Ok(narrowed.map_err(ScalerError::Step)?)
    }

    /// Goes backward through a segment; again and lower, if its results are not finite.
    fn run_segment(
        &mut self,
        mark: &Mark,
        gradient: &Scaled<Vec<f32>>,
    ) -> candle_core::Result<Run> {
        let may_replay =
            self.config.recovery() == Recovery::Replay && !self.config.policy().is_whole_model();
        let slot = slot(mark.place);
        let first =
            if may_replay { gradient.scale().min(self.limits[slot]) } else { gradient.scale() };
        let mut attempt = 0;
        loop {
            let scale = Scale::saturating(first.log2() - BINADES * attempt);
            let values = sum([gradient.as_ref().carry(Clone::clone)], scale);
            let arrivals = segment::run(&mark.end, Some(tensor_like(&mark.end, values)?))?;
            if let Some(largest) = largest(&arrivals) {
                let fits = limit(mark.end.dtype(), largest, scale);
                let (limit, failed) = (&mut self.limits[slot], scale.log2() + BINADES);
                if attempt > 0 {
                    // What fits although it failed there overflowed on the way, not in the results.
                    *limit = if fits.log2() < failed { fits } else { scale };
                } else if *limit < Scale::MAX {
                    *limit = fits.min(Scale::saturating(limit.log2() + 1));
                }
                return Ok(Run { scale, arrivals });
            }
            if !may_replay || attempt == ATTEMPTS {
                // An overflow would have gone by now.
                let cause = if may_replay { Cause::NonFinite } else { Cause::Overflow };
                self.step.reject(mark.place, cause);
                return Ok(Run { scale, arrivals: Vec::new() });
            }
            *self.replays += 1;
            attempt += 1;
        }
    }

    /// Sorts what a segment arrived at: gradients of earlier marks wait for their visit, those of weights are
    /// unscaled.
    fn keep(&mut self, place: Place, run: Run) -> candle_core::Result<()> {
        for Arrival { leaf, values } in run.arrivals {
            if self.beginnings.contains_key(&leaf.id()) {
                let waiting = self.branches.entry(leaf.id()).or_default();
                waiting.push(Scaled::new(values, run.scale));
            } else {
                self.keep_weight(place, &leaf, Scaled::new(&values[..], run.scale))?;
            }
        }
        Ok(())
    }

    fn keep_weight(
        &mut self,
        place: Place,
        weight: &Tensor,
        gradient: Scaled<&[f32]>,
    ) -> candle_core::Result<()> {
        let dtype = weight.dtype();
        if dtype != DType::F32 {
            let shape = weight.dims().to_vec();
            return Err(ScalerError::Weight { layer: place, dtype, shape }.into());
        }
        let mut unscaled = vec![0.0; weight.elem_count()];
        let mut met = unscale(Format::BINARY32, gradient, &mut unscaled)
            .map_err(|error| ScalerError::Step(StepError::Pass(error)))?;
        // Other segments may have used it, at scales of theirs.
        if let Some(earlier) = self.weights.remove(weight) {
            for (sum, earlier) in unscaled.iter_mut().zip(earlier.flatten_all()?.to_vec1::<f32>()?)
            {
                *sum += earlier;
                met.nonfinite += u64::from(!sum.is_finite());
            }
        }
        match place {
            Place::Layer(id) | Place::Weight(id) => self.step.unscaled(id, &met),
            Place::Loss if met.nonfinite > 0 => self.step.reject(place, Cause::NonFinite),
            Place::Loss => {}
        }
        let unscaled = Tensor::from_vec(unscaled, weight.shape(), weight.device())?;
        self.weights.insert(weight, unscaled);
        Ok(())
    }
}

/// Brings branches to one scale and sums them in f32, in the order in which they arrived.
fn sum(branches: impl IntoIterator<Item = Branch>, common: Scale) -> Vec<f32> {
    let mut branches = branches.into_iter().map(|branch| {
        let (mut values, scale) = branch.into_parts();
        if scale != common {
            values.iter_mut().for_each(|value| *value = shifted(*value, common / scale));
        }
        values
    });
    let mut sum = branches.next().unwrap_or_default();
    for branch in branches {
        sum.iter_mut().zip(branch).for_each(|(sum, value)| *sum += value);
    }
    sum
}

/// Makes a tensor with the shape, type and device of another one.
fn tensor_like(like: &Tensor, values: Vec<f32>) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())?.to_dtype(like.dtype())
}

/// Returns the largest magnitude, or `None` where one is not finite.
fn largest(arrivals: &[Arrival]) -> Option<f32> {
    let values = arrivals.iter().flat_map(|arrival| &arrival.values);
    // Of numbers that are not negative the bits order as the numbers do, NaN above all.
    let bits = values.map(|value| value.abs().to_bits()).max().unwrap_or(0);
    Some(f32::from_bits(bits)).filter(|largest| largest.is_finite())
}

/// Returns the greatest scale at which a segment's results would have stayed within its type, with one binade
/// left free, given the largest of them at `scale`.
fn limit(dtype: DType, largest: f32, scale: Scale) -> Scale {
    let format = match dtype {
        DType::F16 => Format::BINARY16,
        DType::BF16 => Format::BFLOAT16,
        _ => Format::BINARY32,
    };
    match Narrowing::to(format).shifts(largest) {
        Some(shifts) => Scale::saturating(scale.log2() + shifts.greatest - 1),
        None => Scale::MAX,
    }
}

/// Returns where the limit of a mark's segment is kept.
pub(crate) const fn slot(place: Place) -> usize {
    match place {
        Place::Loss => 0,
        Place::Layer(id) | Place::Weight(id) => id + 1,
    }
}
