//! One visit of a tensor: its passes are pulled, one after another, until none is left.

use super::{
    State, Step, StepError,
    step::{ScaleSet, Streams},
};
use crate::{
    apply::{Counts, Pass},
    format::{Element, Noise, Overflow},
    policy::{
        Cell, Certificate, Config, Operands, breaks_promise, certify, decide_from_operands,
        decide_join, due, join_target, note, outgoing,
    },
    propagate::Scaled,
    scale::Scale,
    statistics::{Histogram, Outcome},
    unscale::{Cause, Place},
};

/// What happened at one visit of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The tensor.
    pub place: Place,
    /// The scale that its f32 values carried.
    pub incoming: Scale,
    /// The scale that it left with.
    pub outgoing: Scale,
    /// What narrowing did, after a replay.
    pub outcome: Outcome,
    /// The certificate for `outgoing`, or the decision, if one was due.
    pub certificate: Option<Certificate>,
    /// Whether the tensor overflowed and was replayed.
    pub replayed: bool,
    /// How many passes there were: one, and one more for a replay, a first visit or a certificate.
    pub passes: u8,
    /// Whether more underflowed than twice what the last certificate of the cell promised.
    pub broke_promise: bool,
}

/// A visit under way: hands out the passes over one tensor.
///
/// [`next_pass`](Self::next_pass) is called until it returns `None`, and each pass is applied to the same f32
/// values: one pass, and one more where a certificate is due, at a first visit, and where the values overflow.
/// [`finish`](Self::finish) then ties what was narrowed to its scale.
///
/// A visit that is left before that, because a kernel failed, say, stays open: the next visit of the step, and its
/// finish, find it and reject the step with the place and [`Cause::Failed`]; the cell is as it was.  So does a pass that was handed out and
/// not applied, with [`Cause::Uncounted`], and one over another number of values, with [`Cause::Length`].
///
/// # Examples
///
/// A kernel that computes its f32 results, twice the gradient, again in each pass, so that no copy of them is kept:
///
/// ```
/// use adaloss_core::{format::{Element, Format, f16}, policy::Config, scaler::LossScaler};
///
/// let mut scaler = LossScaler::<1>::new(Config::for_format(Format::BINARY16));
/// let mut step = scaler.begin();
/// let mut narrowed = [[f16::ZERO; 2]; 2];
/// let [first, second] = &mut narrowed;
/// let gradient = step.loss().apply(&[2.0e-8, -1.0e-6], first)?;
///
/// let mut visit = step.layer(0, &gradient)?;
/// while let Some(mut pass) = visit.next_pass() {
///     for (g, to) in gradient.scaled().iter().zip(second.chunks_mut(1)) {
///         pass.apply(&[2.0 * g.widen()], to)?;
///     }
/// }
/// let gradient = visit.finish(&second[..])?;
/// assert!((gradient.unscale(|g, inverse| g[1].widen() * inverse) + 2.0e-6).abs() < 1.0e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a visit that is not finished makes the step unusable"]
pub struct OpenVisit<'v> {
    step: Step<'v>,
    place: Place,
    origins: Origins<'v>,
}

/// The cells whose gradients the values were computed from, as far as they are known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origins<'v> {
    One(Option<Place>),
    Branches(&'v [Scaled<()>]),
}

/// What a step keeps of a visit: of the one that is under way, or of the last one that was finished.
#[derive(Clone, Copy, Debug)]
pub(super) struct VisitState {
    place: Place,
    incoming: Scale,
    kind: Kind,
    noise: Noise,
    /// The cell as the visit will leave it; the one in memory stays as it was until then.
    cell: Cell,
    certifies: bool,
    /// Whether the step was usable before it: the first place that was not is the one that is named.
    was_usable: bool,
    stage: Stage,
    /// The scale of the pass that stores, the last one of them in the end.
    outgoing: Scale,
    certificate: Option<Certificate>,
    replayed: bool,
    passes: u8,
    broke_promise: bool,
    counts: Counts,
    /// How many values the passes were over.
    elements: Option<u64>,
    mistake: Option<Cause>,
}

