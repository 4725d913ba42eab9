//! Operations of a scaler whose operands do not fit: nothing may be written.

use adaloss_core::{
    format::Format,
    policy::{Cell, Config},
    scaler::{
        Purpose,
        device::{Asked, DeviceState, Line, Opening},
    },
    statistics::{Histogram, Outcome, Statistics},
    unscale::{LossSum, Place, Unscaled},
};
use adaloss_hal::{
    AddressSpace, Device, ErrorKind, Memory, Mut, Plain, Run,
    scaler::{
        Advance, Close, Conclude, Describe, Described, DeviceScaler, Ended, Ending, Evidence,
        HasScaler, Judge, MOST_ORIGINS,
    },
};

use crate::{
    Case, Failure,
    bench::Bench,
    compare,
    refusal::Mutation,
    tensor::{download, read_one},
};

/// Cells of the scaler.
const CELLS: usize = 3;

/// Operands of every operation.
struct Operands<D: Memory> {
    config: Config,
    state: D::Buffer<DeviceState>,
    cells: D::Buffer<Cell>,
    outcome: D::Buffer<Outcome>,
    histogram: D::Buffer<Histogram>,
    from: D::Buffer<Cell>,
    to: D::Buffer<Cell>,
    sources: D::Buffer<Cell>,
    words: [D::Buffer<u32>; 3],
    squares: D::Buffer<f64>,
    unscaled: D::Buffer<Unscaled>,
    loss: D::Buffer<LossSum>,
    statistics: D::Buffer<Statistics>,
    line: D::Buffer<Line>,
    last_line: D::Buffer<Line>,
    last_outcome: D::Buffer<Outcome>,
}

const CASE: Case = Case::new("an operation of a scaler that does not fit", 1);

const OUTCOME: Outcome = Outcome { elements: 5, underflow: 2, ..Outcome::EMPTY };
const UNSCALED: Unscaled = Unscaled { elements: 5, nonfinite: 1, tiny: 2 };
const WORD: u32 = 0x5a5a;

impl<D: Memory> Operands<D> {
    fn new(device: &mut D) -> Result<Self, Failure> {
        let config = Config::for_format(Format::BINARY16);
        let word = |device: &mut D| CASE.succeeds(device.zeroed(1));
        let mut operands = Self {
            config,
            state: CASE.succeeds(device.zeroed(1))?,
            cells: CASE.succeeds(device.zeroed(CELLS))?,
            outcome: CASE.succeeds(device.zeroed(1))?,
            histogram: CASE.succeeds(device.zeroed(1))?,
            from: CASE.succeeds(device.zeroed(1))?,
            to: CASE.succeeds(device.zeroed(1))?,
            sources: CASE.succeeds(device.zeroed(2))?,
            words: [word(device)?, word(device)?, word(device)?],
            squares: CASE.succeeds(device.zeroed(1))?,
            unscaled: CASE.succeeds(device.zeroed(1))?,
            loss: CASE.succeeds(device.zeroed(1))?,
            statistics: CASE.succeeds(device.zeroed(1))?,
            line: CASE.succeeds(device.zeroed(1))?,
            last_line: CASE.succeeds(device.zeroed(1))?,
            last_outcome: CASE.succeeds(device.zeroed(1))?,
        };
        let (state, histogram) = (DeviceState::new(&config), Histogram::new(config.narrowing()));
        CASE.succeeds(device.write(&[state], D::view_mut(&mut operands.state)))?;
        CASE.succeeds(device.write(&[histogram], D::view_mut(&mut operands.histogram)))?;
        for outcome in [&mut operands.outcome, &mut operands.last_outcome] {
            CASE.succeeds(device.write(&[OUTCOME], D::view_mut(outcome)))?;
        }
        CASE.succeeds(device.write(&[UNSCALED], D::view_mut(&mut operands.unscaled)))?;
        for word in &mut operands.words {
            CASE.succeeds(device.write(&[WORD], D::view_mut(word)))?;
        }
        Ok(operands)
    }

