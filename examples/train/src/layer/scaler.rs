//! The scaler of a run, in the memory of the device, and what the host knows of its visits.

use std::fmt;

use adaloss_core::{
    policy::{Cell, Config, Operands},
    scaler::{
        State, Totals, Visit,
        device::{Entry, StepEnd},
        share::message_bytes,
    },
    statistics::Histogram,
    unscale::{Cause, LossSum, Place, Verdict},
};
use adaloss_hal::{
    Memory, Ref,
    group::AgreeError,
    scaler::{Engine, EngineError, Evidence, HasScaler, LeftOut, SharedError},
};
use anyhow::{Context, Error, Result, bail};

use super::{Observer, Vector, complete};
use crate::{
    blocks::Rounded,
    ranks::{Common, Failure, Team},
};

/// Cells of a scaler: as many as the deepest networks here need, of which pre-activation ResNet-164 has 386.
pub const CELLS: usize = 512;

/// The scaler of a run, or of one of its two losses.
///
/// A step asks it for visits and reads what happened at its end, once.
pub struct Scaler<D: Memory> {
    pub(super) engine: Engine<D>,
    /// What the host knows of the visits of the step under way, in their order.
    notes: Vec<Note<D>>,
    watch: Watch,
    /// Whether a step was begun and not read.
    is_under_way: bool,
    /// Steps that were asked for.
    steps: u64,
    /// The step in which each layer's cell left a certificate last, as far as the host knows.
    certified: Vec<Option<u64>>,
    totals: Totals,
    /// What it was when the run was gone on with.
    resumed: Totals,
    /// Whether each tensor that was visited had a scale as ranks agreed last.
    is_calibrated: bool,
    /// Visits of the step under way that another rank counts.
    counted_elsewhere: usize,
    /// What such visits were, since the run was gone on with.
    elsewhere: Since,
}

/// What a rank counts for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Visits that were replayed.
    pub recovered: u64,
    /// Certificates.
    pub certificates: u64,
    /// Promises that were broken.
    pub broken: u64,
}

/// What an observer wants to see of the visits of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    pub(super) results: bool,
    pub(super) operands: bool,
}

/// What the host knows of a visit.
pub(super) struct Note<D: Memory> {
    pub(super) name: String,
    pub(super) elements: usize,
    /// Whether it is the second one of a layer that two losses go back through one by one.
    pub(super) is_again: bool,
    /// The histogram of its f32 results, if the observer is shown it.
    pub(super) results: Option<Vector<D, Histogram>>,
    pub(super) operands: Option<Operands>,
    pub(super) rounded: Option<Rounded>,
}

/// What was read of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Concluded {
    /// The losses of its micro-batches.
    pub losses: Vec<LossSum>,
    /// How it ended.
    pub end: StepEnd,
}

/// Why nothing was done in a step: a place that could not be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halted {
    /// A weight, by its number among the pieces of the network, or the loss.
    pub place: Place,
    /// What was found there.
    pub cause: Cause,
}

impl fmt::Display for Halted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.place, self.cause) {
            (Place::Loss, Cause::Uncounted | Cause::Length) => f.write_str(
                "not all rows of the loss were counted: the device left out an operation",
            ),
            (_, Cause::Uncounted | Cause::Length) => {
                f.write_str("not all results were counted: the device left out an operation")
            }
            (place, cause) => write!(f, "{cause} in {place}"),
        }
    }
}

impl std::error::Error for Halted {}

