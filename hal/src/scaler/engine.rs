//! Steps of a scaler that lives in the memory of a device.

use core::{array, fmt};

use adaloss_core::{
    format::Noise,
    policy::{Cell, Config, Seen},
    scaler::{
        Purpose, State, Streams,
        device::{Asked, DeviceState, Entry, Line, Opening},
    },
    statistics::{Histogram, Outcome},
    unscale::{LossSum, Place},
};

use super::{
    Advance, Close, Conclude, Describe, Described, DeviceScaler, Evidence, HasScaler, Judge,
};
use crate::{
    device::{Device, Memory, Mut, Ref},
    epilogue::Epilogue,
    run::Run,
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
    config: Config,
    state: D::Buffer<DeviceState>,
    cells: D::Buffer<Cell>,
    cell_count: usize,
    /// What the pass at hand counts and measures.
    outcome: D::Buffer<Outcome>,
    histogram: D::Buffer<Histogram>,
    /// The scales of the pass at hand, and whether it is made.
    from: D::Buffer<Cell>,
    to: D::Buffer<Cell>,
    when: D::Buffer<u32>,
    /// What followed from the last step.
    applies: D::Buffer<u32>,
    updates: D::Buffer<u32>,
    square_norm: D::Buffer<f64>,
    row: Row<D>,
    /// The number of the operation that was asked for last, in this step.
    nth: u64,
    /// Steps that were concluded, as far as the host knows.
    steps: u64,
    streams: Streams,
}

/// The number of a line, and where it is written.
type NextLine<'l, D> = (u64, Mut<'l, D, Line>);

/// The lines that a device writes between two reads.
struct Row<D: Memory> {
    lines: D::Buffer<Line>,
    count: usize,
    /// Lines that were asked for since the last read.
    written: usize,
    /// The number of the next line, from 1.
    serial: u64,
}

impl<D: Memory> Row<D> {
    /// Fails where there is no room for another line.
    const fn check(&self) -> Result<(), EngineError<D::Error>> {
        let Self { written, count, .. } = *self;
        if written < count { Ok(()) } else { Err(EngineError::Full { lines: count }) }
    }

    /// Takes the next line, with its number.
    fn next(&mut self) -> Result<NextLine<'_, D>, EngineError<D::Error>> {
        let Self { written, serial, count, .. } = *self;
        let line = D::Space::part_mut(D::view_mut(&mut self.lines), written..written + 1);
        let line = line.ok_or(EngineError::Full { lines: count })?;
        (self.written, self.serial) = (written + 1, serial + 1);
        Ok((serial, line))
    }
}

/// The scale of a gradient, in the memory of a device, and the cell that it came from.
pub struct Carried<D: Memory> {
    scale: D::Buffer<Cell>,
    origin: Place,
}

impl<D: Memory> Carried<D> {
    /// Allocates room for the scale of a visit, for [`OpenVisit::finish_into`]: until then it is 2^0, from the loss.
    ///
    /// # Errors
    ///
    /// The device's memory is exhausted.
    pub fn new(device: &mut D) -> Result<Self, D::Error> {
        Ok(Self { scale: device.zeroed(1)?, origin: Place::Loss })
    }

