//! One training step: each tensor is measured, decided, narrowed, and replayed if it overflows.

use core::{convert::Infallible, fmt};

use heapless::deque::DequeView;

use super::{Decision, State};
use crate::{
    apply::Pass,
    format::{Noise, Overflow},
    policy::{
        Cell, Certificate, Operands, Record, Seen, breaks_promise, certify, decide_from_operands,
        decide_join, due, join_target, note, outgoing,
    },
    propagate::{Scaled, common_scale},
    scale::{Scale, Shift},
    statistics::{Histogram, Outcome},
    unscale::{Cause, Place, Unscaled, Verdict},
};

/// A training step under way.
///
/// A visit that ends in an error makes the step unusable, and so does one of which a pass narrowed nothing, or whose
/// passes were over different numbers of values: what left the layer is not a gradient of this step.  The
/// verdict names the place and the [`Cause`].  A step is not mended by visiting the place again; drop it, or finish it, and
/// begin another.  A step that visited nothing, and met no weight gradient, is not usable either.
///
/// What nothing can notice: a pass that narrows other values than it measured, as many of them; one that asks for its
/// counters and casts by itself; a gradient that is not visited; a weight gradient that the step is not told of.
///
/// Several tensors may share a cell in a step, as those of a shared weight do: one scale serves them, and suits the
/// largest.  A step that is dropped counts for nothing.
#[derive(Debug)]
#[must_use = "only a finished step tells whether it is usable"]
pub struct Step<'s> {
    state: &'s mut State,
    cells: &'s mut [Cell],
    log: Log<'s>,
}

/// Where certificates go, if anyone keeps them.
pub(super) type Log<'s> = Option<&'s mut DequeView<Decision>>;

/// What is known of a step before it is finished.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) bad: Option<(Place, Cause)>,
    /// Whether values or sums overflowed or were not finite, as they are where a scale is too large.
    pub(super) overflowed: bool,
    /// Whether there was a visit, here or on a machine that shares the step, or a weight gradient.
    pub(super) has_visited: bool,
    /// Whether cells hold what this step showed.
    pub(super) has_seen: bool,
    pub(super) tiny: u64,
    pub(super) last: Option<Visit>,
    pub(super) streams: Streams,
}

/// Which words stochastic rounding takes: those of a step, a place, a micro-batch, and of the visits of one place in
/// one micro-batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streams {
    micro_batch: u32,
    /// Places that this micro-batch visited, each a bit that those share which are 256 apart.
    visited: [u64; 4],
    /// Visits of this micro-batch at a place that was visited before.
    again: u32,
}

impl Streams {
    /// Returns the stream of the next visit.
    fn next(&mut self, step: u64, place: Place) -> u32 {
        let place = match place {
            Place::Loss => 0,
            Place::Layer(id) | Place::Weight(id) => (id as u32).wrapping_add(1),
        };
        let bit = 1 << (place % 64);
        let visited = &mut self.visited[(place / 64 % 4) as usize];
        let mut again = 0;
        if *visited & bit != 0 {
            self.again = self.again.wrapping_add(1);
            again = self.again;
        }
        *visited |= bit;
        let parts = [step as u32, place, self.micro_batch, again];
        parts.into_iter().fold(0, |stream: u32, part| fmix32(stream.wrapping_add(part)))
    }
}

/// The last lines of MurmurHash3 (Austin Appleby, public domain): different words become different words.
const fn fmix32(mut word: u32) -> u32 {
    word ^= word >> 16;
    word = word.wrapping_mul(0x85eb_ca6b);
    word ^= word >> 13;
    word = word.wrapping_mul(0xc2b2_ae35);
    word ^ (word >> 16)
}

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
    /// How often the pass was called: once, and once more for a replay, a first visit or a certificate.
    pub passes: u8,
    /// Whether more underflowed than twice what the last certificate of the cell promised.
    pub broke_promise: bool,
}

/// The branches of a join, each with the shift to the scale that all are brought to.
#[derive(Debug)]
pub struct Branches<'a, T> {
    branches: &'a [Scaled<&'a T>],
    common: Scale,
}

