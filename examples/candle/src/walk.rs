//! The backward pass: marks are visited, and segments run between them.

use adaloss_core::{
    format::Encoding,
    propagate::Scaled,
    scale::Scale,
    unscale::{Cause, Place},
};
use adaloss_plug::{Judgement, sum};
use candle_core::{DType, Tensor};

use crate::{
    ScalerError,
    dtype::encoding,
    segment::{self, Arrivals},
    tape::{Mark, Tape},
    weights::{WeightGradient, Weights},
};

/// The backward pass of one micro-batch under way.
pub(crate) struct Walk<'a> {
    walk: adaloss_plug::Walk<'a>,
    replays: &'a mut u64,
    tape: &'a Tape,
    /// What has arrived at marks that were not visited yet, by their numbers.
    branches: Vec<Vec<Scaled<Vec<f32>>>>,
    /// The gradients of this micro-batch.
    weights: Weights,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(walk: adaloss_plug::Walk<'a>, tape: &'a Tape, replays: &'a mut u64) -> Self {
        let branches = tape.marks().iter().map(|_| Vec::new()).collect();
        Self { walk, replays, tape, branches, weights: Weights::default() }
    }

    /// Walks from the loss back to the weights, and adds to `weights`; returns whether the step can still be usable.
    ///
    /// Gradients are complete only where it can.
    pub(crate) fn run(mut self, loss: &Tensor, weights: &mut Weights) -> candle_core::Result<bool> {
        let elements = loss.elem_count();
        if elements != 1 {
            return Err(ScalerError::LossShape { elements }.into());
        }
        let value = loss.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if value.iter().any(|value| !value.is_finite()) {
            self.walk.reject(Place::Loss, Cause::NonFinite);
            return Ok(self.walk.suspend());
        }
        let arrivals = segment::run(loss, None, self.tape.gate())?;
        self.check_loss(&arrivals)?;
        self.keep(Place::Loss, Scale::ONE, arrivals)?;
        for (number, mark) in self.tape.marks().iter().enumerate().rev() {
            let branches = std::mem::take(&mut self.branches[number]);
            match mark.place {
                Place::Loss if branches.is_empty() => return Err(ScalerError::Aside.into()),
                _ if branches.is_empty() => continue,
                _ => {}
            }
            let gradient = self.walk.visit(mark.place, branches).map_err(ScalerError::Step)?;
            if !self.walk.is_usable() {
                break;
            }
            let (scale, arrivals) = self.run_segment(mark, gradient)?;
            self.keep(mark.place, scale, arrivals)?;
        }
        Ok(self.end(weights))
    }

    /// Adds what this micro-batch found.
    fn end(mut self, weights: &mut Weights) -> bool {
        for mut gradient in self.weights.into_gradients() {
            let earlier = weights.take(&gradient.weight);
            self.walk.accumulate(gradient.place, &mut gradient.values, earlier);
            weights.put(gradient);
        }
        self.walk.suspend()
    }

    /// Looks at what the loss was computed from.
    fn check_loss(&self, arrivals: &Arrivals) -> Result<(), ScalerError> {
        let marks = self.tape.marks();
        let mut reached = arrivals.marks.iter().map(|&(number, _)| &marks[number]);
        if arrivals.marks.is_empty() {
            return Err(ScalerError::Unreached { marks: marks.len() });
        }
        match reached.find(|mark| mark.beginning != DType::F32) {
            Some(mark) => Err(ScalerError::NoOutput { layer: mark.place, dtype: mark.beginning }),
            None => Ok(()),
        }
    }

    /// Goes backward through a segment; again and lower, if its results are not finite.
    fn run_segment(
        &mut self,
        mark: &Mark,
        gradient: Scaled<Vec<f32>>,
    ) -> candle_core::Result<(Scale, Arrivals)> {
        let encoding = encoding(mark.end.dtype()).unwrap_or(Encoding::Binary32);
        let mut lowered = 0;
        loop {
            let attempt = self.walk.attempt(mark.place, encoding, gradient.scale(), lowered);
            let scale = attempt.scale;
            let values = tensor_like(&mark.end, sum([gradient.clone()], scale))?;
            let arrivals = segment::run(&mark.end, Some(values), self.tape.gate())?;
            match self.walk.judge(attempt, arrivals.values()) {
                Judgement::Keep => return Ok((scale, arrivals)),
                Judgement::Reject => return Ok((scale, Arrivals::default())),
                Judgement::Lower => {
                    *self.replays += 1;
                    lowered += 1;
                }
            }
        }
    }

    /// Sorts what a segment arrived at: gradients of earlier marks wait for their visit, those of weights are
    /// unscaled.
    fn keep(&mut self, place: Place, scale: Scale, arrivals: Arrivals) -> Result<(), ScalerError> {
        for (number, values) in arrivals.marks {
            self.branches[number].push(Scaled::new(values, scale));
        }
        for (weight, values) in arrivals.weights {
            self.keep_weight(place, weight, Scaled::new(&values[..], scale))?;
        }
        Ok(())
    }

    fn keep_weight(
        &mut self,
        place: Place,
        weight: Tensor,
        gradient: Scaled<&[f32]>,
    ) -> Result<(), ScalerError> {
        let dtype = weight.dtype();
        if dtype != DType::F32 {
            let shape = weight.dims().to_vec();
            return Err(ScalerError::Weight { layer: place, dtype, shape });
        }
        let earlier = self.weights.take(&weight);
        let values = self.walk.unscale(place, gradient, earlier).map_err(ScalerError::Step)?;
        self.weights.put(WeightGradient { weight, place, values });
        Ok(())
    }
}

/// Makes a tensor with the shape, type and device of another one.
fn tensor_like(like: &Tensor, values: Vec<f32>) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())?.to_dtype(like.dtype())
}
