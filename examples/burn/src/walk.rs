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
use burn::{
    module::{Module, ParamId},
    optim::GradientsParams,
    tensor::{DType, Gradients, Tensor},
};

use crate::{
    ScalerError, apply,
    scaler::{Memory, Shared},
    tape::{self, Mark},
    weights::{self, WeightGradient},
};

/// How much lower a segment is run again that overflowed, and how often: together all of binary16.
const BINADES: i32 = 8;
const ATTEMPTS: i32 = 5;

/// A backward pass under way.
pub(crate) struct Walk<'a> {
    config: Config,
    step: scaler::Step<'a>,
    limits: &'a mut [Scale],
    /// How often the step was run again for each segment, the output's first.
    lowered: &'a mut [i32],
    visits: &'a mut Vec<Visit>,
    /// Those that were not visited yet.
    marks: Vec<Box<dyn Mark>>,
    /// What has arrived at each of them.
    branches: Vec<Vec<Branch>>,
    weights: HashMap<ParamId, Vec<f32>>,
}

/// How a backward pass ended.
pub(crate) enum Ended {
    /// A segment has to go backward at a lower scale, for which burn needs another forward pass.
    Again,
    /// The gradients are complete where the verdict is to apply.
    Judged(Verdict, GradientsParams),
}

/// One of the gradients that meet at a mark.
type Branch = Scaled<Vec<f32>>;

/// What a backward pass through one segment arrived at, in f32 and at the scale of the segment.
#[derive(Default)]
struct Arrivals {
    /// At earlier marks, by their number.
    branches: Vec<(usize, Vec<f32>)>,
    weights: Vec<WeightGradient>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        shared: &'a mut Shared,
        marks: Vec<Box<dyn Mark>>,
        lowered: &'a mut [i32],
    ) -> Self {
        let Shared { memory: Memory { state, cells, limits }, visits, .. } = shared;
        visits.clear();
        Self {
            config: *state.config(),
            step: state.begin(cells),
            limits,
            lowered,
            visits,
            branches: marks.iter().map(|_| Vec::new()).collect(),
            marks,
            weights: HashMap::new(),
        }
    }

    /// Walks from the loss back to the weights.
    pub(crate) fn run<M: Module, const D: usize>(
        mut self,
        loss: Tensor<D>,
        module: &M,
    ) -> Result<Ended, ScalerError> {
        let elements = loss.shape().num_elements();
        if elements != 1 {
            return Err(ScalerError::LossShape { elements });
        }
        if !loss.is_tracked() {
            return Err(ScalerError::Unreached { marks: self.marks.len() });
        }
        if tape::read(loss.clone())?.iter().any(|value| !value.is_finite()) {
            self.step.reject(Place::Loss, Cause::NonFinite);
            return Ok(self.judge(module));
        }
        let arrivals = self.arrivals(&mut loss.backward(), module)?;
        self.check_loss(&arrivals)?;
        self.keep(Place::Loss, Scale::ONE, arrivals)?;
        while let Some(mark) = self.marks.pop() {
            let Some(branches) = self.branches.pop().filter(|b| !b.is_empty()) else { continue };
            let place = mark.place();
            let gradient = self.visit(place, branches)?;
            // What comes after is not usable either.
            if self.step.first_bad().is_some() {
                break;
            }
            let Some((scale, arrivals)) = self.run_segment(mark, gradient, module)? else {
                return Ok(Ended::Again);
            };
            self.keep(place, scale, arrivals)?;
        }
        if self.step.first_bad().is_none() && self.weights.is_empty() {
            return Err(ScalerError::NoWeight);
        }
        Ok(self.judge(module))
    }

    fn judge<M: Module>(self, module: &M) -> Ended {
        match self.step.finish() {
            Verdict::Apply => Ended::Judged(Verdict::Apply, weights::collect(module, self.weights)),
            verdict => Ended::Judged(verdict, GradientsParams::new()),
        }
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

    /// Narrows what arrived at a mark, the branches joined if there are several.
    fn visit(
        &mut self,
        place: Place,
        branches: Vec<Branch>,
    ) -> Result<Scaled<Vec<f32>>, ScalerError> {
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
        narrowed.map_err(ScalerError::Step)
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
        let may_replay =
            self.config.recovery() == Recovery::Replay && !self.config.policy().is_whole_model();
        let (place, dtype) = (mark.place(), mark.end_dtype());
        let slot = slot(place);
        let first =
            if may_replay { gradient.scale().min(self.limits[slot]) } else { gradient.scale() };
        let scale = Scale::saturating(first.log2() - BINADES * self.lowered[slot]);
        let mut gradients = mark.backward(sum([gradient], scale));
        let arrivals = self.arrivals(&mut gradients, module)?;
        if let Some(largest) = arrivals.largest() {
            let (limit, fits) = (&mut self.limits[slot], limit(dtype, largest, scale));
            let failed = scale.log2() + BINADES;
            if self.lowered[slot] > 0 {
                // What fits although it failed there overflowed on the way, not in the results.
                *limit = if fits.log2() < failed { fits } else { scale };
            } else if *limit < Scale::MAX {
                *limit = fits.min(Scale::saturating(limit.log2() + 1));
            }
            return Ok(Some((scale, arrivals)));
        }
        if may_replay && self.lowered[slot] < ATTEMPTS {
            self.lowered[slot] += 1;
            return Ok(None);
        }
        // An overflow would have gone by now.
        let cause = if may_replay { Cause::NonFinite } else { Cause::Overflow };
        self.step.reject(place, cause);
        Ok(Some((scale, Arrivals::default())))
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
        let mut unscaled = vec![0.0; values.len()];
        let mut met = unscale(Format::BINARY32, Scaled::new(&values[..], scale), &mut unscaled)
            .map_err(|error| ScalerError::Step(StepError::Pass(error)))?;
        // Other segments may have used it, at scales of theirs.
        if let Some(earlier) = self.weights.remove(&id) {
            for (sum, earlier) in unscaled.iter_mut().zip(earlier) {
                *sum += earlier;
                met.nonfinite += u64::from(!sum.is_finite());
            }
        }
        match place {
            Place::Layer(id) | Place::Weight(id) => self.step.unscaled(id, &met),
            Place::Loss if met.nonfinite > 0 => self.step.reject(place, Cause::NonFinite),
            Place::Loss => {}
        }
        self.weights.insert(id, unscaled);
        Ok(())
    }
}

impl Arrivals {
    /// Returns the largest magnitude, or `None` where one is not finite.
    fn largest(&self) -> Option<f32> {
        let branches = self.branches.iter().map(|(_, values)| values);
        let values = branches.chain(self.weights.iter().map(|weight| &weight.values)).flatten();
        // Of numbers that are not negative the bits order as the numbers do, NaN above all.
        let bits = values.map(|value| value.abs().to_bits()).max().unwrap_or(0);
        Some(f32::from_bits(bits)).filter(|largest| largest.is_finite())
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
const fn slot(place: Place) -> usize {
    match place {
        Place::Loss => 0,
        Place::Layer(id) | Place::Weight(id) => id + 1,
    }
}