impl<D: Memory<Error: Send + Sync + 'static> + HasScaler> Scaler<D> {
    /// Makes the scaler of a new run whose steps have so many micro-batches.
    ///
    /// # Errors
    ///
    /// The device's memory is exhausted.
    pub fn new(device: &mut D, config: Config, micro_batches: usize) -> Result<Self, D::Error> {
        // Two losses visit a layer twice; a loss and the end of the step have a line each.
        let lines = micro_batches * (2 * CELLS + 8) + 8;
        Ok(Self {
            engine: Engine::new(device, config, CELLS, lines)?,
            notes: Vec::new(),
            watch: Watch::default(),
            is_under_way: false,
            steps: 0,
            certified: vec![None; CELLS],
            totals: Totals::default(),
            resumed: Totals::default(),
            is_calibrated: false,
            counted_elsewhere: 0,
            elsewhere: Since::default(),
        })
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        self.engine.config()
    }

    /// Begins a step that is shown to an observer; one that failed before it was read is left.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn begin(&mut self, device: &mut D, observer: &dyn Observer) -> Result<(), D::Error> {
        if self.is_under_way {
            self.engine.restart(device, &mut [Cell::new(); CELLS])?;
            self.notes.clear();
        }
        let results = observer.watches();
        self.watch = Watch { results, operands: results && observer.wants_operands() };
        self.is_under_way = true;
        Ok(())
    }

    /// Returns how many visits the step under way had so far.
    pub fn visits(&self) -> usize {
        self.notes.len()
    }

    /// Says which micro-batch of the step the next visits belong to.
    pub fn micro_batch(&mut self, index: usize) {
        self.engine.micro_batch(index as u32);
    }

    pub(super) const fn watch(&self) -> Watch {
        self.watch
    }

    /// Takes down what the host knows of the visit that was just finished.
    pub(super) fn note(&mut self, note: Note<D>) {
        self.is_under_way = true;
        self.notes.push(note);
    }

    /// Tells whether a cell will probably leave a certificate at its next visit.
    ///
    /// Nothing but speed depends on the answer: the device knows, and the host saves a computation if it guesses right.
    pub(super) fn expects_certificate(&mut self, id: usize) -> bool {
        let (config, steps) = (self.engine.config(), self.steps);
        let period = u64::from(config.period());
        if !config.policy().follows_maxima() || config.period() == Config::NEVER {
            return false;
        }
        let Some(last) = self.certified.get_mut(id) else { return false };
        let expects = last.is_none_or(|last| steps - last >= period);
        if expects {
            *last = Some(steps);
        }
        expects
    }

    /// Takes note of what a loss of so many rows added up to; `other` is the scaler of the other of two losses.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn judge_loss(
        &mut self,
        device: &mut D,
        rows: usize,
        sum: &Vector<D, LossSum>,
        other: Option<&mut Self>,
    ) -> Result<()> {
        let other = other.map(|other| &mut other.engine);
        self.engine.judge_loss(device, rows, sum.view(), other).map_err(failed)
    }

    /// Takes note of what operations without a cell counted, in this order; `other` as above.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn judge_all(
        &mut self,
        device: &mut D,
        evidence: &mut [Evidence<'_, '_, D::Space>],
        other: Option<&mut Self>,
    ) -> Result<(), D::Error> {
        self.engine.judge_all(device, evidence, other.map(|other| &mut other.engine))
    }

    /// Lets all ranks take the same step, behind its last operation but [`conclude`](Self::conclude).
    ///
    /// # Errors
    ///
    /// The device or the group failed, or the ranks are not alike.
    pub fn agree(&mut self, device: &mut D, team: &Team) -> Result<()> {
        let (cells, room) = (&mut [Cell::new(); CELLS], &mut [0; message_bytes(CELLS)]);
        let agreed = self.engine.agree(device, &mut &*team, cells, room);
        agreed.map_err(|error| shared(error, "the agreement of the ranks"))?;
        let mut visited = cells.iter().filter(|cell| cell.seen().visited);
        self.is_calibrated = visited.all(Cell::is_calibrated);
        Ok(())
    }

    /// Tells whether each tensor that was visited in the step that ranks agreed on last had a scale; where scales do not follow what
    /// tensors show, there is none to be found.
    pub fn is_calibrated(&self) -> bool {
        self.is_calibrated || !self.config().policy().follows_maxima()
    }

    /// Finds out whether ranks can share steps.
    ///
    /// # Errors
    ///
    /// As [`agree`](Self::agree).
    pub fn meet(&self, device: &mut D, team: &Team) -> Result<()> {
        let (cells, room) = (&mut [Cell::new(); CELLS], &mut [0; message_bytes(CELLS)]);
        let met = self.engine.meet(device, &mut &*team, cells, room);
        met.map_err(|error| shared(error, "before the first step"))
    }

    /// Ends the step on the device; `other` is the scaler of the other of two losses, whose step ended before.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn conclude(&mut self, device: &mut D, other: Option<&Self>) -> Result<()> {
        self.steps += 1;
        self.engine.conclude(device, other.map(|other| &other.engine)).map_err(failed)
    }

    /// Reads what happened in the step, and shows it to the observer.
    ///
    /// # Errors
    ///
    /// Nothing was done, which is [`Halted`]; the device left something out, or it failed.
    pub fn read(&mut self, device: &mut D, observer: &mut dyn Observer) -> Result<Concluded> {
        self.is_under_way = false;
        let mut room = vec![Default::default(); self.engine.written()];
        let lines = self.engine.read(device, &mut room).map_err(failed).context("the verdict")?;
        let mut notes = self.notes.drain(..);
        let (mut losses, mut end, mut halted) = (Vec::new(), None, None);
        let mut others = std::mem::take(&mut self.counted_elsewhere);
        for entry in lines {
            match entry? {
                Entry::Visit(visit) => {
                    let note = notes.next().context(LeftOut)?;
                    complete("results", visit.outcome.elements, note.elements)?;
                    if others > 0 {
                        self.elsewhere.recovered += u64::from(visit.replayed);
                        self.elsewhere.broken += u64::from(visit.broke_promise);
                        others -= 1;
                    }
                    note.show(device, visit, observer)?;
                }
                Entry::Loss(sum) => losses.push(sum),
                Entry::Step(found) => end = Some(found),
                Entry::Halted { place, cause } => halted = Some(Halted { place, cause }),
                _ => bail!(LeftOut),
            }
        }
        drop(notes);
        if let Some(halted) = halted {
            self.engine.go_on(device)?;
            bail!(halted);
        }
        let end: StepEnd = end.context(LeftOut)?;
        self.totals = end.totals;
        match end.verdict {
            Verdict::Stop { .. } => self.engine.go_on(device)?,
            Verdict::Skip { layer, cause: cause @ (Cause::Uncounted | Cause::Length) } => {
                bail!("{cause} in {layer}: {LeftOut}");
            }
            Verdict::Apply | Verdict::Skip { .. } => {}
        }
        Ok(Concluded { losses, end })
    }

    /// Names the predicate of operations that update weights after the step that was concluded last; one element.
    pub fn applies(&self) -> Ref<'_, D, u32> {
        self.engine.applies()
    }

    /// Names the number of steps that reached the weights, the one that was concluded last included; one element.
    pub fn updates(&self) -> Ref<'_, D, u32> {
        self.engine.updates()
    }

    /// Names the sum of the squares of all gradients of the step that was concluded last; one element.
    pub fn square_norm(&self) -> Ref<'_, D, f64> {
        self.engine.square_norm()
    }

    /// Returns what happened since the run began, as far as it was read.
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns what happened on this rank since the run was begun, or gone on with.
    pub const fn since(&self) -> Since {
        let (now, then, elsewhere) = (self.totals, self.resumed, self.elsewhere);
        Since {
            recovered: now.recovered.saturating_sub(then.recovered + elsewhere.recovered),
            certificates: now.certificates.saturating_sub(then.certificates),
            broken: now.broken.saturating_sub(then.broken + elsewhere.broken),
        }
    }

    /// Leaves the visits of the step so far to the rank whose they are: it counts them.
    pub fn count_elsewhere(&mut self) {
        self.counted_elsewhere = self.notes.len();
    }

    /// Copies the scaler to the host, as a checkpoint, with what happened on other ranks.
    ///
    /// Its certificates are this rank's: on the first one those of the first micro-batches.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn save(&mut self, device: &mut D, elsewhere: Since) -> Result<Vec<u8>> {
        let mut cells = [Cell::new(); CELLS];
        let (mut state, _) = self.engine.save(device, &mut cells)?;
        state.add_counts(elsewhere.recovered, elsewhere.broken);
        let mut block = vec![0; Self::CHECKPOINT_BYTES];
        state.save(&cells, &mut block)?;
        Ok(block)
    }

    /// Goes on from a checkpoint, after `updates` steps that reached the weights.
    ///
    /// # Errors
    ///
    /// The checkpoint is of another configuration or damaged, or the device failed.
    pub fn restore(&mut self, device: &mut D, block: &[u8], updates: u32) -> Result<()> {
        let mut cells = [Cell::new(); CELLS];
        let state = State::restore(*self.engine.config(), block, &mut cells)?;
        self.totals = state.totals();
        self.resumed = self.totals;
        // What was visited is older or has a scale.
        let mut visited = cells.iter().filter(|cell| cell.age() > 0 || cell.is_calibrated());
        self.is_calibrated = self.totals.steps > 0 && visited.all(Cell::is_calibrated);
        self.steps = self.totals.steps;
        for (id, certified) in self.certified.iter_mut().enumerate() {
            let cell = state.cell(&cells, Place::Layer(id));
            let cell = cell.filter(|cell| cell.is_calibrated());
            *certified = cell.map(|cell| self.steps.saturating_sub(cell.age().into()));
        }
        Ok(self.engine.load(device, &state, &cells, updates)?)
    }

    /// The size of a checkpoint.
    pub const CHECKPOINT_BYTES: usize = State::checkpoint_bytes(CELLS);
}

