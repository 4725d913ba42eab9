//! Steps of a scaler that lives in the memory of a device.

use adaloss_core::{
    policy::{Cell, Config, Seen},
    scaler::{
        State, Streams,
        device::{Asked, DeviceState, Entry, Line},
    },
    statistics::{Histogram, Outcome},
    unscale::{LossSum, Place},
};

use super::{
    Advance, Carried, Close, Conclude, DeviceScaler, Ended, Ending, EngineError, Evidence,
    HasScaler, Judge, Lines, MOST_EVIDENCE, MOST_ORIGINS, OpenVisit,
    lines::{Kept, Row},
};
use crate::{
    device::{Memory, Ref},
    space::AddressSpace,
};

/// A scaler in the memory of a device.
///
/// # Examples
///
/// A step that waits once, at its end.
///
/// ```
/// use adaloss_core::{format::{Format, f16}, policy::Config, scaler::device::Entry, unscale::Verdict};
/// use adaloss_hal::{HasNarrow, Memory, Narrow, portable::Portable, scaler::{Engine, EngineError, HasScaler}};
///
/// fn step<D>(device: &mut D) -> Result<Verdict, EngineError<D::Error>>
/// where
///     D: Memory + HasNarrow<f16> + HasScaler,
/// {
///     let (cells, lines) = (4, 16); // as many as the model has tensors; as many as are written between two reads
///     let mut engine = Engine::new(device, Config::for_format(Format::BINARY16), cells, lines)?;
///     let mut gradient = device.zeroed::<f32>(2)?;
///     device.write(&[1.0e-9, 2.0e-9], D::view_mut(&mut gradient))?;
///     let mut narrowed = device.zeroed::<f16>(2)?;
///
///     let mut visit = engine.loss(device, 2)?;
///     while let Some(mut pass) = visit.next_pass(device)? {
///         let (input, to) = (D::view(&gradient), D::view_mut(&mut narrowed));
///         let epilogue = pass.epilogue();
///         device.run(Narrow::<D::Space, f16> { input, to, epilogue })?;
///     }
///     let _carried = visit.finish(device)?; // the scale, for the next layer and for weight gradients
///     engine.conclude(device, None)?;
///
///     let mut room = [Default::default(); 16];
///     match engine.read(device, &mut room)?.next_back() {
///         Some(Ok(Entry::Step(end))) => Ok(end.verdict),
///         _ => unreachable!("the device left nothing out"),
///     }
/// }
/// assert_eq!(step(&mut Portable).unwrap(), Verdict::Apply);
/// ```
pub struct Engine<D: Memory> {
    pub(super) config: Config,
    pub(super) state: D::Buffer<DeviceState>,
    pub(super) cells: D::Buffer<Cell>,
    cell_count: usize,
    /// What the pass at hand counts and measures.
    pub(super) outcome: D::Buffer<Outcome>,
    pub(super) histogram: D::Buffer<Histogram>,
    /// The scales of the pass at hand, and whether it is made.
    pub(super) from: D::Buffer<Cell>,
    pub(super) to: D::Buffer<Cell>,
    pub(super) when: D::Buffer<u32>,
    /// What followed from the last step.
    applies: D::Buffer<u32>,
    updates: D::Buffer<u32>,
    square_norm: D::Buffer<f64>,
    pub(super) row: Row<D>,
    /// A visit that ended, of which the device has not been told.
    pub(super) left: Option<Left>,
    /// Whether `to` stays where it is, since a graph may name it.
    pub(super) stays: bool,
    /// The number of the operation that was asked for last, in this step.
    pub(super) nth: u64,
    /// Steps that were concluded, as far as the host knows.
    pub(super) steps: u64,
    pub(super) streams: Streams,
}

/// A visit that ended, until the device is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) origins: [Option<Place>; MOST_ORIGINS],
    pub(super) line: Kept,
}

