//! What a scaler keeps of a run, apart from the memory of its cells.

use super::{
    Decision, Step, StepError, Totals, checkpoint, count,
    step::{Log, Progress},
    visit::{Visit, VisitState},
};
use crate::{
    policy::{self, Cell, Config, Record, Seen},
    statistics::Histogram,
    unscale::{Cause, Place, Verdict},
};

/// A loss scaler whose cells lie in memory of the caller: for a model whose number of tensors is
/// known only when it runs, and for callers that speak C.
///
/// [`LossScaler`](super::LossScaler) is this with an array of cells and a log of certificates; here
/// every call is given the cells, always the same ones.  What they hold at first does not matter: a
/// cell comes into being at its first visit.  Certificates are in [`Step::last`].
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, f16}, policy::{Cell, Config}, scaler::State, unscale::Verdict};
/// let mut cells = vec![Cell::new(); 3]; // as many as the model has layers
/// let mut state = State::new(Config::for_format(Format::BINARY16));
/// let mut step = state.begin(&mut cells);
/// let mut narrowed = [f16::ZERO; 2];
/// let gradient = step.loss().apply(&[2.0e-8, -1.0e-6], &mut narrowed)?;
/// assert!(gradient.scale().log2() > 10);
/// assert_eq!(step.finish(), Verdict::Apply);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct State {
    pub(super) config: Config,
    pub(super) loss: Cell,
    pub(super) totals: Totals,
    pub(super) skipped_in_row: u32,
    /// Cells that were visited, and those before them.
    pub(super) in_use: usize,
    pub(super) progress: Progress,
    pub(super) histogram: Histogram,
}