    /// Compares everything with what it was.
    #[inline(never)]
    fn compare(&self, device: &mut D) -> Result<(), Failure> {
        let state = read_one(CASE, device, D::view(&self.state))?.to_state(self.config);
        let mut cells = [Cell::new(); CELLS];
        CASE.succeeds(device.read(D::view(&self.cells), &mut cells))?;
        let fresh = DeviceState::new(&self.config).to_state(self.config);
        let digests = [&fresh, &state].map(|state| state.digest(&cells));
        CASE.number("the digest", digests[0].into(), digests[1].into())?;
        CASE.whole("the totals", &fresh.totals(), &state.totals())?;
        for cells in [&self.cells, &self.from, &self.to] {
            download(CASE, device, D::view(cells), &mut |_, found| {
                compare::cells(CASE, &Cell::zeroed(), &found)
            })?;
        }
        for outcome in [&self.outcome, &self.last_outcome] {
            compare::outcomes(CASE, &OUTCOME, &read_one(CASE, device, D::view(outcome))?)?;
        }
        let histogram = Histogram::new(self.config.narrowing());
        compare::histograms(CASE, &histogram, &read_one(CASE, device, D::view(&self.histogram))?)?;
        let unscaled = read_one(CASE, device, D::view(&self.unscaled))?;
        CASE.whole("the counts of a weight gradient", &UNSCALED, &unscaled)?;
        for word in &self.words {
            CASE.number("a word", WORD.into(), read_one(CASE, device, D::view(word))?.into())?;
        }
        let squares = read_one(CASE, device, D::view(&self.squares))?.to_bits();
        CASE.whole("the sum of the squares", &0, &squares)?;
        for line in [&self.line, &self.last_line] {
            let line = read_one(CASE, device, D::view(line))?;
            CASE.whole("whether a line is empty", &None, &line.entry(1))?;
        }
        Ok(())
    }

    fn scaler<'w>(
        config: &'w Config,
        state: &'w mut D::Buffer<DeviceState>,
        cells: &'w mut D::Buffer<Cell>,
    ) -> DeviceScaler<'w, 'w, D::Space> {
        DeviceScaler { config, state: D::view_mut(state), cells: D::view_mut(cells), nth: 1 }
    }
}

const ASKED: Asked = Asked {
    opening: Some(Opening { place: Place::Layer(1), elements: 4, stream: 0 }),
    purpose: Some(Purpose::Measure),
};

/// What it has on the stack is not there while a scaler is at work.
#[inline(never)]
pub(super) fn check<D: Memory + HasScaler>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    let mut operands = Operands::new(bench.device)?;
    bench.refuses_every_mutation(CASE, &mut |device, mutation| {
        advance(device, &mut operands, mutation, 1)
    })?;
    // The list of scales is not one of the operands that are mutated.
    for length in [0, 2] {
        let result = advance(bench.device, &mut operands, &Mutation::none(), length);
        bench.refused(CASE, ErrorKind::Shape, result)?;
    }
    bench.refuses_every_mutation(CASE, &mut |device, mutation| {
        let Operands { config, state, cells, outcome, histogram, from, line, .. } = &mut operands;
        device.run(mutation.apply(Close {
            origins: &[None],
            scaler: Operands::<D>::scaler(config, state, cells),
            outcome: D::view_mut(outcome),
            histogram: D::view(histogram),
            scale: D::view_mut(from),
            serial: 1,
            line: D::view_mut(line),
        }))
    })?;
    for kind in 0..6 {
        bench.refuses_every_mutation(CASE, &mut |device, mutation| {
            judge(device, &mut operands, kind, mutation)
        })?;
    }
    bench.refuses_every_mutation(CASE, &mut |device, mutation| {
        let Operands { config, state, cells, words, squares, line, .. } = &mut operands;
        let [requires, applies, updates] = words;
        device.run(mutation.apply(Conclude {
            scaler: Operands::<D>::scaler(config, state, cells),
            requires: Some(D::view(requires)),
            applies: D::view_mut(applies),
            updates: D::view_mut(updates),
            square_norm: D::view_mut(squares),
            serial: 1,
            line: D::view_mut(line),
        }))
    })?;
    operands.compare(bench.device)
}

