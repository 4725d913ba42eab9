//! One scaler on the device, and one on the host beside it.

use core::marker::PhantomData;

use adaloss_core::{
    format::Element,
    policy::{Cell, Config},
    scaler::{
        State,
        device::{Entry, StepEnd},
    },
    statistics::{Outcome, Statistics},
    unscale::{Cause, LossSum, Place, Unscaled, Verdict},
};
use adaloss_hal::{
    HasNarrow, Memory, Plain,
    scaler::{Engine, EngineError, HasScaler},
};

use super::{
    drawn::MOST,
    evidence::Weights,
    expected::Window,
    visit::{Of, Operands, Takes},
};
use crate::{
    Case, Discrepancy, Failure,
    bench::{Bench, pattern},
    compare,
    tensor::{read_one, upload},
    values,
};

/// Cells of the model's layers: three of a residual block, a further loss, the layer below it, and one below the block.
pub(super) const CELLS: usize = 6;
const FIRST: usize = 0;
const SECOND: usize = 1;
const BLOCK: usize = 2;
const FURTHER: usize = 3;
const SHARED: usize = 4;
const LEAF: usize = 5;

/// Places of a visit's tensor in the results: it lies anywhere in the first ones.
pub(super) const ROOM: usize = MOST + 17;

/// Visits of a micro-batch.
const VISITS: usize = 8;

/// Visits between two reads: two steps of two micro-batches, or three of one.
pub(super) const MOST_VISITS: usize = 2 * 2 * VISITS;

/// Lines between two reads: of a micro-batch's loss as well, and of a step's end.
pub(super) const MOST_LINES: usize = MOST_VISITS + 2 * (2 + 1);

/// The two scalers, and what was done since the last read.
pub(super) struct Walk<D: Memory, F: Plain, S> {
    pub(super) engine: Engine<D>,
    pub(super) memory: Buffers<D, F>,
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) cells: [Cell; CELLS],
    /// Why nothing is done any more, on the host's side.
    pub(super) halted: Option<(Place, Cause)>,
    pub(super) weights: Weights,
    pub(super) window: Window<D>,
    /// Whether steps have two micro-batches now and then.
    pub(super) accumulates: bool,
    pub(super) seed: u32,
    pub(super) steps: u32,
    pub(super) operands: PhantomData<S>,
}

/// What operations read and write, on the device.
pub(super) struct Buffers<D: Memory, F: Plain> {
    pub(super) values: D::Buffer<f32>,
    pub(super) results: D::Buffer<F>,
    pub(super) outcome: D::Buffer<Outcome>,
    pub(super) unscaled: D::Buffer<Unscaled>,
    pub(super) loss: D::Buffer<LossSum>,
    pub(super) squares: D::Buffer<f64>,
    /// Statistics of a gradient and of a weight.
    pub(super) gradient: D::Buffer<Statistics>,
    pub(super) weight: D::Buffer<Statistics>,
}

impl Case {
    /// Takes a result of an engine that must not be an error.
    pub(super) fn is_done<T, E: adaloss_hal::Error>(
        self,
        result: Result<T, EngineError<E>>,
    ) -> Result<T, Failure> {
        match result {
            Ok(done) => Ok(done),
            Err(EngineError::Device(error)) => self.succeeds(Err(error)),
            Err(_) => Err(self.fails(Discrepancy::Differs { what: "the room of the engine" })),
        }
    }
}

