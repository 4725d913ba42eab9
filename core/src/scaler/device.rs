//! A scaler that lives in the memory of a device, which decides while the host only says what is next.
//!
//! The host asks for the passes of a visit in a fixed order, [`Purpose`] by purpose, without knowing which of them are needed:
//! [`DeviceState::advance`] tells the device, and the operation of a pass that is not needed does nothing.  What happened is
//! written to [`Line`]s, which the host reads once a step, or after several.
//!
//! The decisions are those of [`Step`](super::Step), by the same code.

pub use super::line::{Entry, Line, StepEnd};

use super::{
    Purpose, State,
    finding::Finding,
    run::RunState,
    share::{Ending, Share},
    visit::{Kind, ScaleSet, VisitState},
};
use crate::{
    policy::{Cell, Config, Operands},
    scale::Scale,
    statistics::{Histogram, Outcome},
    unscale::{Cause, LossSum, Place, Unscaled, Verdict},
};

/// What a device keeps of a run, next to its cells: plain data, every byte defined.
///
/// [`halted`](Self::halted) tells that nothing is done any more: a step ended in [`Verdict::Stop`], a weight is not finite, or
/// a loss was not computed.  Until the host [goes on](Self::go_on), every call leaves everything as it is and asks for no pass,
/// so that steps that were asked for meanwhile have no effect.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::Format, policy::{Cell, Config}, statistics::{Histogram, Outcome}};
/// use adaloss_core::scaler::{Purpose, device::{Asked, DeviceState, Entry, Line, Opening}};
/// use adaloss_core::unscale::Place;
/// let config = Config::for_format(Format::BINARY16);
/// let (mut state, mut cells) = (DeviceState::new(&config), [Cell::new(); 4]);
/// let (mut outcome, mut histogram) = (Outcome::EMPTY, Histogram::new(config.narrowing()));
///
/// let opening = Opening { place: Place::Loss, elements: 2, stream: 0 };
/// let opens = Asked { opening: Some(opening), purpose: Some(Purpose::Measure) };
/// let scales = state.advance(&config, &cells, &opens, [], &mut outcome, &mut histogram);
/// assert!(scales.is_some()); // a first visit is measured
/// histogram.observe(&[2.0e-8, -1.0e-6], scales.unwrap()[0]);
/// // ... `Purpose::Store` and `Purpose::Replay` follow, and `close`:
/// let mut line = Line::EMPTY;
/// state.close(&config, &mut cells, [], &mut outcome, &histogram, (7, &mut line));
/// assert_eq!(line.entry(7), Some(Entry::Refused)); // they did not follow
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DeviceState {
    run: RunState,
    /// The sum of the squares of the step's weight gradients.
    square_norm: f64,
    /// What makes the step unusable unless a visit or a weight gradient did so before.
    pending: Finding,
    /// Why nothing is done any more.
    halted: Finding,
    /// The number of the operation of the step that was done last.
    nth: u64,
    /// Steps that reached the weights.
    updates: u32,
    reserved: u32,
}

/// What a visit begins with, as far as the host knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The tensor.
    pub place: Place,
    /// Its elements.
    pub elements: u64,
    /// The stream of its random words; see [`Streams`](super::Streams).
    pub stream: u32,
}

/// What the host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// A visit that begins; `None` goes on with the one under way.
    pub opening: Option<Opening>,
    /// What the next pass is for; `None` asks whether the operands are to be described.
    pub purpose: Option<Purpose>,
}

/// What an operation counted that has no cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Evidence {
    /// A weight gradient was computed and unscaled.
    Gradient {
        /// Names it in the verdict, as [`Step::unscale`](super::Step::unscale) does.
        id: usize,
        /// The cell of the gradient that it was computed from, if it has one.
        origin: Option<Place>,
        /// How many elements it has.
        elements: u64,
        /// What was counted.
        met: Unscaled,
    },
    /// A weight gradient, or the next value of a running mean, as an update would take it.
    Squares {
        /// Names it in the verdict.
        id: usize,
        /// The sum of its squares.
        sum: f64,
        /// Whether it is one of the gradients whose common norm is clipped.
        is_gradient: bool,
    },
    /// A weight was narrowed for the coming step.
    Weight {
        /// Names it where nothing is done any more.
        id: usize,
        /// How many elements it has.
        elements: u64,
        /// Whether an overflow saturates.
        saturates: bool,
        /// What was counted.
        outcome: Outcome,
    },
    /// A weight that is used in f32.
    WeightSquares {
        /// Names it where nothing is done any more.
        id: usize,
        /// The sum of its squares.
        sum: f64,
    },
}

