//! The backward pass: marks are visited, and segments run between them.

use std::collections::HashMap;

use adaloss_core::{
    format::Encoding,
    propagate::Scaled,
    scale::Scale,
    unscale::{Cause, Place, Verdict},
};
use adaloss_plug::{Judgement, sum};
use candle_core::{DType, Tensor, TensorId, backprop::GradStore};

use crate::{
    ScalerError,
    dtype::encoding,
    scaler::Shared,
    segment::{self, Arrival},
    tape::{Mark, Tape},
};

/// A backward pass under way.
pub(crate) struct Walk<'a> {
    walk: adaloss_plug::Walk<'a>,
    replays: &'a mut u64,
    marks: &'a [Mark],
    beginnings: HashMap<TensorId, &'a Mark>,
    /// What has arrived at marks that were not visited yet, by what began there.
    branches: HashMap<TensorId, Vec<Scaled<Vec<f32>>>>,
    weights: GradStore,
}

/// A scale and what a segment returned at it.
struct Run {
    scale: Scale,
    arrivals: Vec<Arrival>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(shared: &'a mut Shared, tape: &'a Tape) -> Self {
        shared.replays = 0;
        Self {
            walk: shared.memory.walk(&mut shared.visits),
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
            self.walk.reject(Place::Loss, Cause::NonFinite);
            return Ok((self.walk.finish(), self.weights));
        }
        let arrivals = segment::run(loss, None)?;
        self.check_loss(&arrivals)?;
        self.keep(Place::Loss, Run { scale: Scale::ONE, arrivals })?;
        for mark in self.marks.iter().rev() {
            let Some(branches) = self.branches.remove(&mark.beginning.id()) else { continue };
            let gradient = self.walk.visit(mark.place, branches).map_err(ScalerError::Step)?;
            if !self.walk.is_usable() {
                break;
            }
            let run = self.run_segment(mark, &gradient)?;
            self.keep(mark.place, run)?;
        }
        Ok((self.walk.finish(), self.weights))
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

    /// Goes backward through a segment; again and lower, if its results are not finite.
    fn run_segment(
        &mut self,
        mark: &Mark,
        gradient: &Scaled<Vec<f32>>,
    ) -> candle_core::Result<Run> {
        let encoding = encoding(mark.end.dtype()).unwrap_or(Encoding::Binary32);
        let mut lowered = 0;
        loop {
            let attempt = self.walk.attempt(mark.place, encoding, gradient.scale(), lowered);
            let scale = attempt.scale;
            let values = sum([gradient.as_ref().carry(Clone::clone)], scale);
            let arrivals = segment::run(&mark.end, Some(tensor_like(&mark.end, values)?))?;
            match self.walk.judge(attempt, arrivals.iter().flat_map(|arrival| &arrival.values)) {
                Judgement::Keep => return Ok(Run { scale, arrivals }),
                Judgement::Reject => return Ok(Run { scale, arrivals: Vec::new() }),
                Judgement::Lower => {
                    *self.replays += 1;
                    lowered += 1;
                }
            }
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
        let earlier = match self.weights.remove(weight) {
            Some(earlier) => Some(earlier.flatten_all()?.to_vec1()?),
            None => None,
        };
        let unscaled = self.walk.unscale(place, gradient, earlier).map_err(ScalerError::Step)?;
        let unscaled = Tensor::from_vec(unscaled, weight.shape(), weight.device())?;
        self.weights.insert(weight, unscaled);
        Ok(())
    }
}

/// Makes a tensor with the shape, type and device of another one.
fn tensor_like(like: &Tensor, values: Vec<f32>) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())?.to_dtype(like.dtype())
}