impl<D: Memory<Error: Send + Sync + 'static>> Note<D> {
    /// Shows the visit to an observer.
    fn show(self, device: &mut D, mut visit: Visit, observer: &mut dyn Observer) -> Result<()> {
        let Self { name, is_again, results, operands, rounded, .. } = self;
        let mut name = name;
        if is_again {
            // One backward pass for all losses together visits a layer once: the second visit is an extra pass.
            visit.passes = visit.passes.saturating_add(1);
            name.push_str(" again");
        }
        observer.passed(&visit);
        let Some(results) = results else { return Ok(()) };
        let results = results.read_one(device)?;
        match rounded {
            None => observer.visited(&name, &visit, &results, operands.as_ref()),
            Some(rounded) => observer.visited_in_blocks(&name, &visit, &results, &rounded),
        }
        Ok(())
    }
}

/// Returns an error of devices that share steps, or that of one device as it is.
///
/// What all ranks are told is common to them.
fn shared<D>(error: SharedError<D, Failure>, when: &'static str) -> Error
where
    D: std::error::Error + Send + Sync + 'static,
{
    match error {
        SharedError::Device(error) => error.into(),
        SharedError::Agree(AgreeError::Group(failure)) => Error::new(failure).context(when),
        SharedError::Agree(error @ (AgreeError::Differs(_) | AgreeError::Share(_))) => {
            Error::new(Common(error.to_string()))
        }
        SharedError::Agree(error) => Error::new(error).context(when),
    }
}

/// Returns an error of the engine's, or that of its device as it is.
pub(super) fn failed<E: std::error::Error + Send + Sync + 'static>(error: EngineError<E>) -> Error {
    match error {
        EngineError::Device(error) => error.into(),
        error => error.into(),
    }
}