/// Asks for a pass, with one scale of so many elements.
fn advance<D: Memory + HasScaler>(
    device: &mut D,
    operands: &mut Operands<D>,
    mutation: &Mutation,
    length: usize,
) -> Result<(), D::Error> {
    let Operands {
        config,
        state,
        cells,
        outcome,
        histogram,
        from,
        to,
        words,
        sources,
        last_line,
        ..
    } = operands;
    let sources = D::Space::part(D::view(sources), 0..length).unwrap_or(D::view(sources));
    let ending = Ending { origins: [None; MOST_ORIGINS], serial: 1, line: D::view_mut(last_line) };
    device.run(mutation.apply(Advance {
        ending: Some(ending),
        asked: ASKED,
        sources: &[sources],
        scaler: Operands::<D>::scaler(config, state, cells),
        outcome: D::view_mut(outcome),
        histogram: D::view_mut(histogram),
        from: D::view_mut(from),
        to: D::view_mut(to),
        when: D::view_mut(&mut words[0]),
    }))
}

/// Judges evidence of each kind behind a visit, and has another scaler.
fn judge<D: Memory + HasScaler>(
    device: &mut D,
    operands: &mut Operands<D>,
    kind: usize,
    mutation: &Mutation,
) -> Result<(), D::Error> {
    let Operands {
        config,
        state,
        cells,
        outcome,
        histogram,
        squares,
        unscaled,
        loss,
        line,
        last_line,
        last_outcome,
        ..
    } = operands;
    let (id, origin, elements) = (4, None, 5);
    let outcome: Mut<'_, D, Outcome> = D::view_mut(outcome);
    let mut evidence = [match kind {
        0 => Evidence::Gradient { id, origin, elements, outcome },
        1 => Evidence::Unscaled { id, origin, elements, counts: D::view_mut(unscaled) },
        2 => Evidence::Squares { id, is_gradient: true, sum: D::view(squares) },
        3 => {
            Evidence::Weight { id, elements, saturates: true, outcome: D::Space::shared(&outcome) }
        }
        4 => Evidence::WeightSquares { id, sum: D::view(squares) },
        _ => {
            let (sum, line) = (D::view(loss), D::view_mut(line));
            Evidence::Loss { rows: 2, sum, serial: 1, line }
        }
    }];
    // What it says of another scaler is never looked at.
    let other = device.zeroed(1)?;
    let scaler = Operands::<D>::scaler(config, state, cells);
    let ended = Some(Ended {
        ending: Ending { origins: [None; MOST_ORIGINS], serial: 1, line: D::view_mut(last_line) },
        outcome: D::view_mut(last_outcome),
        histogram: D::view(histogram),
    });
    let (evidence, other) = (&mut evidence, Some(D::view(&other)));
    device.run(mutation.apply(Judge { ended, evidence, scaler, other }))
}

/// As [`check`], for descriptions of operands.
#[inline(never)]
pub(super) fn check_describe<D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    D: Memory,
    D: for<'r, 'w> Run<Describe<'r, 'w, <D as Device>::Space>>,
{
    let mut operands = Operands::new(bench.device)?;
    for is_product in [false, true] {
        bench.refuses_every_mutation(CASE, &mut |device, mutation| {
            let Operands { config, state, cells, statistics, .. } = &mut operands;
            let gradient = D::view(statistics);
            let described = if is_product {
                Described::Product { gradient, weight: D::view(statistics), fan_in: 3 }
            } else {
                Described::Cast(gradient)
            };
            let scaler = Operands::<D>::scaler(config, state, cells);
            device.run(mutation.apply(Describe { described, scaler }))
        })?;
    }
    operands.compare(bench.device)
}