impl<D: Memory + HasNarrow<F> + HasScaler, F: Element + Plain, S: Operands<D>> Walk<D, F, S> {
    pub(super) fn new(
        bench: &mut Bench<'_, D>,
        config: Config,
        seed: u32,
    ) -> Result<Self, Failure> {
        let case = Case::new("a scaler (setup)", CELLS);
        let device = &mut *bench.device;
        let engine = case.succeeds(Engine::new(device, config, CELLS, MOST_LINES))?;
        let mut memory = Buffers {
            values: case.succeeds(device.zeroed(MOST))?,
            results: case.succeeds(device.zeroed(MOST_VISITS * ROOM))?,
            outcome: case.succeeds(device.zeroed(1))?,
            unscaled: case.succeeds(device.zeroed(1))?,
            loss: case.succeeds(device.zeroed(1))?,
            squares: case.succeeds(device.zeroed(3))?,
            gradient: case.succeeds(device.zeroed(1))?,
            weight: case.succeeds(device.zeroed(1))?,
        };
        upload(case, device, D::view_mut(&mut memory.results), &pattern::<F>)?;
        Ok(Self {
            engine,
            memory,
            config,
            state: State::new(config),
            cells: [Cell::new(); CELLS],
            halted: None,
            weights: Weights::default(),
            window: Window::new(),
            accumulates: false,
            seed,
            steps: 0,
            operands: PhantomData,
        })
    }

    /// Returns a case of this scaler, which the text of a failure names by its policy.
    pub(super) fn case(&self, check: &'static str) -> Case {
        Case { epilogue: self.config.policy().name(), ..Case::new(check, 0) }
    }

    /// Returns a random word of the step under way.
    pub(super) fn word(&self, of: u32) -> u32 {
        values::word(self.seed.wrapping_add(of << 16), self.steps as usize)
    }

    /// Asks for a step, and reads nothing.
    pub(super) fn step(&mut self, bench: &mut Bench<'_, D>) -> Result<(), Failure> {
        self.judge_weights(bench)?;
        // Some steps have two micro-batches, and a few have none.
        let micro_batches = match self.word(0) % 16 {
            0 => 0,
            1..6 if self.accumulates => 2,
            _ => 1,
        };
        for index in 0..micro_batches {
            self.engine.micro_batch(index);
            self.state.resume(&mut self.cells).micro_batch(index);
            self.judge_loss(bench, index)?;
            self.micro_batch(bench, index)?;
        }
        self.judge_squares(bench)?;
        self.conclude(bench)?;
        self.steps += 1;
        Ok(())
    }

    fn micro_batch(&mut self, bench: &mut Bench<'_, D>, index: u32) -> Result<(), Failure> {
        let nth = |visit: u32| 1 + 16 * index + visit;
        let elements = match self.word(nth(0)) % 32 {
            0 => 0,
            word => (word as usize * 37 + self.steps as usize) % (MOST + 1),
        };
        let all = Takes::All;
        let loss = self.visit(bench, &Of::Loss, nth(1), elements, all)?;
        let first = self.visit(bench, &Of::Layer(FIRST, &loss), nth(2), elements, all)?;
        let second = self.visit(bench, &Of::Layer(SECOND, &first), nth(3), elements, all)?;
        self.judge_gradients(bench, nth(3), &first, &second)?;
        let branches = [&second, &loss];
        let block = self.visit(bench, &Of::Join(BLOCK, branches), nth(4), elements, all)?;
        let further = self.visit(bench, &Of::LossAt(FURTHER), nth(5), elements / 2, all)?;
        // A weight that is used twice.
        let once = self.visit(bench, &Of::Layer(SHARED, &further), nth(6), elements / 2, all)?;
        let twice = self.visit(bench, &Of::Layer(SHARED, &block), nth(7), elements, all)?;
        // Nothing is computed from the last one, which goes wrong now and then, and at a first visit of some runs.
        let takes = match self.word(nth(8)) >> 16 & 0x3f {
            _ if elements > 0 && self.steps == 0 && self.seed & 1 == 1 => Takes::First,
            0 => Takes::Left,
            1 if elements > 0 => Takes::First,
            2 if elements > 0 => Takes::Uncounted,
            _ => Takes::All,
        };
        let leaf = self.visit(bench, &Of::Layer(LEAF, &block), nth(8), elements, takes)?;
        // A visit that came to nothing carries no particular scale.
        let links = [loss, first, second, block, further, once, twice, leaf];
        for link in links.into_iter().filter(|link| link.gradient.is_some()) {
            self.window.keep(self.case("a scale"), link.carried, link.scale)?;
        }
        Ok(())
    }