const _: () = assert!(size_of::<DeviceState>() == DeviceState::BYTES);

impl DeviceState {
    /// The size in memory.
    pub const BYTES: usize = RunState::BYTES + 2 * 8 + 2 * 16 + 4 + 4;

    /// Makes the state of a new training run.
    pub fn new(config: &Config) -> Self {
        Self {
            run: RunState::new(config),
            square_norm: 0.0,
            pending: Finding::NOTHING,
            halted: Finding::NOTHING,
            nth: 0,
            updates: 0,
            reserved: 0,
        }
    }

    /// Takes a scaler over to a device, which updated the weights `updates` times and did `nth` operations; a step under way is
    /// left.
    pub fn of(state: &State, updates: u32, nth: u64) -> Self {
        let State { config, run, .. } = state;
        let mut device = Self { updates, nth, ..Self::new(config) };
        device.run.restore(run.totals, run.skipped_in_row, run.in_use as usize, run.loss);
        device
    }

    /// Takes the scaler back from a device; a step under way is left.
    pub fn to_state(&self, config: Config) -> State {
        let Self { run, .. } = self;
        let mut state = State::new(config);
        state.run.restore(run.totals, run.skipped_in_row, run.in_use as usize, run.loss);
        state
    }

    /// Returns how many steps reached the weights.
    pub const fn updates(&self) -> u32 {
        self.updates
    }

    /// Returns why nothing is done any more.
    pub fn halted(&self) -> Option<(Place, Cause)> {
        self.halted.get()
    }

    /// Does what is asked for again, from the operation behind the one with this number on.
    pub const fn go_on(&mut self, nth: u64) {
        (self.halted, self.nth) = (Finding::NOTHING, nth);
    }

    /// Takes the number of an operation, which a device does before each of them.
    ///
    /// The operations of a step are numbered one after the other, from 1, so that a graph of a step is one of any step.
    /// Where a number is missing the device left an operation out, and nothing is done any more: a verdict would mean
    /// nothing.
    pub fn numbered(&mut self, nth: u64) -> &mut Self {
        if nth != self.nth.wrapping_add(1) && self.halted().is_none() {
            self.halted = Finding::new(Place::Loss, Cause::Uncounted);
        }
        self.nth = nth;
        self
    }

    /// Begins a step; one that was begun before and not finished is as if it had never been.
    pub fn begin(&mut self, cells: &mut [Cell]) {
        if self.halted().is_none() {
            self.run.begin(cells);
            (self.square_norm, self.pending) = (0.0, Finding::NOTHING);
        }
    }

    /// Takes what the pass before counted, and clears it; returns the scales that the values of the coming pass arrive and
    /// leave with, or `None` where what is asked for is not to be done.
    ///
    /// `sources` are the scales that the visit's values were computed from: none for a loss, that of a gradient for a
    /// layer, those of the branches for a join.  They are read where a visit begins.
    pub fn advance(
        &mut self,
        config: &Config,
        cells: &[Cell],
        asked: &Asked,
        sources: impl IntoIterator<Item = Scale>,
        outcome: &mut Outcome,
        histogram: &mut Histogram,
    ) -> Option<[Scale; 2]> {
        if self.halted().is_some() {
            return None;
        }
        match &asked.opening {
            Some(opening) => self.open(config, cells, opening, sources)?,
            None => self.run.visit.take_counts(outcome, histogram),
        }
        *outcome = Outcome::EMPTY;
        if !self.run.visit.is_open() {
            return None;
        }
        let Some(purpose) = asked.purpose else {
            return self.run.visit.wants_operands(config).then(|| self.run.visit.scales());
        };
        if !self.run.next_pass_for(config, histogram, purpose) {
            return None;
        }
        if purpose == Purpose::Measure {
            histogram.clear();
        }
        Some(self.run.visit.scales())
    }