impl<'a, T> Branches<'a, T> {
    /// Returns the branches in the caller's order, each with the shift it has to be widened by.
    ///
    /// [`shifted`](crate::propagate::shifted) applies the shift in f32.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a T, Shift)> + 'a {
        let common = self.common;
        self.branches.iter().map(move |branch| {
            let (value, scale) = branch.into_parts();
            (value, common / scale)
        })
    }

    /// Returns the branches with the scales they carry.
    pub const fn scaled(&self) -> &'a [Scaled<&'a T>] {
        self.branches
    }
}

/// Whether, and from what, a visit may decide.
enum Evidence<'a> {
    /// From the results alone.
    Results,
    /// From the operands of the layer as well.
    Operands(&'a mut dyn FnMut() -> Operands),
    /// As one of these two, for the gradient of a loss.
    Loss(Option<&'a mut dyn FnMut() -> Operands>),
    /// From the results of a join: picks the greatest scale of a branch that the sum fits.
    Join(&'a dyn Fn(Fits<'_>) -> Option<Scale>),
}

/// Tells whether a tensor fits its format at a scale.
type Fits<'a> = &'a dyn Fn(Scale) -> bool;

impl<'s> Step<'s> {
    pub(super) const fn new(state: &'s mut State, cells: &'s mut [Cell], log: Log<'s>) -> Self {
        Self { state, cells, log }
    }

