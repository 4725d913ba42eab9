//! Whole model: the cells of all its tensors, and the state of a training step.
//!
//! A [`LossScaler`] holds one cell per tensor; a [`Step`] walks the corridor for one backward pass
//! after the other and ends in a [`Verdict`](crate::unscale::Verdict).  Both only call the rooms
//! before them: nothing is decided twice.

mod checkpoint;
pub mod device;
mod finding;
mod line;
mod open_visit;
mod run;
pub mod share;
mod state;
mod step;
mod streams;
mod visit;

use core::fmt;

pub use checkpoint::CheckpointError;
pub use open_visit::OpenVisit;
pub use state::State;
pub use step::{Step, StepError};
pub use streams::Streams;
pub use visit::{Purpose, Visit};

use crate::{
    policy::{Cell, Certificate, Config},
    statistics::Histogram,
    unscale::Place,
};

/// Loss scales for a model of up to `CELLS` tensors, without a heap.
///
/// A cell comes into being at its first visit.  Next to 28 bytes per cell, the scaler holds one
/// histogram of 4096 bytes, which every certificate is made from in turn, and the last `CELLS` certificates.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, f16}, policy::Config, scaler::LossScaler, unscale::Verdict};
/// let mut scaler = LossScaler::<8>::new(Config::for_format(Format::BINARY16));
/// let mut step = scaler.begin();
/// let mut narrowed = [f16::ZERO; 2];
/// let gradient = step.loss().apply(&[2.0e-8, -1.0e-6], &mut narrowed)?;
/// assert!(gradient.unscale(|g, inverse| g[0].to_f32() * inverse) > 1.99e-8); // not lost
/// assert_eq!(step.finish(), Verdict::Apply);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LossScaler<const CELLS: usize> {
    state: State,
    cells: [Cell; CELLS],
    log: heapless::Deque<Decision, CELLS>,
}

/// What happened since the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Totals {
    /// Finished steps, skipped ones included.
    pub steps: u64,
    /// Steps whose verdict was not [`Verdict::Apply`](crate::unscale::Verdict::Apply).
    pub skipped: u64,
    /// Visits that were replayed at another scale because they overflowed.
    pub recovered: u64,
    /// Visits that left a certificate, or, under `normal` and `range`, decided.
    pub certificates: u64,
    /// Visits at which more underflowed than twice what the last certificate of their cell promised.
    pub broken: u64,
}

/// One line of the certificate log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The step, counted from 0.
    pub step: u64,
    /// The tensor.
    pub place: Place,
    /// The decision.
    pub certificate: Certificate,
}

impl Totals {
    /// Nothing happened yet.
    pub(crate) const NONE: Self =
        Self { steps: 0, skipped: 0, recovered: 0, certificates: 0, broken: 0 };
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}, {}: {}", self.step, self.place, self.certificate)
    }
}

impl<const CELLS: usize> LossScaler<CELLS> {
    /// Ends the compilation of a scaler without cells, wherever one is made.
    const HAS_CELLS: () =
        assert!(CELLS > 0, "a loss scaler needs a cell for each tensor that is narrowed");

    /// Makes the scaler of a new training run; one without cells does not compile.
    ///
    /// ```compile_fail
    /// use adaloss_core::{format::Format, policy::Config, scaler::LossScaler};
    /// let scaler = LossScaler::<0>::new(Config::for_format(Format::BINARY16));
    /// ```
    pub fn new(config: Config) -> Self {
        const { Self::HAS_CELLS };
        Self { state: State::new(config), cells: [Cell::new(); CELLS], log: heapless::Deque::new() }
    }

    /// Begins a training step: one backward pass, or several that are accumulated.
    ///
    /// With accumulation, visit the loss and the layers once per micro-batch and finish once:
    /// a scale moves between steps only, so that the same values give the same scales however they are split,
    /// and one bad micro-batch discards the whole step.
    pub fn begin(&mut self) -> Step<'_> {
        self.state.begin_with(&mut self.cells, Some(self.log.as_mut_view()))
    }

    /// Returns the configuration.
    pub const fn config(&self) -> &Config {
        self.state.config()
    }

    /// Returns the cell of the loss gradient, or of a layer that was visited.
    pub fn cell(&self, place: Place) -> Option<&Cell> {
        self.state.cell(&self.cells, place)
    }

    /// Returns what happened since the run began.
    pub const fn totals(&self) -> Totals {
        self.state.totals()
    }

    /// Returns the last decisions, at most `CELLS`, the oldest first.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.log.iter()
    }

    /// Returns the histogram of the last visit that measured one.
    pub const fn histogram(&self) -> &Histogram {
        self.state.histogram()
    }

    /// Returns a checksum over the configuration and every cell: equal on two ranks, with all but
    /// certainty, only where their scales and memories are.
    pub fn digest(&self) -> u32 {
        self.state.digest(&self.cells)
    }
}

/// Counts one more if `is_one`; a checkpoint may say any number.
fn count(total: &mut u64, is_one: bool) {
    *total = total.saturating_add(is_one.into());
}