impl Left {
    /// Returns the end of a visit, if there is one, as an operation takes it.
    fn ending<'l, D: Memory>(
        left: Option<Self>,
        row: &'l mut Row<D>,
    ) -> Option<Ending<'l, D::Space>> {
        let Self { origins, line } = left?;
        let (serial, line) = row.kept(line)?;
        Some(Ending { origins, serial, line })
    }
}

impl<D: Memory + HasScaler> Engine<D> {
    /// Makes the scaler of a new training run, with a cell per layer and room for as many lines: one per visit, per loss and per
    /// step, between two reads.
    ///
    /// # Errors
    ///
    /// The device's memory is exhausted.
    pub fn new(
        device: &mut D,
        config: Config,
        cells: usize,
        lines: usize,
    ) -> Result<Self, D::Error> {
        let state = DeviceState::new(&config);
        let mut engine = Self {
            config,
            state: device.zeroed(1)?,
            cells: device.zeroed(cells)?,
            cell_count: cells,
            outcome: device.zeroed(1)?,
            histogram: device.zeroed(1)?,
            from: device.zeroed(1)?,
            to: device.zeroed(1)?,
            when: device.zeroed(1)?,
            applies: device.zeroed(1)?,
            updates: device.zeroed(1)?,
            square_norm: device.zeroed(1)?,
            row: Row::new(device, lines)?,
            left: None,
            stays: false,
            nth: 0,
            steps: 0,
            streams: Streams::default(),
        };
        device.write(&[state], D::view_mut(&mut engine.state))?;
        let histogram = Histogram::new(engine.config.narrowing());
        device.write(&[histogram], D::view_mut(&mut engine.histogram))?;
        Ok(engine)
    }

    /// Goes on from a scaler on the host, which may have been read from a checkpoint, and `updates` steps that reached the
    /// weights; a step under way is left.
    ///
    /// # Errors
    ///
    /// There are other cells than the engine has, or the device failed.
    pub fn load(
        &mut self,
        device: &mut D,
        state: &State,
        cells: &[Cell],
        updates: u32,
    ) -> Result<(), D::Error> {
        self.close_left(device)?;
        (self.steps, self.streams) = (state.totals().steps, Streams::default());
        device.write(cells, D::view_mut(&mut self.cells))?;
        // What a step under way had shown is of no use without the step.
        for (nth, cell) in cells.iter().enumerate().filter(|(_, cell)| cell.seen() != Seen::NOTHING)
        {
            let mut cell = *cell;
            cell.set_seen(Seen::NOTHING);
            if let Some(to) = D::Space::part_mut(D::view_mut(&mut self.cells), nth..nth + 1) {
                device.write(&[cell], to)?;
            }
        }
        let mut state = DeviceState::of(state, updates, self.nth);
        state.begin(&mut []);
        device.write(&[state], D::view_mut(&mut self.state))
    }

    /// Copies the scaler to the host, with the steps that reached the weights, and so waits for the device.
    ///
    /// # Errors
    ///
    /// There are other cells than the engine has, or the device failed.
    pub fn save(&mut self, device: &mut D, cells: &mut [Cell]) -> Result<(State, u32), D::Error> {
        self.close_left(device)?;
        let state = self.read_back(device, cells)?;
        Ok((state[0].to_state(self.config), state[0].updates()))
    }