    /// Opens a visit; where there is no such cell the step is not usable.
    fn open(
        &mut self,
        config: &Config,
        cells: &[Cell],
        opening: &Opening,
        sources: impl IntoIterator<Item = Scale>,
    ) -> Option<()> {
        let (scales, count, least) = ScaleSet::collect(sources);
        let Opening { place, elements, stream } = *opening;
        let (kind, incoming) = match count {
            0 => (Kind::Loss, Scale::ONE),
            1 => (Kind::Layer, least),
            _ => (Kind::Join, least),
        };
        self.run.open(config, cells, (place, kind), (incoming, scales), stream).ok()?;
        self.run.visit.expect(elements);
        Some(())
    }

    /// Describes the operands of the visit under way, where they are wanted.
    pub fn describe(&mut self, config: &Config, operands: &Operands) {
        if self.halted().is_none() {
            self.run.visit.describe(config, operands);
        }
    }

    /// Finishes the visit under way, whose passes were made: writes its cell back, and a line with the number given; returns
    /// the scale that the values carry.
    ///
    /// `origins` are the cells whose gradients the values were computed from.
    pub fn close(
        &mut self,
        config: &Config,
        cells: &mut [Cell],
        origins: impl IntoIterator<Item = Place>,
        outcome: &mut Outcome,
        histogram: &Histogram,
        (serial, line): (u64, &mut Line),
    ) -> Scale {
        if self.halted().is_some() {
            *line = Line::halted(serial, self.halted);
            return Scale::ONE;
        }
        let run = &mut self.run;
        run.visit.take_counts(outcome, histogram);
        *outcome = Outcome::EMPTY;
        run.visit.move_on(config, histogram, run.loss.scale(), VisitState::decide_join);
        let Ok((_, scale)) = run.close(config, cells, origins, histogram) else {
            run.settle_open();
            *line = Line::refused(serial);
            return Scale::ONE;
        };
        *line = run.visit.visit().map_or(Line::EMPTY, |visit| Line::visit(serial, &visit));
        scale
    }

    /// Takes note of what an operation counted; `other` is the state of a scaler that shares the weights, as those of two
    /// losses do: what only the weights show is said of neither where one of them found out by itself.
    pub fn judge(
        &mut self,
        config: &Config,
        cells: &mut [Cell],
        evidence: &Evidence,
        other: Option<&Self>,
    ) {
        if self.halted().is_some() {
            return;
        }
        match *evidence {
            Evidence::Gradient { id, origin, elements, met } => {
                self.run.tracing(config, cells, origin, |run| run.unscaled(id, &met));
                if let Some(cause) = missing(met.elements, elements) {
                    self.run.reject(Place::Weight(id), cause);
                }
            }
            Evidence::Squares { id, sum, is_gradient } => {
                if !sum.is_finite() {
                    self.suspect(Finding::new(Place::Weight(id), Cause::NonFinite), other);
                }
                if is_gradient {
                    self.square_norm += sum;
                }
            }
            Evidence::Weight { id, elements, saturates, outcome } => {
                let cause = match missing(outcome.elements, elements) {
                    Some(cause) => cause,
                    None if outcome.nonfinite > 0 => Cause::NonFinite,
                    None if outcome.overflow > 0 && !saturates => Cause::Overflow,
                    None => return,
                };
                self.halted = Finding::new(Place::Weight(id), cause);
            }
            Evidence::WeightSquares { id, sum } => {
                if !sum.is_finite() {
                    self.halted = Finding::new(Place::Weight(id), Cause::NonFinite);
                }
            }
        }
    }

    /// Takes note of what a loss of so many rows added up to, and writes a line with the number given.
    ///
    /// Alone, a scaler is told before the backward pass; two of them, after both of theirs, each with the `other`'s state.
    pub fn judge_loss(
        &mut self,
        rows: u64,
        sum: &LossSum,
        other: Option<&Self>,
        (serial, line): (u64, &mut Line),
    ) {
        if self.halted().is_some() {
            *line = Line::halted(serial, self.halted);
            return;
        }
        *line = Line::loss(serial, sum);
        if let Some(cause) = missing(sum.rows, rows) {
            self.halted = Finding::new(Place::Loss, cause);
        } else if !sum.loss.is_finite() {
            match other {
                None => self.run.reject(Place::Loss, Cause::NonFinite),
                Some(_) => self.suspect(Finding::new(Place::Loss, Cause::NonFinite), other),
            }
        }
    }