    /// Names the scale, as a cell that has it; one element.
    pub fn scale(&self) -> Ref<'_, D, Cell> {
        D::view(&self.scale)
    }

    /// Returns the tensor whose cell the scale came from.
    pub const fn origin(&self) -> Place {
        self.origin
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
            row: Row { lines: device.zeroed(lines)?, count: lines, written: 0, serial: 1 },
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
    pub fn save(&self, device: &mut D, cells: &mut [Cell]) -> Result<(State, u32), D::Error> {
        let mut state = [DeviceState::new(&self.config)];
        device.read(D::view(&self.cells), cells)?;
        device.read(D::view(&self.state), &mut state)?;
        Ok((state[0].to_state(self.config), state[0].updates()))
    }

    /// Does what is asked for again, after a step from which training could not go on; waits for the device.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn go_on(&mut self, device: &mut D) -> Result<(), D::Error> {
        let mut state = [DeviceState::new(&self.config)];
        device.read(D::view(&self.state), &mut state)?;
        state[0].go_on(self.nth);
        // Steps that were asked for in vain do not count.
        self.steps = state[0].to_state(self.config).totals().steps;
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
        let mut state = [DeviceState::new(&self.config)];
        device.read(D::view(&self.cells), cells)?;
        device.read(D::view(&self.state), &mut state)?;
        state[0].go_on(self.nth);
        state[0].begin(cells);
        device.write(cells, D::view_mut(&mut self.cells))?;
        device.write(&state, D::view_mut(&mut self.state))?;
        device.write(&[Outcome::EMPTY], D::view_mut(&mut self.outcome))?;
        (self.row.written, self.streams) = (0, Streams::default());
        Ok(())
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
    pub fn judge<'a>(
        &'a mut self,
        device: &mut D,
        evidence: Evidence<'a, 'a, D::Space>,
        other: Option<&'a Self>,
    ) -> Result<(), D::Error> {
        let scaler = Self::scaler(&self.config, &mut self.state, &mut self.cells, &mut self.nth);
        let other = other.map(|other| D::view(&other.state));
        device.run(Judge { evidence, scaler, other })
    }

    /// Takes note of what a loss added up to, and writes it to a line; `other` as for [`judge`](Self::judge).
    ///
    /// # Errors
    ///
    /// There is no room for a line, or the device failed.
    pub fn judge_loss<'a>(
        &'a mut self,
        device: &mut D,
        rows: usize,
        sum: Ref<'a, D, LossSum>,
        other: Option<&'a Self>,
    ) -> Result<(), EngineError<D::Error>> {
        let (serial, line) = self.row.next()?;
        let evidence = Evidence::Loss { rows: rows as u64, sum, serial, line };
        let scaler = Self::scaler(&self.config, &mut self.state, &mut self.cells, &mut self.nth);
        let other = other.map(|other| D::view(&other.state));
        Ok(device.run(Judge { evidence, scaler, other })?)
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
        self.row.written
    }

    /// Says how many of the lines that were asked for last are to be read, those in the first places.
    ///
    /// It is 0 where they are given up, so that the next ones take their places.  After a launch of a graph of steps, which
    /// writes the same lines with the same numbers each time, it is what [`written`](Self::written) was when the graph was captured.
    pub fn set_written(&mut self, lines: usize) {
        self.row.written = lines.min(self.row.count);
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
        let Row { written, serial, count, .. } = self.row;
        let lines = room.len();
        let room = room.get_mut(..written).ok_or(EngineError::Room { written, lines })?;
        let part = D::Space::part(D::view(&self.row.lines), 0..written);
        let part = part.ok_or(EngineError::Full { lines: count })?;
        device.read(part, room)?;
        self.row.written = 0;
        let lines = Lines { first: serial - written as u64, lines: room };
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
    fn scaler<'w>(
        config: &'w Config,
        state: &'w mut D::Buffer<DeviceState>,
        cells: &'w mut D::Buffer<Cell>,
        nth: &mut u64,
    ) -> DeviceScaler<'w, 'w, D::Space> {
        *nth += 1;
        DeviceScaler { config, state: D::view_mut(state), cells: D::view_mut(cells), nth: *nth }
    }

    /// Asks the device for the next pass of the visit under way, or of one that begins.
    fn advance<'a>(
        &'a mut self,
        device: &mut D,
        asked: Asked,
        sources: &'a [Ref<'a, D, Cell>],
    ) -> Result<(), D::Error> {
        device.run(Advance {
            asked,
            sources,
            scaler: Self::scaler(&self.config, &mut self.state, &mut self.cells, &mut self.nth),
            outcome: D::view_mut(&mut self.outcome),
            histogram: D::view_mut(&mut self.histogram),
            from: D::view_mut(&mut self.from),
            to: D::view_mut(&mut self.to),
            when: D::view_mut(&mut self.when),
        })
    }
}

