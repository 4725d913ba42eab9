//! One training step: each tensor is measured, decided, narrowed, and replayed if it overflows.

use core::fmt;

use heapless::deque::DequeView;

use super::{
    Decision, OpenVisit, State, Streams, Visit,
    open_visit::Origins,
    share::Share,
    visit::{Kind, ScaleSet},
};
use crate::{
    apply::ApplyError,
    policy::{Cell, Record, Seen},
    propagate::Scaled,
    scale::Scale,
    statistics::Histogram,
    unscale::{Cause, Place, Unscaled, Verdict},
};

/// A training step under way.
///
/// Each tensor is visited: [`loss`](Self::loss), [`layer`](Self::layer) and [`join`](Self::join) open a visit, whose
/// passes are pulled until there are no more.  One visit is open at a time.
///
/// A visit that is left before it was finished makes the step unusable, and so does one of which a pass narrowed
/// nothing, or whose passes were over different numbers of values: what left the layer is not a gradient of this step.
/// The verdict names the place and the [`Cause`].  A step is not mended by visiting the place again; drop it, or finish
/// it, and begin another.  A step that visited nothing, and met no weight gradient, is not usable either.
///
/// What nothing can notice: a pass that narrows other values than it measured, as many of them; one that asks for its
/// counters and casts by itself; a gradient that is not visited; a weight gradient that the step is not told of.
///
/// Several tensors may share a cell in a step, as those of a shared weight do: one scale serves them, and suits the
/// largest.  A step that is dropped counts for nothing.
#[derive(Debug)]
#[must_use = "only a finished step tells whether it is usable"]
pub struct Step<'s> {
    pub(super) state: &'s mut State,
    pub(super) cells: &'s mut [Cell],
    log: Log<'s>,
}

/// Where certificates go, if anyone keeps them.
pub(super) type Log<'s> = Option<&'s mut DequeView<Decision>>;

impl<'s> Step<'s> {
    pub(super) const fn new(state: &'s mut State, cells: &'s mut [Cell], log: Log<'s>) -> Self {
        Self { state, cells, log }
    }