    /// Does what is asked for again, after a step from which training could not go on; waits for the device.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn go_on(&mut self, device: &mut D) -> Result<(), D::Error> {
        self.close_left(device)?;
        let mut state = [DeviceState::new(&self.config)];
        device.read(D::view(&self.state), &mut state)?;
        self.resume(&mut state[0]);
        device.write(&state, D::view_mut(&mut self.state))
    }

    /// Leaves the step under way, as if it had never been begun, and what was written since the last read; waits for the
    /// device.  `cells` is room for all cells.
    ///
    /// Where an operation of a step failed, this comes before the next step.
    ///
    /// # Errors
    ///
    /// There are other cells than the engine has, or the device failed.
    pub fn restart(&mut self, device: &mut D, cells: &mut [Cell]) -> Result<(), D::Error> {
        let mut state = self.read_back(device, cells)?;
        self.resume(&mut state[0]);
        state[0].begin(cells);
        device.write(cells, D::view_mut(&mut self.cells))?;
        device.write(&state, D::view_mut(&mut self.state))?;
        device.write(&[Outcome::EMPTY], D::view_mut(&mut self.outcome))?;
        self.row.set_written(0);
        (self.streams, self.left) = (Streams::default(), None);
        Ok(())
    }

    /// Copies cells and state to the host, and waits for the device: what the first copy waited for, the second finds done.
    pub(super) fn read_back(
        &self,
        device: &mut D,
        cells: &mut [Cell],
    ) -> Result<[DeviceState; 1], D::Error> {
        let mut state = [DeviceState::new(&self.config)];
        device.read(D::view(&self.cells), cells)?;
        device.read(D::view(&self.state), &mut state)?;
        Ok(state)
    }

    /// Lets the state of the device do what is asked for next; steps that were asked for in vain do not count.
    fn resume(&mut self, state: &mut DeviceState) {
        state.go_on(self.nth);
        self.steps = state.to_state(self.config).totals().steps;
    }

    /// Returns the configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns how many cells of layers there are.
    pub const fn cells(&self) -> usize {
        self.cell_count
    }

    /// Says which micro-batch of the step the next visits belong to, as
    /// [`Step::micro_batch`](adaloss_core::scaler::Step::micro_batch) does.
    pub const fn micro_batch(&mut self, index: u32) {
        self.streams = Streams::of_micro_batch(index);
    }

    /// Visits the gradient of the loss, of so many elements, which arrives in f32 and unscaled.
    ///
    /// # Errors
    ///
    /// There is no room for a line, or the device failed.
    pub fn loss<'e>(
        &'e mut self,
        device: &mut D,
        elements: usize,
    ) -> Result<OpenVisit<'e, D, 0>, EngineError<D::Error>> {
        OpenVisit::open(self, device, Place::Loss, elements, [])
    }

    /// Visits the gradient of a further loss through cell `id`, as
    /// [`Step::loss_at`](adaloss_core::scaler::Step::loss_at) does.
    ///
    /// # Errors
    ///
    /// As [`loss`](Self::loss), or there is no such cell.
    pub fn loss_at<'e>(
        &'e mut self,
        device: &mut D,
        id: usize,
        elements: usize,
    ) -> Result<OpenVisit<'e, D, 0>, EngineError<D::Error>> {
        self.has_cell(id)?;
        OpenVisit::open(self, device, Place::Layer(id), elements, [])
    }

    /// Visits the f32 results of a layer, of so many elements, in cell `id`, which are computed from a gradient.
    ///
    /// # Errors
    ///
    /// As [`loss_at`](Self::loss_at).
    pub fn layer<'e>(
        &'e mut self,
        device: &mut D,
        id: usize,
        elements: usize,
        gradient: &Carried<D>,
    ) -> Result<OpenVisit<'e, D, 1>, EngineError<D::Error>> {
        self.has_cell(id)?;
        OpenVisit::open(self, device, Place::Layer(id), elements, [gradient])
    }

    /// Visits the sum of two or more branches, of so many elements, in cell `id`, as
    /// [`Step::join`](adaloss_core::scaler::Step::join) does.
    ///
    /// # Errors
    ///
    /// As [`loss_at`](Self::loss_at).
    pub fn join<'e, const N: usize>(
        &'e mut self,
        device: &mut D,
        id: usize,
        elements: usize,
        branches: [&Carried<D>; N],
    ) -> Result<OpenVisit<'e, D, N>, EngineError<D::Error>> {
        const { assert!(N > 1, "a join has at least two branches") };
        self.has_cell(id)?;
        OpenVisit::open(self, device, Place::Layer(id), elements, branches)
    }

    /// Takes note of what an operation without a cell counted; `other` is an engine that shares the weights.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn judge(
        &mut self,
        device: &mut D,
        evidence: Evidence<'_, '_, D::Space>,
        other: Option<&mut Self>,
    ) -> Result<(), D::Error> {
        self.judge_all(device, &mut [evidence], other)
    }

    /// Takes note of what any number of operations without a cell counted, in this order; `other` as for [`judge`](Self::judge).
    ///
    /// It is one operation of the device for each [`MOST_EVIDENCE`] pieces.
    ///
    /// # Errors
    ///
    /// The device failed, or refuses what does not fit: then what comes before the operation is judged, and a visit that ended
    /// with it is lost, as the next operation finds out.
    pub fn judge_all(
        &mut self,
        device: &mut D,
        evidence: &mut [Evidence<'_, '_, D::Space>],
        mut other: Option<&mut Self>,
    ) -> Result<(), D::Error> {
        if let Some(other) = &mut other {
            other.close_left(device)?;
        }
        for evidence in evidence.chunks_mut(MOST_EVIDENCE) {
            let Self { config, state, cells, nth, row, left, outcome, histogram, .. } = &mut *self;
            let ended = Left::ending(left.take(), row).map(|ending| Ended {
                ending,
                outcome: D::view_mut(outcome),
                histogram: D::view(histogram),
            });
            let scaler = Self::scaler(config, state, cells, nth);
            let other = other.as_ref().map(|other| D::view(&other.state));
            device.run(Judge { ended, evidence, scaler, other })?;
        }
        Ok(())
    }

    /// Takes note of what a loss added up to, and writes it to a line; `other` as for [`judge`](Self::judge).
    ///
    /// # Errors
    ///
    /// There is no room for a line, or the device failed.
    pub fn judge_loss(
        &mut self,
        device: &mut D,
        rows: usize,
        sum: Ref<'_, D, LossSum>,
        other: Option<&mut Self>,
    ) -> Result<(), EngineError<D::Error>> {
        self.close_left(device)?;
        let other = match other {
            Some(other) => {
                other.close_left(device)?;
                Some(D::view(&other.state))
            }
            None => None,
        };
        let (serial, line) = self.row.next()?;
        let evidence = &mut [Evidence::Loss { rows: rows as u64, sum, serial, line }];
        let scaler = Self::scaler(&self.config, &mut self.state, &mut self.cells, &mut self.nth);
        Ok(device.run(Judge { ended: None, evidence, scaler, other })?)
    }

    /// Ends the step: decides the scales of the next one, and judges this one; `other` is an engine that shares the weights and
    /// has concluded its step.
    ///
    /// # Errors
    ///
    /// There is no room for a line, or the device failed.
    pub fn conclude(
        &mut self,
        device: &mut D,
        other: Option<&Self>,
    ) -> Result<(), EngineError<D::Error>> {
        self.close_left(device)?;
        let (serial, line) = self.row.next()?;
        // Were the operation left out, what applied before would apply again.
        device.write(&[0], D::view_mut(&mut self.applies))?;
        device.run(Conclude {
            scaler: Self::scaler(&self.config, &mut self.state, &mut self.cells, &mut self.nth),
            requires: other.map(|other| D::view(&other.applies)),
            applies: D::view_mut(&mut self.applies),
            updates: D::view_mut(&mut self.updates),
            square_norm: D::view_mut(&mut self.square_norm),
            serial,
            line,
        })?;
        self.steps += 1;
        (self.nth, self.streams) = (0, Streams::default());
        Ok(())
    }

    /// Names the predicate of operations that update weights after the step that was concluded last; one element.
    pub fn applies(&self) -> Ref<'_, D, u32> {
        D::view(&self.applies)
    }

    /// Names the number of steps that reached the weights, the one that was concluded last included; one element.
    pub fn updates(&self) -> Ref<'_, D, u32> {
        D::view(&self.updates)
    }

    /// Names the sum of the squares of the weight gradients of the step that was concluded last; one element.
    pub fn square_norm(&self) -> Ref<'_, D, f64> {
        D::view(&self.square_norm)
    }

    /// Returns how many lines were written since the last read.
    pub const fn written(&self) -> usize {
        self.row.written()
    }

    /// Says how many of the lines that were asked for last are to be read, those in the first places.
    ///
    /// It is 0 where they are given up, so that the next ones take their places.  After a launch of a graph of steps, which
    /// writes the same lines with the same numbers each time, it is what [`written`](Self::written) was when the graph was captured.
    pub fn set_written(&mut self, lines: usize) {
        self.row.set_written(lines);
    }

    /// Waits for the device and reads what was written since the last read: one copy.
    ///
    /// # Errors
    ///
    /// `room` is too small for [`written`](Self::written) lines, and nothing was read; or the device failed.
    pub fn read<'l>(
        &mut self,
        device: &mut D,
        room: &'l mut [Line],
    ) -> Result<Lines<'l>, EngineError<D::Error>> {
        self.close_left(device)?;
        let lines = self.row.read(device, room)?;
        // Steps that were asked for in vain do not count.
        if let Some(steps) = lines.clone().rev().find_map(|entry| match entry {
            Ok(Entry::Step(end)) => Some(end.totals.steps),
            _ => None,
        }) {
            self.steps = steps;
        }
        Ok(lines)
    }

    fn has_cell(&self, id: usize) -> Result<(), EngineError<D::Error>> {
        let cells = self.cell_count;
        if id < cells { Ok(()) } else { Err(EngineError::NoCell { id, cells }) }
    }

    /// Names the scaler for the next operation.
    pub(super) fn scaler<'w>(
        config: &'w Config,
        state: &'w mut D::Buffer<DeviceState>,
        cells: &'w mut D::Buffer<Cell>,
        nth: &mut u64,
    ) -> DeviceScaler<'w, 'w, D::Space> {
        *nth += 1;
        DeviceScaler { config, state: D::view_mut(state), cells: D::view_mut(cells), nth: *nth }
    }

    /// Asks the device for the next pass of the visit under way, or of one that begins.
    pub(super) fn advance<'a>(
        &'a mut self,
        device: &mut D,
        asked: Asked,
        sources: &'a [Ref<'a, D, Cell>],
    ) -> Result<(), D::Error> {
        let Self {
            config, state, cells, nth, row, left, outcome, histogram, from, to, when, ..
        } = self;
        device.run(Advance {
            ending: Left::ending(left.take(), row),
            asked,
            sources,
            scaler: Self::scaler(config, state, cells, nth),
            outcome: D::view_mut(outcome),
            histogram: D::view_mut(histogram),
            from: D::view_mut(from),
            to: D::view_mut(to),
            when: D::view_mut(when),
        })
    }

    /// Tells the device that a visit ended, by an operation of its own: where none that is to follow could bring it along.
    pub(super) fn close_left(&mut self, device: &mut D) -> Result<(), D::Error> {
        match self.left.take() {
            Some(Left { origins, line }) => self.close(device, &origins, line, None),
            None => Ok(()),
        }
    }

    /// Ends a visit by an operation of its own, which leaves the scale of the values where it is wanted, if it is.
    pub(super) fn close(
        &mut self,
        device: &mut D,
        origins: &[Option<Place>],
        line: Kept,
        scale: Option<&mut D::Buffer<Cell>>,
    ) -> Result<(), D::Error> {
        let Self { config, state, cells, nth, row, outcome, histogram, from, .. } = self;
        let Some((serial, line)) = row.kept(line) else { return Ok(()) };
        device.run(Close {
            origins,
            scaler: Self::scaler(config, state, cells, nth),
            outcome: D::view_mut(outcome),
            histogram: D::view(histogram),
            // The scale of what arrives is written before it is read again.
            scale: D::view_mut(scale.unwrap_or(from)),
            serial,
            line,
        })
    }
}