/// A visit under way on a device: hands out the passes that might be needed.
///
/// It is what [`adaloss_core::scaler::OpenVisit`] is to a step on the host; a visit that is left is found in the same way.
pub struct OpenVisit<'e, D: Memory, const N: usize> {
    engine: &'e mut Engine<D>,
    place: Place,
    origins: [Option<Place>; N],
    noise: Noise,
    /// What the coming passes are for, the next one first.
    purposes: Purposes,
    /// Whether the device was asked about the next one already.
    is_asked: bool,
}

/// What passes of a visit might be for, in order.
#[derive(Clone, Copy, Debug)]
struct Purposes([Option<Purpose>; 4]);

impl Purposes {
    /// Returns what a configuration might need, for a visit of a join or another tensor.
    fn of(config: &Config, is_join: bool) -> Self {
        let policy = config.policy();
        let measures = policy.follows_maxima() && config.period() != Config::NEVER;
        // Under policies that follow maxima a first visit is narrowed once more, whether overflows are replayed or not.
        let replays = policy.follows_maxima() || policy.wants_operands() && config.replays();
        let joins = is_join && policy.wants_operands();
        Self([
            measures.then_some(Purpose::Measure),
            Some(Purpose::Store),
            joins.then_some(Purpose::Join),
            replays.then_some(Purpose::Replay),
        ])
    }

    fn next(&self) -> Option<Purpose> {
        self.0.iter().flatten().next().copied()
    }

    fn take(&mut self) -> Option<Purpose> {
        self.0.iter_mut().find_map(Option::take)
    }
}

impl<'e, D: Memory + HasScaler, const N: usize> OpenVisit<'e, D, N> {
    fn open(
        engine: &'e mut Engine<D>,
        device: &mut D,
        place: Place,
        elements: usize,
        sources: [&Carried<D>; N],
    ) -> Result<Self, EngineError<D::Error>> {
        engine.row.check()?;
        let stream = engine.streams.next(engine.steps, place);
        let noise = Noise { seed: engine.config.seed(), stream };
        let purposes = Purposes::of(&engine.config, N > 1);
        let wants_operands = engine.config.policy().wants_operands() && N < 2;
        let opening = Some(Opening { place, elements: elements as u64, stream });
        let purpose = purposes.next().filter(|_| !wants_operands);
        let scales = sources.map(|source| D::view(&source.scale));
        engine.advance(device, Asked { opening, purpose }, &scales)?;
        let origins = array::from_fn(|nth| Some(sources[nth].origin));
        Ok(Self { engine, place, origins, noise, purposes, is_asked: !wants_operands })
    }

    /// Tells whether the policy may decide from operands here, so that they are to be
    /// [described](Self::describe) before the first pass.
    pub fn wants_operands(&self) -> bool {
        !self.is_asked && N < 2
    }

    /// Names the predicate of operations that compute statistics of the operands: 0 where no decision is due; one element.
    pub fn operands_predicate(&self) -> Ref<'_, D, u32> {
        D::view(&self.engine.when)
    }

    /// Describes the operands, if the policy decides from them now.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn describe(
        &mut self,
        device: &mut D,
        described: &Described<'_, D::Space>,
    ) -> Result<(), D::Error>
    where
        D: for<'r, 'w> Run<Describe<'r, 'w, <D as Device>::Space>>,
    {
        let Engine { config, state, cells, nth, .. } = &mut *self.engine;
        let scaler = Engine::<D>::scaler(config, state, cells, nth);
        device.run(Describe { described: described.reborrow(), scaler })
    }

    /// Returns the next pass over the tensor; `None` where there are no more.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn next_pass(&mut self, device: &mut D) -> Result<Option<Pass<'_, D>>, D::Error> {
        let Some(purpose) = self.purposes.take() else { return Ok(None) };
        if !core::mem::take(&mut self.is_asked) {
            let asked = Asked { opening: None, purpose: Some(purpose) };
            self.engine.advance(device, asked, &[])?;
        }
        Ok(Some(Pass { engine: self.engine, noise: self.noise, purpose }))
    }

    /// Ends the visit: returns the scale that the values carry.
    ///
    /// # Errors
    ///
    /// There is no room for a line, or the device failed.
    pub fn finish(self, device: &mut D) -> Result<Carried<D>, EngineError<D::Error>> {
        let mut carried = Carried::new(device)?;
        self.finish_into(device, &mut carried)?;
        Ok(carried)
    }

    /// Ends the visit, and puts the scale that the values carry where that of an earlier step was: it allocates nothing, and so
    /// can be captured.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    pub fn finish_into(
        self,
        device: &mut D,
        carried: &mut Carried<D>,
    ) -> Result<(), EngineError<D::Error>> {
        let Self { engine, place, origins, .. } = self;
        let (serial, line) = engine.row.next()?;
        device.run(Close {
            origins: &origins,
            scaler: Engine::<D>::scaler(
                &engine.config,
                &mut engine.state,
                &mut engine.cells,
                &mut engine.nth,
            ),
            outcome: D::view_mut(&mut engine.outcome),
            histogram: D::view(&engine.histogram),
            scale: D::view_mut(&mut carried.scale),
            serial,
            line,
        })?;
        carried.origin = place;
        Ok(())
    }
}