    /// Visits the gradient of the loss, which arrives in f32 and unscaled.
    ///
    /// Under `normal` and `range` the gradient is only carried into the format, unless it is
    /// [described](OpenVisit::describe).
    pub fn loss(&mut self) -> OpenVisit<'_> {
        // The loss has a cell in every scaler.
        let _ = self.open(Place::Loss, Kind::Loss, (Scale::ONE, ScaleSet::NONE));
        self.visit(Origins::One(None))
    }

    /// Visits the gradient of a further loss, which arrives in f32 and unscaled, through cell `id`: where several
    /// losses are summed, each gradient gets a scale of its own.
    ///
    /// Under policies that serve the whole model it leaves with the scale of the loss.  Under `normal` and
    /// `range` it is only carried into the format, unless it is [described](OpenVisit::describe).
    ///
    /// # Errors
    ///
    /// `id` is no cell of this scaler; the step is not usable.
    ///
    /// # Examples
    ///
    /// ```
    /// # use adaloss_core::{format::{Format, f16}, policy::Config, scaler::LossScaler};
    /// let mut scaler = LossScaler::<4>::new(Config::for_format(Format::BINARY16));
    /// let mut step = scaler.begin();
    /// let (mut first, mut second) = ([f16::ZERO], [f16::ZERO]);
    /// let classes = step.loss().apply(&[0.1], &mut first)?;
    /// let pascals = step.loss_at(0)?.apply(&[3.0e8], &mut second)?; // a squared error in pascals
    /// assert!(pascals.scale() < classes.scale());
    /// # let _verdict = step.finish();
    /// # Ok::<(), adaloss_core::scaler::StepError>(())
    /// ```
    pub fn loss_at(&mut self, id: usize) -> Result<OpenVisit<'_>, StepError> {
        self.open(Place::Layer(id), Kind::Loss, (Scale::ONE, ScaleSet::NONE))?;
        Ok(self.visit(Origins::One(None)))
    }

    /// Visits the f32 results of a layer, through which a gradient is taken back, in cell `id`: one cell for each
    /// tensor that is narrowed.
    ///
    /// `gradient` is the gradient that the results are computed from, or the scale that they carry.  Under `normal` and `range`
    /// the scale is carried through, unless the operands are [described](OpenVisit::describe).
    ///
    /// # Errors
    ///
    /// `id` is no cell of this scaler; the step is not usable.
    pub fn layer(
        &mut self,
        id: usize,
        gradient: impl Into<Scaled<()>>,
    ) -> Result<OpenVisit<'_>, StepError> {
        let gradient = gradient.into();
        self.open(Place::Layer(id), Kind::Layer, (gradient.scale(), ScaleSet::NONE))?;
        Ok(self.visit(Origins::One(gradient.origin())))
    }

    /// Visits the sum of branches, in cell `id`.
    ///
    /// Each pass is given the sum in f32, in the order given, of the branches brought to the scale [`Pass::incoming`](crate::apply::Pass::incoming), the least of
    /// theirs: [`shifted`](crate::propagate::shifted) does that.  Under `normal`
    /// and `range` the sum leaves at the greatest of the branches' scales that it fits, as in the
    /// authors' code, which looks at the branches and not at their sum.
    ///
    /// # Errors
    ///
    /// There are fewer than two branches, or `id` is no cell of this scaler; the step is not usable.
    ///
    /// # Examples
    ///
    /// A residual block: what comes back through its layer meets what comes back around it.
    ///
    /// ```
    /// use adaloss_core::{format::{Element, Format, f16}, policy::Config, scaler::LossScaler};
    /// use adaloss_core::propagate::shifted;
    ///
    /// let (layer, block) = (0, 1); // a cell for each tensor that is narrowed
    /// let mut scaler = LossScaler::<2>::new(Config::for_format(Format::BINARY16));
    /// let mut step = scaler.begin();
    /// let [mut a, mut b, mut c] = [[f16::ZERO; 2]; 3];
    /// let around = step.loss().apply(&[1.0e-9, -2.0e-9], &mut a)?;
    /// let g = around.scaled();
    /// let results = [0.001 * g[0].widen(), 0.001 * g[1].widen()];
    /// let through = step.layer(layer, &around)?.apply(&results, &mut b)?;
    /// assert_ne!(around.scale(), through.scale());
    ///
    /// let branches = [around.tag(), through.tag()];
    /// let mut visit = step.join(block, &branches)?;
    /// while let Some(mut pass) = visit.next_pass() {
    ///     let mut sum = [0.0; 2];
    ///     for branch in [around, through] {
    ///         for (sum, g) in sum.iter_mut().zip(*branch.scaled()) {
    ///             *sum += shifted(g.widen(), pass.incoming() / branch.scale());
    ///         }
    ///     }
    ///     pass.apply(&sum, &mut c)?;
    /// }
    /// let sum = visit.finish(c)?;
    /// let first = sum.unscale(|g, inverse| g[0].widen() * inverse);
    /// assert!((first - 1.001e-9).abs() < 1e-12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join<'v>(
        &'v mut self,
        id: usize,
        branches: &'v [Scaled<()>],
    ) -> Result<OpenVisit<'v>, StepError> {
        self.open_join(id, branches.iter().map(Scaled::scale))?;
        Ok(self.visit(Origins::Branches(branches)).of_join())
    }

    /// Like [`join`](Self::join), for runtimes that keep the branches' scales alone.
    ///
    /// # Errors
    ///
    /// There are fewer than two scales, or `id` is no cell of this scaler; the step is not usable.
    pub fn join_scales(
        &mut self,
        id: usize,
        scales: impl Iterator<Item = Scale>,
    ) -> Result<OpenVisit<'_>, StepError> {
        self.open_join(id, scales)?;
        Ok(self.visit(Origins::One(None)).of_join())
    }

    /// Returns the visit that was opened and not finished, for callers that cannot hold an [`OpenVisit`] from one
    /// pass to the next.
    ///
    /// It no longer knows where the gradients came from; see [`sums_overflowed`](Self::sums_overflowed).
    pub fn open_visit(&mut self) -> Option<OpenVisit<'_>> {
        let visit = &self.state.run.visit;
        let is_join = visit.is_open().then_some(visit.is_join())?;
        let open = self.visit(Origins::One(None));
        Some(if is_join { open.of_join() } else { open })
    }

    /// Computes the weight gradient of layer `id` from a scaled gradient, in f32 and unscaled, and takes note of
    /// what that met.
    ///
    /// `operation` gets the gradient and the exact factor `2^-K` that its f32 sums have to be multiplied by; it
    /// returns the weight gradient and what [`Unscaled::of`] or [`Unscaled::record`] says of it.  A weight
    /// gradient that is not finite makes the step unusable: a sum of finite products can overflow f32, and
    /// nothing but this shows it.
    ///
    /// `id` names the weight in the verdict: that of the layer's cell, or any other number for a first layer,
    /// whose input gradient nobody wants and which has no cell.
    ///
    /// # Examples
    ///
    /// ```
    /// # use adaloss_core::{format::{Element, Format, f16}, policy::Config, scaler::LossScaler};
    /// # use adaloss_core::unscale::{Unscaled, Verdict};
    /// # let mut scaler = LossScaler::<1>::new(Config::for_format(Format::BINARY16));
    /// # let (mut step, mut narrowed) = (scaler.begin(), [f16::ZERO; 2]);
    /// # let gradient = step.loss().apply(&[1.0; 2], &mut narrowed)?;
    /// let input = [3.0e38_f32, 2.0];
    /// let weight_gradient = step.unscale(0, &gradient, |g, inverse| {
    ///     let sums = [g[0].widen() * input[0] + g[1].widen() * input[0], g[1].widen() * input[1]];
    ///     let unscaled = sums.map(|sum| sum * inverse);
    ///     (unscaled, Unscaled::of(&unscaled))
    /// });
    /// assert_eq!(weight_gradient, [f32::INFINITY, 2.0]);
    /// assert!(matches!(step.finish(), Verdict::Skip { .. }));
    /// # Ok::<(), adaloss_core::scaler::StepError>(())
    /// ```
    pub fn unscale<T, U>(
        &mut self,
        id: usize,
        gradient: &Scaled<T>,
        operation: impl FnOnce(&T, f32) -> (U, Unscaled),
    ) -> U {
        let (weight_gradient, met) = gradient.unscale(operation);
        let State { config, run, .. } = &mut *self.state;
        let origin = gradient.origin();
        run.tracing(config, self.cells, origin, |run| run.unscaled(id, &met));
        weight_gradient
    }

    /// Takes note that f32 sums of values that left the cell of `origin` overflowed, although the values are
    /// finite: its scale is lower in the next step.
    ///
    /// [`unscale`](Self::unscale), [`layer`](Self::layer) and [`join`](Self::join) do this themselves, for gradients
    /// whose [`origin`](Scaled::origin) is known.  A place without a cell is passed over, and so are all under policies
    /// that do not follow maxima.
    pub fn sums_overflowed(&mut self, origin: Place) {
        let State { config, run, .. } = &mut *self.state;
        run.sums_overflowed(config, self.cells, origin);
    }

    /// Takes note of what unscaling the weight gradient of layer `id` met, as [`unscale`](Self::unscale) does:
    /// for a weight gradient that is computed elsewhere.
    pub fn unscaled(&mut self, id: usize, met: &Unscaled) {
        self.state.run.unscaled(id, met);
    }

    /// Takes note of something unusable that the caller found: a loss that is not finite, or a
    /// gradient that went bad after it was unscaled.
    ///
    /// The first place that was not usable stays the one that is named.
    pub fn reject(&mut self, place: Place, cause: Cause) {
        self.state.run.reject(place, cause);
    }

    /// Says which micro-batch of the step the next visits belong to, for stochastic rounding: then a micro-batch
    /// is rounded alike whether it is the fourth on one machine or the only one on the fourth.
    ///
    /// Without this all visits belong to micro-batch 0.  Two visits of a place in one micro-batch, as a shared weight has
    /// them, round with different words.  No other rounding depends on it.
    ///
    /// The [stream](crate::format::Noise::stream) of a visit is `h(h(h(h(step) + place) + index) + again)`, modulo 2^32: `step` counts
    /// finished steps, `place` is 0 for the loss and 1 more than its number for a cell, and `again` is 0 unless
    /// the place was visited in this micro-batch before, and then counts such visits from 1.  Places 256 apart
    /// are one in this.  `h` is `fmix32` of MurmurHash3.
    pub fn micro_batch(&mut self, index: u32) {
        self.state.streams = Streams::of_micro_batch(index);
    }

    /// Returns what happened at the last visit.
    pub fn last(&self) -> Option<Visit> {
        self.state.last()
    }

    /// Returns the histogram of the last visit that measured one.
    pub const fn histogram(&self) -> &Histogram {
        self.state.histogram()
    }

    /// Returns where the step stopped being usable, so that the rest may be left out.
    ///
    /// That is also where a visit was left before it was finished.
    pub fn first_bad(&self) -> Option<(Place, Cause)> {
        self.state.run.first_bad()
    }

    /// Returns how many weight gradients so far were rounded because they are below 2^-126.
    pub const fn tiny(&self) -> u64 {
        self.state.run.tiny
    }

    /// Ends the step: decides the scales of the next one, and judges this one.
    pub fn finish(self) -> Verdict {
        self.state.finish(self.cells)
    }

    /// Returns what finishing this step now leaves behind in a cell: a record from which
    /// [`repeat`](crate::policy::repeat) has the scale again.
    ///
    /// `None` of a tensor that was not visited, and under policies that do not follow maxima.
    pub fn record(&self, place: Place) -> Option<Record> {
        self.state.record(self.cells, place)
    }

    /// Returns what a tensor showed in this step so far; [`Seen::NOTHING`] of one that was not visited.
    ///
    /// Machines that share a step exchange these, [merge](Seen::merge) them, and
    /// [set](Self::set_seen) the same everywhere before they finish.
    pub fn seen(&self, place: Place) -> Seen {
        self.state.cell(self.cells, place).map_or(Seen::NOTHING, Cell::seen)
    }

    /// Takes what a tensor showed on all machines instead of what it showed here.
    ///
    /// # Errors
    ///
    /// The place is no cell of this scaler.  Under policies that do not follow maxima nothing happens.
    pub fn set_seen(&mut self, place: Place, seen: Seen) -> Result<(), StepError> {
        let State { config, run, .. } = &mut *self.state;
        run.set_seen(config, self.cells, place, seen)
    }

    /// Lends the step to what ranks agree by, after its last visit and before [`finish`](Self::finish).
    pub const fn share(&mut self) -> Share<'_> {
        let State { config, run, .. } = &mut *self.state;
        Share::new(config, run, self.cells, None)
    }

    /// Lends the step to the visit that was just opened.
    fn visit<'v>(&'v mut self, origins: Origins<'v>) -> OpenVisit<'v> {
        let log = self.log.as_deref_mut();
        OpenVisit::new(Step { state: self.state, cells: self.cells, log }, origins)
    }

    /// Opens a visit; takes note if that cannot be done.
    fn open(
        &mut self,
        place: Place,
        kind: Kind,
        scales: (Scale, ScaleSet),
    ) -> Result<(), StepError> {
        let State { config, run, streams, .. } = &mut *self.state;
        let mut next = *streams;
        let stream = next.next(run.totals.steps, place);
        run.open(config, self.cells, (place, kind), scales, stream)?;
        *streams = next;
        Ok(())
    }

    fn open_join(
        &mut self,
        id: usize,
        scales: impl Iterator<Item = Scale>,
    ) -> Result<(), StepError> {
        let (set, count, least) = ScaleSet::collect(scales);
        if count < 2 {
            self.state.run.settle_open();
            self.reject(Place::Layer(id), Cause::Failed);
            return Err(StepError::Branches { id, count });
        }
        self.open(Place::Layer(id), Kind::Join, (least, set))
    }

    /// Keeps the certificate of the visit that was just finished.
    pub(super) fn log(&mut self) {
        if let (Some(log), Some(decision)) = (&mut self.log, self.state.run.decision()) {
            if log.is_full() {
                log.pop_front();
            }
            // There is room now, unless there is none at all.
            let _ = log.push_back(decision);
        }
    }
}

/// A visit that could not be made: the step is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// The values cannot be narrowed as asked.
    Apply(ApplyError),
    /// The scaler has no such cell.
    NoCell {
        /// What was asked for.
        id: usize,
        /// How many cells there are.
        cells: usize,
    },
    /// A join has at least two branches.
    Branches {
        /// The join's cell.
        id: usize,
        /// How many branches there were.
        count: usize,
    },
    /// A visit was to be finished before its last pass.
    Unfinished {
        /// The tensor.
        place: Place,
    },
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply(error) => error.fmt(f),
            Self::NoCell { id, cells } => {
                write!(f, "cell {id} was asked for and the scaler has {cells}")
            }
            Self::Branches { id, count } => {
                write!(f, "the join of cell {id} has {count} branches instead of two or more")
            }
            Self::Unfinished { place } => {
                write!(
                    f,
                    "the visit of {place} has passes left: ask for the next one until there is none"
                )
            }
        }
    }
}

impl core::error::Error for StepError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Apply(error) => Some(error),
            Self::NoCell { .. } | Self::Branches { .. } | Self::Unfinished { .. } => None,
        }
    }
}