impl State {
    /// Makes the state of a new training run.
    ///
    /// Inlined, so that it is made where it is to be and no copy lies on the stack.
    #[inline(always)]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            loss: config.cell(),
            totals: Totals::default(),
            skipped_in_row: 0,
            in_use: 0,
            progress: Progress::default(),
            histogram: Histogram::new(config.narrowing()),
        }
    }

    /// Begins a training step; see [`LossScaler::begin`](super::LossScaler::begin).
    ///
    /// A step that was begun before and not finished is as if it had never been, but for the first scales of cells
    /// and the count of promises.
    pub fn begin<'s>(&'s mut self, cells: &'s mut [Cell]) -> Step<'s> {
        self.begin_with(cells, None)
    }

    /// Goes on with the step that was begun last, for callers that cannot hold a [`Step`] from one
    /// tensor to the next.
    ///
    /// Before the first step, and after one was finished, this begins one.
    pub fn resume<'s>(&'s mut self, cells: &'s mut [Cell]) -> Step<'s> {
        Step::new(self, cells, None)
    }

    pub(super) fn begin_with<'s>(&'s mut self, cells: &'s mut [Cell], log: Log<'s>) -> Step<'s> {
        let has_seen = self.progress.has_seen;
        self.progress = Progress::default();
        if has_seen {
            // A step that was dropped shows nothing.
            self.visited_mut(cells).for_each(|cell| cell.set_seen(Seen::NOTHING));
        }
        Step::new(self, cells, log)
    }

    /// Returns the configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the cell of the loss gradient, or of a layer that was visited.
    pub fn cell<'c>(&'c self, cells: &'c [Cell], place: Place) -> Option<&'c Cell> {
        match place {
            Place::Loss => Some(&self.loss),
            Place::Layer(id) => self.in_use(cells).get(id),
            Place::Weight(_) => None,
        }
    }

    /// Returns what happened since the run began.
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns what happened at the last visit of the step under way.
    pub fn last(&self) -> Option<Visit> {
        self.progress.visit.as_ref().and_then(VisitState::visit)
    }

    /// Returns what finishing the step under way now leaves behind in a cell; see [`Step::record`].
    pub fn record(&self, cells: &[Cell], place: Place) -> Option<Record> {
        let mut cell = *self.cell(cells, place)?;
        let is_recorded = self.config.policy().follows_maxima() && cell.seen().visited;
        is_recorded.then(|| policy::finish(&self.config, &mut cell))
    }

    /// Returns the histogram of the last visit that measured one.
    pub const fn histogram(&self) -> &Histogram {
        &self.histogram
    }

    /// Returns a checksum over the configuration and every cell: equal on two ranks, with all but
    /// certainty, only where their scales and memories are.
    pub fn digest(&self, cells: &[Cell]) -> u32 {
        let mut digest = checkpoint::CRC.digest();
        digest.update(&self.config.to_bytes());
        digest.update(&self.loss.to_bytes());
        self.in_use(cells).iter().for_each(|cell| digest.update(&cell.to_bytes()));
        digest.finalize()
    }

    /// Returns the cells that were visited, and those before them.
    pub(super) fn in_use<'c>(&self, cells: &'c [Cell]) -> &'c [Cell] {
        cells.get(..self.in_use).unwrap_or(cells)
    }

    /// Returns the loss's cell and those of layers that were visited, and those before them.
    fn visited_mut<'c>(&'c mut self, cells: &'c mut [Cell]) -> impl Iterator<Item = &'c mut Cell> {
        core::iter::once(&mut self.loss).chain(cells.iter_mut().take(self.in_use))
    }

    /// Returns the cell of a place as a visit finds it, the new one of a run before its first.
    pub(super) fn cell_before(&self, cells: &[Cell], place: Place) -> Result<Cell, StepError> {
        let (Place::Layer(id) | Place::Weight(id)) = place else { return Ok(self.loss) };
        let cell = cells.get(id).ok_or(StepError::NoCell { id, cells: cells.len() })?;
        Ok(if id < self.in_use { *cell } else { self.config.cell() })
    }

    /// Returns the cell of a place, made at its first visit.
    pub(super) fn cell_mut<'c>(
        &'c mut self,
        cells: &'c mut [Cell],
        place: Place,
    ) -> Result<&'c mut Cell, StepError> {
        let id = match place {
            Place::Loss => return Ok(&mut self.loss),
            Place::Layer(id) | Place::Weight(id) => id,
        };
        let capacity = cells.len();
        if id >= self.in_use
            && let Some(new) = cells.get_mut(self.in_use..=id)
        {
            new.fill(self.config.cell());
            self.in_use = id + 1;
        }
        cells.get_mut(id).ok_or(StepError::NoCell { id, cells: capacity })
    }

    /// Counts a visit; returns its line of the log, if it decided.
    pub(super) fn count_visit(&mut self) -> Option<Decision> {
        let visit = self.last()?;
        count(&mut self.totals.recovered, visit.replayed);
        count(&mut self.totals.certificates, visit.certificate.is_some());
        count(&mut self.totals.broken, visit.broke_promise);
        visit.certificate.map(|certificate| Decision {
            step: self.totals.steps,
            place: visit.place,
            certificate,
        })
    }

    /// Ends a step: moves the scales, and counts.
    pub(super) fn finish(&mut self, cells: &mut [Cell]) -> Verdict {
        let Progress { overflowed, has_visited, .. } = self.progress;
        let mut bad = self.progress.first_bad();
        self.progress = Progress::default();
        if !has_visited {
            bad.get_or_insert((Place::Loss, Cause::Nothing));
        }
        if self.config.policy().follows_maxima() {
            let config = self.config;
            for cell in self.visited_mut(cells) {
                if cell.seen() != Seen::NOTHING {
                    policy::finish(&config, cell);
                }
            }
        }
        // A mistake of the caller's says nothing of the scale.
        if overflowed || bad.is_none() {
            policy::step(&self.config, !overflowed, &mut self.loss);
        }
        count(&mut self.totals.steps, true);
        let Some((layer, cause)) = bad else {
            self.skipped_in_row = 0;
            return Verdict::Apply;
        };
        count(&mut self.totals.skipped, true);
        self.skipped_in_row += 1;
        if self.skipped_in_row < self.config.max_skips() {
            Verdict::Skip { layer, cause }
        } else {
            let skipped = core::mem::take(&mut self.skipped_in_row);
            Verdict::Stop { layer, cause, skipped }
        }
    }
}