    /// Ends the step.
    fn conclude(&mut self, bench: &mut Bench<'_, D>) -> Result<(), Failure> {
        let case = self.case("the end of a step");
        case.is_done(self.engine.conclude(bench.device, None))?;
        bench.report.operations += 1;
        if let Some((place, cause)) = self.halted {
            self.weights.stays();
            return self.window.expects(case, Entry::Halted { place, cause });
        }
        let mut step = self.state.resume(&mut self.cells);
        if let Some((place, cause)) = self.weights.pending.take() {
            step.reject(place, cause);
        }
        let tiny = step.tiny();
        let verdict = step.finish();
        if let Verdict::Stop { layer, cause, .. } = verdict {
            self.halted = Some((layer, cause));
        }
        let square_norm = self.weights.square_norm;
        let totals = self.state.totals();
        self.weights.ended(verdict == Verdict::Apply);
        self.window.expects(case, Entry::Step(StepEnd { verdict, square_norm, tiny, totals }))
    }

    /// Reads what happened since the last read, and compares everything with what the host made of it.
    pub(super) fn read(&mut self, bench: &mut Bench<'_, D>) -> Result<(), Failure> {
        let case = self.case("the lines of a scaler");
        self.window.compare_lines(case, &mut self.engine, bench.device)?;
        self.window.compare_scales(case, bench.device)?;
        let elements = self.window.compare_results(case, bench.device, &self.memory.results)?;
        bench.report.elements += elements;
        self.compare_weights(bench)?;
        self.compare_cells(bench)?;
        self.window.clear();
        let case = self.case("a scaler (setup)");
        upload(case, bench.device, D::view_mut(&mut self.memory.results), &pattern::<F>)?;
        if self.halted.take().is_some() {
            case.succeeds(self.engine.go_on(bench.device))?;
        }
        Ok(())
    }

    /// Compares what operations after the step go by, and that counts were cleared.
    fn compare_weights(&self, bench: &mut Bench<'_, D>) -> Result<(), Failure> {
        let case = self.case("what follows from a step");
        let (device, weights) = (&mut *bench.device, &self.weights);
        let applies = read_one(case, device, self.engine.applies())?;
        case.number("whether the step applies", weights.applies.into(), applies.into())?;
        let updates = read_one(case, device, self.engine.updates())?;
        case.number("the number of updates", weights.updates.into(), updates.into())?;
        let square_norm = read_one(case, device, self.engine.square_norm())?.to_bits();
        case.whole("the sum of the squares", &weights.last_square_norm.to_bits(), &square_norm)?;
        let outcome = read_one(case, device, D::view(&self.memory.outcome))?;
        compare::outcomes(case, &Outcome::EMPTY, &outcome)?;
        let unscaled = read_one(case, device, D::view(&self.memory.unscaled))?;
        case.whole("the counts of a weight gradient", &Unscaled::default(), &unscaled)
    }

    /// Compares the cells, and all that the next steps depend on.
    fn compare_cells(&mut self, bench: &mut Bench<'_, D>) -> Result<(), Failure> {
        let case = self.case("the cells of a scaler");
        let mut cells = [Cell::new(); CELLS];
        let (state, updates) = case.succeeds(self.engine.save(bench.device, &mut cells))?;
        case.number("the number of updates", self.weights.updates.into(), updates.into())?;
        for place in (0..CELLS).map(Place::Layer).chain([Place::Loss]) {
            let (here, there) = (self.state.cell(&self.cells, place), state.cell(&cells, place));
            match (here, there) {
                (Some(here), Some(there)) => compare::cells(case, here, there)?,
                _ => case.whole("the number of cells", &here.is_some(), &there.is_some())?,
            }
        }
        let digest = self.state.digest(&self.cells);
        case.number("the digest", digest.into(), state.digest(&cells).into())?;
        let mut blocks = [[0; State::checkpoint_bytes(CELLS)]; 2];
        let [here, there] = &mut blocks;
        let saved = self.state.save(&self.cells, here).and(state.save(&cells, there));
        case.whole("the length of a checkpoint", &Ok(()), &saved)?;
        case.whole("a checkpoint", &here, &there)
    }
}