/// One run over a tensor that might be needed.
pub struct Pass<'p, D: Memory> {
    engine: &'p mut Engine<D>,
    noise: Noise,
    purpose: Purpose,
}

impl<D: Memory> Pass<'_, D> {
    /// Returns what it is for.
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Tells whether results are narrowed and stored; otherwise they are measured.
    pub const fn stores(&self) -> bool {
        !matches!(self.purpose, Purpose::Measure)
    }

    /// Returns the epilogue of the operation that makes the pass, which does nothing where it is not needed.
    pub fn epilogue(&mut self) -> Epilogue<'_, D::Space> {
        let stores = self.stores();
        let Engine { config, from, to, when, outcome, histogram, .. } = &mut *self.engine;
        Epilogue {
            from: D::view(from),
            to: D::view(to),
            narrowing: config.narrowing(),
            noise: self.noise,
            stores,
            when: Some(D::view(when)),
            outcome: D::view_mut(outcome),
            histogram: (!stores).then(|| D::view_mut(histogram)),
        }
    }
}

/// What was written since the last read, in order.
///
/// An item is an error where the device left out what should have written the line.
#[derive(Clone, Debug)]
pub struct Lines<'l> {
    first: u64,
    lines: &'l [Line],
}

/// A device did not write a line: it left out an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut;

impl Iterator for Lines<'_> {
    type Item = Result<Entry, LeftOut>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, rest) = self.lines.split_first()?;
        let entry = line.entry(self.first).ok_or(LeftOut);
        (self.first, self.lines) = (self.first + 1, rest);
        Some(entry)
    }
}

impl DoubleEndedIterator for Lines<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (line, rest) = self.lines.split_last()?;
        self.lines = rest;
        Some(line.entry(self.first + rest.len() as u64).ok_or(LeftOut))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device left out an operation: what it should have written down is missing")
    }
}

impl core::error::Error for LeftOut {}

/// What an engine refuses, or its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineError<E> {
    /// There is no room for another line.
    Full {
        /// How many lines there is room for.
        lines: usize,
    },
    /// More lines were written than there is room for on the host.
    Room {
        /// How many were written.
        written: usize,
        /// How many there is room for.
        lines: usize,
    },
    /// The engine has no such cell.
    NoCell {
        /// What was asked for.
        id: usize,
        /// How many cells there are.
        cells: usize,
    },
    /// The device failed.
    Device(E),
}

impl<E> From<E> for EngineError<E> {
    fn from(error: E) -> Self {
        Self::Device(error)
    }
}

impl<E: fmt::Display> fmt::Display for EngineError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { lines } => {
                write!(f, "{lines} lines are full: read them more often, or make room for more")
            }
            Self::Room { written, lines } => {
                write!(
                    f,
                    "{written} lines were written and there is room for {lines}: read them into more"
                )
            }
            Self::NoCell { id, cells } => {
                write!(f, "cell {id} was asked for and the engine has {cells}")
            }
            Self::Device(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for EngineError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Device(error) => error.source(),
            Self::Full { .. } | Self::Room { .. } | Self::NoCell { .. } => None,
        }
    }
}
