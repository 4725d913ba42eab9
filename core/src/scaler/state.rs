//! What a scaler keeps of a run, apart from the memory of its cells.

use super::{Step, Streams, Totals, Visit, checkpoint, run::RunState, step::Log};
use crate::{
    policy::{Cell, Config, Record},
    statistics::Histogram,
    unscale::{Place, Verdict},
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
    pub(super) run: RunState,
    pub(super) streams: Streams,
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
            run: RunState::new(&config),
            streams: Streams::default(),
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
        self.run.begin(cells);
        self.streams = Streams::default();
        Step::new(self, cells, log)
    }

    /// Returns the configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the cell of the loss gradient, or of a layer that was visited.
    pub fn cell<'c>(&'c self, cells: &'c [Cell], place: Place) -> Option<&'c Cell> {
        self.run.cell(cells, place)
    }

    /// Returns what happened since the run began.
    pub const fn totals(&self) -> Totals {
        self.run.totals
    }

    /// Adds the visits that other ranks replayed, and the promises that they saw broken, for a checkpoint of all ranks.
    ///
    /// Both are a rank's own counts; nothing is decided by them.
    pub const fn add_counts(&mut self, recovered: u64, broken: u64) {
        let totals = &mut self.run.totals;
        totals.recovered = totals.recovered.saturating_add(recovered);
        totals.broken = totals.broken.saturating_add(broken);
    }

    /// Returns what happened at the last visit of the step under way.
    pub fn last(&self) -> Option<Visit> {
        self.run.visit.visit()
    }

    /// Returns what finishing the step under way now leaves behind in a cell; see [`Step::record`].
    pub fn record(&self, cells: &[Cell], place: Place) -> Option<Record> {
        self.run.record(&self.config, cells, place)
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
        digest.update(&self.run.loss.to_bytes());
        self.run.in_use(cells).iter().for_each(|cell| digest.update(&cell.to_bytes()));
        digest.finalize()
    }

    /// Ends a step: moves the scales, and counts.
    pub(super) fn finish(&mut self, cells: &mut [Cell]) -> Verdict {
        self.streams = Streams::default();
        self.run.finish(&self.config, cells)
    }
}