    /// Takes note of something that a visit or a weight gradient may have shown before.
    ///
    /// The loss comes first; of weights the last one is named, which the backward pass comes to first.
    fn suspect(&mut self, finding: Finding, other: Option<&Self>) {
        let is_known = !self.run.is_usable() || other.is_some_and(|other| !other.run.is_usable());
        let is_of_loss = self.pending.is_some() && self.pending.place() == Place::Loss;
        if !is_known && !is_of_loss {
            self.pending = finding;
        }
    }

    /// Lends the step under way to what ranks agree by, after its last operation and before [`finish`](Self::finish).
    ///
    /// A rank on which nothing is done any more takes part: then nothing is done on any rank.
    pub const fn share<'s>(&'s mut self, config: &'s Config, cells: &'s mut [Cell]) -> Share<'s> {
        let Self { run, pending, halted, .. } = self;
        Share::new(config, run, cells, Some(Ending { pending, halted }))
    }

    /// Decides the scale of a layer's cell for the next step, as [`finish`](Self::finish) does of all of them: for devices whose
    /// threads take a cell each, in any order, and call that without cells when all are done.
    ///
    /// # Examples
    ///
    /// ```
    /// # use adaloss_core::{format::Format, policy::{Cell, Config}, scaler::device::{DeviceState, Line}};
    /// let config = Config::for_format(Format::BINARY16);
    /// let (mut state, mut cells) = (DeviceState::new(&config), [Cell::new(); 4]);
    /// let (mut other, mut others) = (state, cells);
    /// let conclusion = state.finish(&config, &mut cells, true, (1, &mut Line::EMPTY.clone()));
    /// (0..).zip(&mut others).for_each(|(id, cell)| other.finish_cell(&config, id, cell));
    /// assert_eq!(other.finish(&config, &mut [], true, (1, &mut Line::EMPTY.clone())), conclusion);
    /// assert_eq!(others, cells);
    /// ```
    pub fn finish_cell(&self, config: &Config, id: usize, cell: &mut Cell) {
        if self.halted().is_none() {
            self.run.finish_cell(config, id, cell);
        }
    }

    /// Ends a step: decides the scales of the next one, judges this one, and writes a line with the number given.
    ///
    /// `requires` is what another scaler says of the same step that shares the weights.
    pub fn finish(
        &mut self,
        config: &Config,
        cells: &mut [Cell],
        requires: bool,
        (serial, line): (u64, &mut Line),
    ) -> Conclusion {
        self.nth = 0;
        if self.halted().is_some() {
            *line = Line::halted(serial, self.halted);
            return Conclusion { applies: false, updates: self.updates, square_norm: 0.0 };
        }
        if let Some((place, cause)) = self.pending.get() {
            self.run.reject(place, cause);
        }
        let (square_norm, tiny) = (self.square_norm, self.run.tiny);
        let verdict = self.run.finish(config, cells);
        (self.square_norm, self.pending) = (0.0, Finding::NOTHING);
        if let Verdict::Stop { layer, cause, .. } = verdict {
            self.halted = Finding::new(layer, cause);
        }
        *line =
            Line::step(serial, &StepEnd { verdict, square_norm, tiny, totals: self.run.totals });
        let applies = verdict == Verdict::Apply && requires;
        self.updates = self.updates.saturating_add(applies.into());
        Conclusion { applies, updates: self.updates, square_norm }
    }
}

/// What follows from the end of a step, for the optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conclusion {
    /// Whether the gradients are to reach the weights.
    pub applies: bool,
    /// How many steps reached the weights, this one included.
    pub updates: u32,
    /// The sum of the squares of all weight gradients, as far as they were shown.
    pub square_norm: f64,
}

/// Returns what is wrong where other elements were counted than there are.
const fn missing(counted: u64, elements: u64) -> Option<Cause> {
    if counted == elements {
        None
    } else if counted == 0 {
        Some(Cause::Uncounted)
    } else {
        Some(Cause::Length)
    }
}
