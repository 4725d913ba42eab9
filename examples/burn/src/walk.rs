//! The backward pass: marks are visited, and segments run between them.

use adaloss_core::{
    format::Encoding,
    propagate::Scaled,
    scale::Scale,
    unscale::{Cause, Place},
};
use adaloss_plug::{Judgement, slot, sum};
use burn::{
    module::Module,
    tensor::{DType, Gradients, Tensor},
};

use crate::{
    ScalerError,
    dtype::encoding,
    tape::{self, Mark},
    weights::{self, Sums, WeightGradient},
};

/// The backward pass of one micro-batch under way.
pub(crate) struct Walk<'a> {
    walk: adaloss_plug::Walk<'a>,
    /// How often the forward pass was run again for each segment, the output's first.
    lowered: &'a mut [i32],
    /// Those that were not visited yet.
    marks: Vec<Box<dyn Mark>>,
    /// What has arrived at each of them.
    branches: Vec<Vec<Scaled<Vec<f32>>>>,
    /// The gradients of this micro-batch.
    weights: Sums,
}

/// How a backward pass ended.
pub(crate) enum Ended {
    /// A segment has to go backward at a lower scale, for which burn needs another forward pass.
    Again,
    /// The gradients were added; whether the step can still be usable.
    Done(bool),
}

/// What a backward pass through one segment arrived at, in f32 and at the scale of the segment.
#[derive(Default)]
struct Arrivals {
    /// At earlier marks, by their number.
    branches: Vec<(usize, Vec<f32>)>,
    weights: Vec<WeightGradient>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        walk: adaloss_plug::Walk<'a>,
        marks: Vec<Box<dyn Mark>>,
        lowered: &'a mut [i32],
    ) -> Self {
        Self {
            walk,
            lowered,
            branches: marks.iter().map(|_| Vec::new()).collect(),
            marks,
            weights: Sums::new(),
        }
    }

    /// Walks from the loss back to the weights of `module`, and adds to `sums`.
    pub(crate) fn run<M: Module, const D: usize>(
        mut self,
        loss: Tensor<D>,
        module: &M,
        sums: &mut Sums,
    ) -> Result<Ended, ScalerError> {
        let elements = loss.shape().num_elements();
        if elements != 1 {
            return Err(ScalerError::LossShape { elements });
        }
        if !loss.is_tracked() {
            return Err(ScalerError::Unreached { marks: self.marks.len() });
        }
        if tape::read(loss.clone())?.iter().any(|value| !value.is_finite()) {
            self.walk.reject(Place::Loss, Cause::NonFinite);
            return Ok(Ended::Done(self.walk.suspend()));
        }
        let arrivals = self.arrivals(&mut tape::backward(&loss)?, module)?;
        self.check_loss(&arrivals)?;
        self.keep(Place::Loss, Scale::ONE, arrivals)?;
        while let Some(mark) = self.marks.pop() {
            let (place, branches) = (mark.place(), self.branches.pop().unwrap_or_default());
            match place {
                Place::Loss if branches.is_empty() => return Err(ScalerError::Aside),
                _ if branches.is_empty() => continue,
                _ => {}
            }
            let gradient = self.walk.visit(place, branches).map_err(ScalerError::Step)?;
            if !self.walk.is_usable() {
                break;
            }
            let Some((scale, arrivals)) = self.run_segment(mark, gradient, module)? else {
                return Ok(Ended::Again);
            };
            self.keep(place, scale, arrivals)?;
        }
        if self.walk.is_usable() && self.weights.is_empty() {
            return Err(ScalerError::NoWeight);
        }
        Ok(Ended::Done(self.end(sums)))
    }

    /// Adds what this micro-batch found.
    fn end(mut self, sums: &mut Sums) -> bool {
        for (id, (place, mut values)) in self.weights {
            let earlier = sums.remove(&id).map(|(_, values)| values);
            self.walk.accumulate(place, &mut values, earlier);
            sums.insert(id, (place, values));
        }
        self.walk.suspend()
    }

    /// Takes what is known of the marks before, and of the weights.
    fn arrivals<M: Module>(
        &self,
        gradients: &mut Gradients,
        module: &M,
    ) -> Result<Arrivals, ScalerError> {
        let mut branches = Vec::new();
        for (number, mark) in self.marks.iter().enumerate() {
            if let Some(values) = mark.take(gradients)? {
                branches.push((number, values));
            }
        }
        Ok(Arrivals { branches, weights: weights::take(module, gradients)? })
    }

    /// Looks at what the loss was computed from.
    fn check_loss(&self, arrivals: &Arrivals) -> Result<(), ScalerError> {
        if arrivals.branches.is_empty() {
            return Err(ScalerError::Unreached { marks: self.marks.len() });
        }
        let mut reached = arrivals.branches.iter().map(|&(number, _)| &self.marks[number]);
        match reached.find(|mark| mark.beginning_dtype() != DType::F32) {
            Some(mark) => {
                let (layer, dtype) = (mark.place(), mark.beginning_dtype());
                Err(ScalerError::NoOutput { layer, dtype })
            }
            None => Ok(()),
        }
    }

    /// Goes backward through a segment, lower if the step was run again for it.
    ///
    /// Returns nothing if it has to be run again, lower still.
    fn run_segment<M: Module>(
        &mut self,
        mark: Box<dyn Mark>,
        gradient: Scaled<Vec<f32>>,
        module: &M,
    ) -> Result<Option<(Scale, Arrivals)>, ScalerError> {
        let place = mark.place();
        let encoding = encoding(mark.end_dtype()).unwrap_or(Encoding::Binary32);
        let lowered = self.lowered[slot(place)];
        let attempt = self.walk.attempt(place, encoding, gradient.scale(), lowered);
        let scale = attempt.scale;
        let mut gradients = mark.backward(sum([gradient], scale))?;
        let arrivals = self.arrivals(&mut gradients, module)?;
        Ok(match self.walk.judge(attempt, arrivals.values()) {
            Judgement::Keep => Some((scale, arrivals)),
            Judgement::Reject => Some((scale, Arrivals::default())),
            Judgement::Lower => {
                self.lowered[slot(place)] += 1;
                None
            }
        })
    }

    /// Sorts what a segment arrived at: gradients of earlier marks wait for their visit, those of weights are
    /// unscaled.
    fn keep(&mut self, place: Place, scale: Scale, arrivals: Arrivals) -> Result<(), ScalerError> {
        for (number, values) in arrivals.branches {
            self.branches[number].push(Scaled::new(values, scale));
        }
        for weight in arrivals.weights {
            self.keep_weight(place, scale, weight)?;
        }
        Ok(())
    }

    fn keep_weight(
        &mut self,
        place: Place,
        scale: Scale,
        weight: WeightGradient,
    ) -> Result<(), ScalerError> {
        let WeightGradient { id, dtype, shape, values } = weight;
        if dtype != DType::F32 {
            return Err(ScalerError::Weight { layer: place, dtype, shape });
        }
        let gradient = Scaled::new(&values[..], scale);
        let earlier = self.weights.remove(&id).map(|(_, values)| values);
        let unscaled = self.walk.unscale(place, gradient, earlier).map_err(ScalerError::Step)?;
        self.weights.insert(id, (place, unscaled));
        Ok(())
    }
}

impl Arrivals {
    fn values(&self) -> impl Iterator<Item = &f32> {
        let branches = self.branches.iter().map(|(_, values)| values);
        branches.chain(self.weights.iter().map(|weight| &weight.values)).flatten()
    }
}