/// Whose gradient a visit is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A loss: the scale of the whole model, where there is one, is multiplied in here.
    Loss,
    /// A layer, of which operands may be described.
    Layer,
    /// A join of branches.
    Join(Join),
}

/// What is known of the branches of a join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Join {
    /// Their scales, of which `normal` and `range` pick one.
    scales: ScaleSet,
    /// Decides the scale of the join: here, so that programs without joins link nothing of it.
    decide: fn(&mut VisitState, &Config, ScaleSet) -> Stage,
}

impl Join {
    pub(super) fn of(scales: ScaleSet) -> Self {
        Self { scales, decide: VisitState::decide_join }
    }
}

/// The pass that was handed out last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// None so far.
    Opened,
    /// One that measures, for a certificate.
    Measuring,
    /// One that stores at the scale that the cell had.
    Storing,
    /// One that stores a join at the scale that it fits.
    Joining,
    /// One that stores at the scale that the outcome of the one before asks for.
    Replaying,
    /// There are no more.
    Complete,
    /// The visit is finished.
    Finished,
}

impl VisitState {
    /// Opens the visit of a place: written where the step keeps it, so that no copy of it lies on the stack.
    pub(super) fn open(
        state: &mut State,
        cells: &[Cell],
        place: Place,
        incoming: Scale,
        kind: Kind,
    ) -> Result<(), StepError> {
        let config = state.config;
        let cell = state.cell_before(cells, place)?;
        let stream = Streams::next(&mut state.progress.streams, state.totals.steps, place);
        state.progress.visit = Some(Self {
            place,
            incoming,
            kind,
            noise: Noise { seed: config.seed(), stream },
            cell,
            certifies: config.policy().follows_maxima() && due(&config, &cell).is_some(),
            was_usable: state.progress.bad.is_none(),
            stage: Stage::Opened,
            outgoing: incoming,
            certificate: None,
            replayed: false,
            passes: 0,
            broke_promise: false,
            counts: Counts::NONE,
            elements: None,
            mistake: None,
        });
        Ok(())
    }

    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Finished)
    }

    pub(super) const fn place(&self) -> Place {
        self.place
    }

    /// Returns what happened, once the visit is finished.
    pub(super) const fn visit(&self) -> Option<Visit> {
        if self.is_open() {
            return None;
        }
        Some(Visit {
            place: self.place,
            incoming: self.incoming,
            outgoing: self.outgoing,
            outcome: self.counts.outcome,
            certificate: self.certificate,
            replayed: self.replayed,
            passes: self.passes,
            broke_promise: self.broke_promise,
        })
    }

    /// Returns what the step is told if the visit is left, unless a place before it was not usable.
    pub(super) fn left(&self) -> Option<(Place, Cause)> {
        self.was_usable.then_some((self.place, Cause::Failed))
    }

    fn wants_operands(&self, config: &Config) -> bool {
        config.policy().wants_operands()
            && !matches!(self.kind, Kind::Join(_))
            && self.stage == Stage::Opened
            && self.certificate.is_none()
            && due(config, &self.cell).is_some()
    }

    /// Returns the scale of the first pass that stores; `whole_model` is that of the loss's cell.
    fn first_scale(&self, config: &Config, whole_model: Scale) -> Scale {
        let policy = config.policy();
        // A layer whose operands were never described carries its scale through, as the paper's
        // layers without weights do.
        let has_factor = self.certificate.is_some() || self.cell.is_calibrated();
        if policy.is_whole_model() && matches!(self.kind, Kind::Loss) {
            whole_model
        } else if policy.follows_maxima()
            || policy.wants_operands() && !matches!(self.kind, Kind::Join(_)) && has_factor
        {
            outgoing(config, &self.cell, self.incoming)
        } else {
            self.incoming
        }
    }

    /// Takes note of what the pass counted that was handed out last.
    fn settle(&mut self, histogram: &Histogram) {
        let elements = match self.stage {
            Stage::Opened | Stage::Complete | Stage::Finished => return,
            Stage::Measuring => histogram.elements(),
            Stage::Storing | Stage::Joining | Stage::Replaying => self.counts.outcome.elements,
        };
        let is_same = *self.elements.get_or_insert(elements) == elements;
        if !self.counts.is_counted() {
            self.mistake.get_or_insert(Cause::Uncounted);
        } else if !is_same {
            self.mistake.get_or_insert(Cause::Length);
        }
    }

    /// Returns what the next pass is for.
    fn next_stage(&mut self, config: &Config, whole_model: Scale) -> Stage {
        match self.stage {
            Stage::Opened if self.certifies => Stage::Measuring,
            Stage::Opened | Stage::Measuring => {
                self.outgoing = self.first_scale(config, whole_model);
                Stage::Storing
            }
            Stage::Storing => match self.kind {
                Kind::Join(Join { scales, decide }) if config.policy().wants_operands() => {
                    decide(self, config, scales)
                }
                _ => self.note(config),
            },
            Stage::Joining => self.note(config),
            Stage::Replaying | Stage::Complete | Stage::Finished => Stage::Complete,
        }
    }

    fn decide_join(&mut self, config: &Config, scales: ScaleSet) -> Stage {
        let pick = |fits: &dyn Fn(Scale) -> bool| join_target(scales.iter(), fits);
        let outcome = &self.counts.outcome;
        let decision = decide_join(config, outcome, self.incoming, pick, &mut self.cell);
        self.certificate = Some(decision);
        if decision.scale == self.outgoing {
            return self.note(config);
        }
        self.outgoing = decision.scale;
        Stage::Joining
    }

    /// Takes note of what narrowing did, in the cell; narrows once more if that is needed.
    fn note(&mut self, config: &Config) -> Stage {
        let was_calibrated = self.cell.is_calibrated();
        match note(config, &self.counts.outcome, self.incoming, &mut self.cell) {
            Some(scale) => {
                self.outgoing = scale;
                self.replayed = was_calibrated || config.policy().wants_operands();
                Stage::Replaying
            }
            None => Stage::Complete,
        }
    }

    /// Returns the pass that was handed out last, to go on with.
    fn pass<'a>(&'a mut self, config: &Config, histogram: &'a mut Histogram) -> Option<Pass<'a>> {
        let (narrowing, incoming) = (config.narrowing(), self.incoming);
        match self.stage {
            Stage::Opened | Stage::Complete | Stage::Finished => None,
            Stage::Measuring => {
                Some(Pass::measuring(narrowing, incoming, &mut self.counts, histogram))
            }
            Stage::Storing | Stage::Joining | Stage::Replaying => {
                let counts = &mut self.counts;
                Some(Pass::storing(narrowing, self.noise, incoming, self.outgoing, counts))
            }
        }
    }
}