    /// Narrows the gradient of the loss, which arrives in f32 and unscaled, through its cell.
    ///
    /// `pass` is called once; once more at the first visit, where it overflows, and for a certificate.
    /// Under `normal` and `range` the gradient is only carried into the format; those decide with
    /// [`loss_with`](Self::loss_with).
    ///
    /// # Errors
    ///
    /// What `pass` returned; the cell is as it was, and the step is not usable.
    pub fn loss<T: ?Sized, U, E>(
        &mut self,
        gradient: &T,
        mut pass: impl FnMut(&T, &mut Pass<'_>) -> Result<U, E>,
    ) -> Result<Scaled<U>, StepError<E>> {
        let run = |p: &mut Pass<'_>| pass(gradient, p);
        self.visit(Place::Loss, Scale::ONE, Evidence::Loss(None), run)
    }

    /// Like [`loss`](Self::loss), for every policy: `operands` describes the gradient where the
    /// policy decides from operands, and is not called otherwise.
    ///
    /// # Errors
    ///
    /// What `pass` returned; the cell is as it was, and the step is not usable.
    pub fn loss_with<T: ?Sized, U, E>(
        &mut self,
        gradient: &T,
        mut operands: impl FnMut(&T) -> Operands,
        mut pass: impl FnMut(&T, &mut Pass<'_>) -> Result<U, E>,
    ) -> Result<Scaled<U>, StepError<E>> {
        let mut operands = || operands(gradient);
        let evidence = Evidence::Loss(Some(&mut operands));
        self.visit(Place::Loss, Scale::ONE, evidence, |p| pass(gradient, p))
    }

    /// Narrows the gradient of a further loss, which arrives in f32 and unscaled, through cell `id`: where several
    /// losses are summed, each gradient gets a scale of its own.
    ///
    /// Under policies that serve the whole model it leaves with the scale of the loss.  Under `normal` and
    /// `range` it is only carried into the format, or decided from `operands` as in
    /// [`loss_with`](Self::loss_with).
    ///
    /// # Errors
    ///
    /// `id` is no cell of this scaler, or what `pass` returned; the cell is as it was, and the step is not usable.
    ///
    /// # Examples
    ///
    /// ```
    /// # use adaloss_core::{apply::Pass, format::{Format, f16}, policy::Config, scaler::LossScaler};
    /// # let narrow = |values: &[f32; 1], pass: &mut Pass<'_>| {
    /// #     let mut narrowed = [f16::ZERO];
    /// #     pass.apply(values, &mut narrowed).map(|()| narrowed)
    /// # };
    /// let mut scaler = LossScaler::<4>::new(Config::for_format(Format::BINARY16));
    /// let mut step = scaler.begin();
    /// let classes = step.loss(&[0.1_f32], narrow)?;
    /// let pascals = step.loss_at(0, &[3.0e8_f32], narrow)?; // a squared error in pascals
    /// assert!(pascals.scale() < classes.scale());
    /// # let _verdict = step.finish();
    /// # Ok::<(), adaloss_core::scaler::StepError<adaloss_core::apply::ApplyError>>(())
    /// ```
    pub fn loss_at<T: ?Sized, U, E>(
        &mut self,
        id: usize,
        gradient: &T,
        mut pass: impl FnMut(&T, &mut Pass<'_>) -> Result<U, E>,
    ) -> Result<Scaled<U>, StepError<E>> {
        let run = |p: &mut Pass<'_>| pass(gradient, p);
        self.visit(Place::Layer(id), Scale::ONE, Evidence::Loss(None), run)
    }

    /// Like [`loss_at`](Self::loss_at), for every policy, as [`loss_with`](Self::loss_with) is.
    ///
    /// # Errors
    ///
    /// `id` is no cell of this scaler, or what `pass` returned; the cell is as it was, and the step is not usable.
    pub fn loss_at_with<T: ?Sized, U, E>(
        &mut self,
        id: usize,
        gradient: &T,
        mut operands: impl FnMut(&T) -> Operands,
        mut pass: impl FnMut(&T, &mut Pass<'_>) -> Result<U, E>,
    ) -> Result<Scaled<U>, StepError<E>> {
        let mut operands = || operands(gradient);
        let evidence = Evidence::Loss(Some(&mut operands));
        self.visit(Place::Layer(id), Scale::ONE, evidence, |p| pass(gradient, p))
    }

    /// Takes a gradient back through a layer, whose f32 results are narrowed through cell `id`.
    ///
    /// `pass` computes the same f32 results each time it is called: once, and once more at the first
    /// visit, where they overflow, and for a certificate.  No f32 copy of the results has to be kept.
    /// Under `normal` and `range` the scale is carried through; those decide with
    /// [`layer_with`](Self::layer_with).
    ///
    /// # Errors
    ///
    /// `id` is no cell of this scaler, or what `pass` returned; the cell is as it was, and the step is not usable.
    pub fn layer<T, U, E>(
        &mut self,
        id: usize,
        gradient: &Scaled<T>,
        mut pass: impl FnMut(&T, &mut Pass<'_>) -> Result<U, E>,
    ) -> Result<Scaled<U>, StepError<E>> {
        let (value, incoming) = gradient.as_ref().into_parts();
        self.tracing(gradient.origin(), |step| {
            step.visit(Place::Layer(id), incoming, Evidence::Results, |p| pass(value, p))
        })
    }

    /// Like [`layer`](Self::layer), for every policy: `operands` describes the incoming gradient
    /// and the weight where the policy decides from operands, and is not called otherwise.
    ///
    /// # Errors
    ///
    /// `id` is no cell of this scaler, or what `pass` returned; the cell is as it was, and the step is not usable.
    pub fn layer_with<T, U, E>(
        &mut self,
        id: usize,
        gradient: &Scaled<T>,
        mut operands: impl FnMut(&T) -> Operands,
        mut pass: impl FnMut(&T, &mut Pass<'_>) -> Result<U, E>,
    ) -> Result<Scaled<U>, StepError<E>> {
        let (value, incoming) = gradient.as_ref().into_parts();
        let mut operands = || operands(value);
        let evidence = Evidence::Operands(&mut operands);
        self.tracing(gradient.origin(), |step| {
            step.visit(Place::Layer(id), incoming, evidence, |p| pass(value, p))
        })
    }

    /// Sums branches in f32, in the order given, and narrows the sum through cell `id`.
    ///
    /// `pass` widens each branch, shifts it as [`Branches::iter`] says, and sums.  Under `normal`
    /// and `range` the sum leaves at the greatest of the branches' scales that it fits, as in the
    /// authors' code, which looks at the branches and not at their sum.
    ///
    /// # Errors
    ///
    /// There are fewer than two branches, `id` is no cell of this scaler, or what `pass` returned;
    /// the cell is as it was, and the step is not usable.
    ///
    /// # Examples
    ///
    /// A residual block: what comes back through its layer meets what comes back around it.
    ///
    /// ```
    /// use adaloss_core::{
    ///     apply::{ApplyError, Pass}, format::{Element, Format, f16}, policy::Config,
    ///     propagate::shifted, scaler::LossScaler,
    /// };
    ///
    /// fn narrow(results: [f32; 2], pass: &mut Pass<'_>) -> Result<[f16; 2], ApplyError> {
    ///     let mut narrowed = [f16::ZERO; 2];
    ///     pass.apply(&results, &mut narrowed).map(|()| narrowed)
    /// }
    ///
    /// let (layer, block) = (0, 1); // a cell for each tensor that is narrowed
    /// let mut scaler = LossScaler::<2>::new(Config::for_format(Format::BINARY16));
    /// let mut step = scaler.begin();
    /// let around = step.loss(&[1.0e-9, -2.0e-9], |&results, pass| narrow(results, pass))?;
    /// let through = step.layer(layer, &around, |g, pass| {
    ///     narrow(g.map(|g| 0.001 * g.widen()), pass)
    /// })?;
    /// assert_ne!(around.scale(), through.scale());
    ///
    /// let sum = step.join(block, &[around.as_ref(), through.as_ref()], |branches, pass| {
    ///     let mut results = [0.0; 2];
    ///     for (gradient, shift) in branches.iter() {
    ///         for (result, g) in results.iter_mut().zip(gradient) {
    ///             *result += shifted(g.widen(), shift);
    ///         }
    ///     }
    ///     narrow(results, pass)
    /// })?;
    /// let first = sum.unscale(|g, inverse| g[0].widen() * inverse);
    /// assert!((first - 1.001e-9).abs() < 1e-12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join<T, U, E>(
        &mut self,
        id: usize,
        branches: &[Scaled<&T>],
        mut pass: impl FnMut(&Branches<'_, T>, &mut Pass<'_>) -> Result<U, E>,
    ) -> Result<Scaled<U>, StepError<E>> {
        let scales = branches.iter().map(Scaled::scale);
        self.tracing(branches.iter().filter_map(Scaled::origin), |step| {
            step.join_scales(id, scales, |p| {
                let common = p.incoming();
                pass(&Branches { branches, common }, p)
            })
        })
    }

    /// Like [`join`](Self::join), for runtimes that keep branches and their scales apart.
    ///
    /// `pass` sums the branches at the scale [`Pass::incoming`], the least of theirs.
    ///
    /// # Errors
    ///
    /// There are fewer than two scales, `id` is no cell of this scaler, or what `pass` returned;
    /// the cell is as it was, and the step is not usable.
    pub fn join_scales<U, E>(
        &mut self,
        id: usize,
        scales: impl Iterator<Item = Scale> + Clone,
        pass: impl FnMut(&mut Pass<'_>) -> Result<U, E>,
    ) -> Result<Scaled<U>, StepError<E>> {
        let count = scales.clone().count();
        let common = match common_scale(scales.clone()) {
            Some(common) if count >= 2 => common,
            _ => {
                self.reject(Place::Layer(id), Cause::Failed);
                return Err(StepError::Branches { id, count });
            }
        };
        let pick = |fits: Fits<'_>| join_target(scales.clone(), fits);
        self.visit(Place::Layer(id), common, Evidence::Join(&pick), pass)
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
    /// # use adaloss_core::{apply::ApplyError, format::{Element, Format, f16}, policy::Config, scaler::LossScaler};
    /// # use adaloss_core::unscale::{Unscaled, Verdict};
    /// # let mut scaler = LossScaler::<1>::new(Config::for_format(Format::BINARY16));
    /// # let mut step = scaler.begin();
    /// # let gradient = step.loss(&[1.0_f32; 2], |values, pass| {
    /// #     let mut narrowed = [f16::ZERO; 2];
    /// #     pass.apply(values, &mut narrowed).map(|()| narrowed)
    /// # })?;
    /// let input = [3.0e38_f32, 2.0];
    /// let weight_gradient = step.unscale(0, &gradient, |g, inverse| {
    ///     let sums = [g[0].widen() * input[0] + g[1].widen() * input[0], g[1].widen() * input[1]];
    ///     let unscaled = sums.map(|sum| sum * inverse);
    ///     (unscaled, Unscaled::of(&unscaled))
    /// });
    /// assert_eq!(weight_gradient, [f32::INFINITY, 2.0]);
    /// assert!(matches!(step.finish(), Verdict::Skip { .. }));
    /// # Ok::<(), adaloss_core::scaler::StepError<ApplyError>>(())
    /// ```
    pub fn unscale<T, U>(
        &mut self,
        id: usize,
        gradient: &Scaled<T>,
        operation: impl FnOnce(&T, f32) -> (U, Unscaled),
    ) -> U {
        let (weight_gradient, met) = gradient.unscale(operation);
        self.tracing(gradient.origin(), |step| step.unscaled(id, &met));
        weight_gradient
    }

    /// Does something with gradients that left the cells of `origins`, and takes note if its f32 sums are the first
    /// values of the step that are not finite.
    fn tracing<R>(
        &mut self,
        origins: impl IntoIterator<Item = Place>,
        operation: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let was_usable = self.first_bad().is_none();
        let result = operation(self);
        if was_usable && matches!(self.first_bad(), Some((_, Cause::NonFinite))) {
            origins.into_iter().for_each(|origin| self.sums_overflowed(origin));
        }
        result
    }

    /// Takes note that f32 sums of values that left the cell of `origin` overflowed, although the values are
    /// finite: its scale is lower in the next step.
    ///
    /// [`unscale`](Self::unscale), [`layer`](Self::layer) and [`join`](Self::join) do this themselves, for gradients
    /// whose [`origin`](Scaled::origin) is known.  A place without a cell is passed over, and so are all under policies
    /// that do not follow maxima.
    pub fn sums_overflowed(&mut self, origin: Place) {
        let follows = self.state.config.policy().follows_maxima();
        let is_in_use = self.state.cell(self.cells, origin).is_some();
        if follows
            && is_in_use
            && let Ok(cell) = self.state.cell_mut::<Infallible>(self.cells, origin)
        {
            cell.sums_overflowed();
            self.state.progress.has_seen = true;
        }
    }

    /// Takes note of what unscaling the weight gradient of layer `id` met, as [`unscale`](Self::unscale) does:
    /// for a weight gradient that is computed elsewhere.
    pub fn unscaled(&mut self, id: usize, met: &Unscaled) {
        let progress = &mut self.state.progress;
        progress.tiny = progress.tiny.saturating_add(met.tiny);
        progress.has_visited |= met.elements > 0;
        if met.nonfinite > 0 {
            self.reject(Place::Weight(id), Cause::NonFinite);
        }
    }

    /// Takes note of something unusable that the caller found: a loss that is not finite, or a
    /// gradient that went bad after it was unscaled.
    ///
    /// The first place that was not usable stays the one that is named.
    pub fn reject(&mut self, place: Place, cause: Cause) {
        let progress = &mut self.state.progress;
        progress.bad.get_or_insert((place, cause));
        progress.overflowed |= cause.is_numeric();
    }

    /// Says which micro-batch of the step the next visits belong to, for stochastic rounding: then a micro-batch
    /// is rounded alike whether it is the fourth on one machine or the only one on the fourth.
    ///
    /// Without this all visits belong to micro-batch 0.  Two visits of a place in one micro-batch, as a shared weight has
    /// them, round with different words.  No other rounding depends on it.
    ///
    /// The [stream](Noise::stream) of a visit is `h(h(h(h(step) + place) + index) + again)`, modulo 2^32: `step` counts
    /// finished steps, `place` is 0 for the loss and 1 more than its number for a cell, and `again` is 0 unless
    /// the place was visited in this micro-batch before, and then counts such visits from 1.  Places 256 apart
    /// are one in this.  `h` is `fmix32` of MurmurHash3.
    pub fn micro_batch(&mut self, index: u32) {
        self.state.progress.streams = Streams { micro_batch: index, ..Streams::default() };
    }

    /// Returns what happened at the last visit.
    pub const fn last(&self) -> Option<&Visit> {
        self.state.last()
    }

    /// Returns the histogram of the last visit that measured one.
    pub const fn histogram(&self) -> &Histogram {
        self.state.histogram()
    }

    /// Returns where the step stopped being usable, so that the rest may be left out.
    pub const fn first_bad(&self) -> Option<(Place, Cause)> {
        self.state.progress.bad
    }

    /// Returns how many weight gradients so far were rounded because they are below 2^-126.
    pub const fn tiny(&self) -> u64 {
        self.state.progress.tiny
    }

    /// Ends the step: decides the scales of the next one, and judges this one.
    pub fn finish(self) -> Verdict {
        self.finish_with(|_, _| {})
    }

    /// Ends the step, and shows what it left behind in each cell that was visited, the loss first: records
    /// from which [`repeat`](crate::policy::repeat) has every scale again.
    pub fn finish_with(self, mut record: impl FnMut(Place, Record)) -> Verdict {
        self.state.finish(self.cells, &mut record)
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
    pub fn set_seen(&mut self, place: Place, seen: Seen) -> Result<(), StepError<Infallible>> {
        if let Place::Weight(id) = place {
            return Err(StepError::NoCell { id, cells: self.cells.len() });
        }
        let follows = self.state.config.policy().follows_maxima();
        let cell = self.state.cell_mut(self.cells, place)?;
        if follows {
            cell.set_seen(seen);
            self.state.progress.has_seen = true;
            self.state.progress.has_visited |= seen.visited;
        }
        Ok(())
    }

    /// Visits one tensor, and takes note if that failed.
    fn visit<U, E>(
        &mut self,
        place: Place,
        incoming: Scale,
        evidence: Evidence<'_>,
        pass: impl FnMut(&mut Pass<'_>) -> Result<U, E>,
    ) -> Result<Scaled<U>, StepError<E>> {
        let left = self.try_visit(place, incoming, evidence, pass);
        if left.is_err() {
            self.reject(place, Cause::Failed);
        }
        left
    }

    /// Visits one tensor: narrow, take note, narrow once more if that is needed, certify if that is due.
    fn try_visit<U, E>(
        &mut self,
        place: Place,
        incoming: Scale,
        evidence: Evidence<'_>,
        mut pass: impl FnMut(&mut Pass<'_>) -> Result<U, E>,
    ) -> Result<Scaled<U>, StepError<E>> {
        let config = self.state.config;
        let (policy, narrowing) = (config.policy(), config.narrowing());
        // The cell is written back at the end, so that a pass that fails changes nothing.
        let mut cell = self.state.cell_before(self.cells, place)?;
        let step = self.state.totals.steps;
        let stream = self.state.progress.streams.next(step, place);
        let noise = Noise { seed: config.seed(), stream };
        let (mut passes, mut over) = (0, Over::default());
        let certifies = policy.follows_maxima() && due(&config, &cell).is_some();
        if certifies {
            let histogram = &mut self.state.histogram;
            histogram.clear();
            let mut scratch = Outcome::EMPTY;
            passes += 1;
            let mut measuring = Pass::measuring(narrowing, incoming, &mut scratch, histogram);
            pass(&mut measuring).map_err(StepError::Pass)?;
            let is_counted = measuring.is_counted();
            over.pass(is_counted, histogram.elements());
        }
        let mut store = |leaving: Scale| {
            passes += 1;
            let mut outcome = Outcome::EMPTY;
            let mut storing = Pass::storing(narrowing, noise, incoming, leaving, &mut outcome);
            let value = pass(&mut storing).map_err(StepError::Pass)?;
            let is_counted = storing.is_counted();
            over.pass(is_counted, outcome.elements);
            Ok((value, outcome))
        };

        let mut leaving = incoming;
        let (mut certificate, mut joined) = (None, None);
        if policy.follows_maxima() {
            leaving = outgoing(&config, &cell, incoming);
        } else if policy.is_whole_model() && matches!(evidence, Evidence::Loss(_)) {
            leaving = self.state.loss.scale();
        } else if policy.wants_operands() {
            let is_due = due(&config, &cell).is_some();
            match evidence {
                Evidence::Operands(operands) | Evidence::Loss(Some(operands)) => {
                    if is_due {
                        let operands = operands();
                        certificate =
                            Some(decide_from_operands(&config, &operands, incoming, &mut cell));
                    }
                    leaving = outgoing(&config, &cell, incoming);
                }
                Evidence::Join(pick) => joined = Some(pick),
                Evidence::Results | Evidence::Loss(None) => {}
            }
        }
        let (mut value, mut outcome) = store(leaving)?;
        if let Some(pick) = joined {
            let decision = decide_join(&config, &outcome, incoming, pick, &mut cell);
            certificate = Some(decision);
            if decision.scale != leaving {
                leaving = decision.scale;
                (value, outcome) = store(leaving)?;
            }
        }
        let was_calibrated = cell.is_calibrated();
        let again = note(&config, &outcome, incoming, &mut cell);
        if let Some(scale) = again {
            leaving = scale;
            (value, outcome) = store(leaving)?;
        }
        let replayed = again.is_some() && (was_calibrated || policy.wants_operands());
        let broke_promise = breaks_promise(&config, &outcome, &cell);
        if certifies {
            certificate = Some(certify(&config, &self.state.histogram, leaving, &mut cell));
        }

        self.state.progress.overflowed |= outcome.overflow > 0;
        if let Some(cause) = over.mistake {
            self.reject(place, cause);
        }
        if outcome.nonfinite > 0 {
            self.reject(place, Cause::NonFinite);
        } else if outcome.overflow > 0 && narrowing.overflow == Overflow::Infinity {
            self.reject(place, Cause::Overflow);
        }
        let visit = Visit {
            place,
            incoming,
            outgoing: leaving,
            outcome,
            certificate,
            replayed,
            passes,
            broke_promise,
        };
        *self.state.cell_mut(self.cells, place)? = cell;
        self.state.progress.has_seen = true;
        self.keep(visit);
        Ok(Scaled::from_cell(value, leaving, place))
    }

    /// Keeps what a visit leaves behind.
    fn keep(&mut self, visit: Visit) {
        self.state.progress.last = Some(visit);
        self.state.progress.has_visited = true;
        if let (Some(decision), Some(log)) = (self.state.record(), &mut self.log) {
            if log.is_full() {
                log.pop_front();
            }
            // There is room now, unless there is none at all.
            let _ = log.push_back(decision);
        }
    }
}

/// How many values the passes of one visit were over.
#[derive(Default)]
struct Over {
    elements: Option<u64>,
    mistake: Option<Cause>,
}

impl Over {
    /// Takes note of a pass.
    fn pass(&mut self, is_counted: bool, elements: u64) {
        let is_same = *self.elements.get_or_insert(elements) == elements;
        if !is_counted {
            self.mistake.get_or_insert(Cause::Uncounted);
        } else if !is_same {
            self.mistake.get_or_insert(Cause::Length);
        }
    }
}

/// A visit that could not be made: the step is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError<E> {
    /// The caller's pass failed.
    Pass(E),
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
}

impl<E: fmt::Display> fmt::Display for StepError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(error) => error.fmt(f),
            Self::NoCell { id, cells } => {
                write!(f, "cell {id} was asked for and the scaler has {cells}")
            }
            Self::Branches { id, count } => {
                write!(f, "the join of cell {id} has {count} branches instead of two or more")
            }
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for StepError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Pass(error) => Some(error),
            Self::NoCell { .. } | Self::Branches { .. } => None,
        }
    }
}