impl<'v> OpenVisit<'v> {
    pub(super) const fn new(step: Step<'v>, place: Place, origins: Origins<'v>) -> Self {
        Self { step, place, origins }
    }

    /// Tells whether the policy decides now from the operands of the layer, so that they are to be
    /// [described](Self::describe) before the first pass.
    ///
    /// Only `normal` and `range` do, and only where a decision is due.  A layer whose operands are never described
    /// carries its scale through; a loss is then carried into the format as it is.
    pub fn wants_operands(&self) -> bool {
        let State { config, progress, .. } = &*self.step.state;
        progress.open().is_some_and(|open| open.wants_operands(config))
    }

    /// Describes the operands of the layer, or the gradient of a loss; passed over where they are not
    /// [wanted](Self::wants_operands).
    pub fn describe(&mut self, operands: &Operands) {
        let State { config, progress, .. } = &mut *self.step.state;
        if let Some(open) = progress.open_mut()
            && open.wants_operands(config)
        {
            let cell = &mut open.cell;
            open.certificate = Some(decide_from_operands(config, operands, open.incoming, cell));
        }
    }

    /// Returns the next pass over the tensor; `None` where the last one has done what it was for.
    pub fn next_pass(&mut self) -> Option<Pass<'_>> {
        let State { config, loss, progress, histogram, .. } = &mut *self.step.state;
        let open = progress.open_mut()?;
        open.settle(histogram);
        let stage = open.next_stage(config, loss.scale());
        open.stage = stage;
        match stage {
            Stage::Complete => return None,
            Stage::Measuring => histogram.clear(),
            _ => {}
        }
        open.counts = Counts::NONE;
        open.passes = open.passes.saturating_add(1);
        open.pass(config, histogram)
    }

    /// Returns the pass under way, for callers that cannot hold one from one part of a tensor to the next; `None`
    /// before the first and after the last.
    pub fn pass(&mut self) -> Option<Pass<'_>> {
        let State { config, progress, histogram, .. } = &mut *self.step.state;
        progress.open_mut()?.pass(config, histogram)
    }

    /// Does what the passes ask for with f32 values that are kept: measures them, and narrows them into `to`.
    ///
    /// # Errors
    ///
    /// The slices differ in length, or `F` is not the encoding of the gradient format.  The cell is as it was, and
    /// the step is not usable.
    pub fn apply<'t, F: Element>(
        mut self,
        from: &[f32],
        to: &'t mut [F],
    ) -> Result<Scaled<&'t [F]>, StepError> {
        while let Some(mut pass) = self.next_pass() {
            pass.apply(from, to).map_err(StepError::Apply)?;
        }
        self.finish(to)
    }

    /// Ends the visit: ties `value`, which the passes stored, to the scale that it carries.
    ///
    /// # Errors
    ///
    /// [`next_pass`](Self::next_pass) did not return `None` yet.  The cell is as it was, and the step is not usable.
    pub fn finish<U>(mut self, value: U) -> Result<Scaled<U>, StepError> {
        let was_usable = self.step.state.progress.bad.is_none();
        let (place, scale) = self.close()?;
        if was_usable && matches!(self.step.first_bad(), Some((_, Cause::NonFinite))) {
            match self.origins {
                Origins::One(origin) => {
                    origin.into_iter().for_each(|at| self.step.sums_overflowed(at));
                }
                Origins::Branches(branches) => branches
                    .iter()
                    .filter_map(Scaled::origin)
                    .for_each(|origin| self.step.sums_overflowed(origin)),
            }
        }
        Ok(Scaled::from_cell(value, scale, place))
    }

    /// Writes the cell back, and keeps what happened; returns whose scale the values carry.
    fn close(&mut self) -> Result<(Place, Scale), StepError> {
        let step = &mut self.step;
        let State { config, progress, histogram, .. } = &mut *step.state;
        let Some(open) = progress.open_mut().filter(|open| open.stage == Stage::Complete) else {
            return Err(StepError::Unfinished { place: self.place });
        };
        open.stage = Stage::Finished;
        let (outcome, place, outgoing) = (open.counts.outcome, open.place, open.outgoing);
        open.broke_promise = breaks_promise(config, &outcome, &open.cell);
        if open.certifies {
            open.certificate = Some(certify(config, histogram, outgoing, &mut open.cell));
        }
        let (cell, mistake) = (open.cell, open.mistake);
        let is_infinite = config.narrowing().overflow == Overflow::Infinity;
        progress.overflowed |= outcome.overflow > 0;
        (progress.has_seen, progress.has_visited) = (true, true);
        if let Some(cause) = mistake {
            step.reject(place, cause);
        }
        if outcome.nonfinite > 0 {
            step.reject(place, Cause::NonFinite);
        } else if outcome.overflow > 0 && is_infinite {
            step.reject(place, Cause::Overflow);
        }
        *step.state.cell_mut(step.cells, place)? = cell;
        step.log();
        Ok((place, outgoing))
    }
}
