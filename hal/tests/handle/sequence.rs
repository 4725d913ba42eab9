//! The same recorded tensors give the same scales and certificates on every device.

use adaloss_core::{
    apply::Apply,
    format::{Format, Noise, Overflow, Rounding, f16},
    policy::{self, Amax, Cell, Certificate, Config, Policy, Recovery, Trigger, due},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_hal::{
    AddressSpace, Certify, Epilogue, Finish, HasDecide, HasNarrow, Memory, Mut, Narrow, Note,
    Plain, Ref, portable::Portable,
};

use crate::{
    memory::Accelerator,
    random::{Recorded, record},
};

const CELLS: usize = 24;
const ROUNDS: usize = 120;

/// All that one visit of a tensor left behind.
#[derive(Clone, Debug, PartialEq)]
struct Visit {
    narrowed: Vec<u16>,
    outcome: Outcome,
    histogram: Option<Histogram>,
    certificate: Option<Certificate>,
    replayed: bool,
    cell: [u8; Cell::BYTES],
}

/// A loop that keeps its cells on the device, which decides there; the host looks on, and replays.
struct Loop<'d, D: Memory> {
    device: &'d mut D,
    config: Config,
    cells: D::Buffer<Cell>,
    from: D::Buffer<Cell>,
    replay: D::Buffer<Cell>,
    outcome: D::Buffer<Outcome>,
    histogram: D::Buffer<Histogram>,
    certificate: D::Buffer<Certificate>,
}

/// What one run over a tensor is for.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Measure,
    Store,
    Replay,
}

impl<'d, D: Memory + HasNarrow<f16> + HasDecide> Loop<'d, D> {
    fn new(device: &'d mut D, config: Config) -> Result<Self, D::Error> {
        let mut cells = device.zeroed(CELLS)?;
        device.write(&[config.cell(); CELLS], D::view_mut(&mut cells))?;
        Ok(Self {
            config,
            cells,
            from: device.zeroed(1)?,
            replay: device.zeroed(1)?,
            outcome: device.zeroed(1)?,
            histogram: device.zeroed(1)?,
            certificate: device.zeroed(1)?,
            device,
        })
    }

    /// Measures, narrows, takes note, narrows once more and certifies, all on the device.
    fn visit(&mut self, recorded: &Recorded, stream: u32) -> Result<Visit, D::Error> {
        let Recorded { cell: id, incoming, values } = recorded;
        let mut uploaded = self.device.zeroed(values.len())?;
        let mut narrowed = self.device.zeroed::<f16>(values.len())?;
        self.device.write(values, D::view_mut(&mut uploaded))?;
        self.device.write(&[Cell::at(*incoming)], D::view_mut(&mut self.from))?;
        let mut run = |this: &mut Self, pass| {
            let to = D::view_mut(&mut narrowed);
            this.apply(pass, *id, D::view(&uploaded), to, stream)
        };

        let before = fetch(self.device, cell_of::<D>(&self.cells, *id))?;
        let certifies = due(&self.config, &before).is_some();
        if certifies {
            let empty = [Histogram::new(self.config.narrowing())];
            self.device.write(&empty, D::view_mut(&mut self.histogram))?;
            run(self, Pass::Measure)?;
        }
        self.device.write(&[Outcome::EMPTY], D::view_mut(&mut self.outcome))?;
        run(self, Pass::Store)?;
        let mut outcome = fetch(self.device, D::view(&self.outcome))?;
        self.device.run(Note::<D::Space> {
            config: &self.config,
            outcome: D::view(&self.outcome),
            from: D::view(&self.from),
            cell: cell_of_mut::<D>(&mut self.cells, *id),
        })?;
        let again = policy::note(&self.config, &outcome, *incoming, &mut before.clone());
        if let Some(scale) = again {
            self.device.write(&[Cell::at(scale)], D::view_mut(&mut self.replay))?;
            self.device.write(&[Outcome::EMPTY], D::view_mut(&mut self.outcome))?;
            run(self, Pass::Replay)?;
            outcome = fetch(self.device, D::view(&self.outcome))?;
        }
        let (mut histogram, mut certificate) = (None, None);
        if certifies {
            self.device.run(Certify::<D::Space> {
                config: &self.config,
                histogram: D::view(&self.histogram),
                cell: cell_of_mut::<D>(&mut self.cells, *id),
                certificate: D::view_mut(&mut self.certificate),
            })?;
            histogram = Some(fetch(self.device, D::view(&self.histogram))?);
            certificate = Some(fetch(self.device, D::view(&self.certificate))?);
        }

        let mut bits = vec![f16::ZERO; values.len()];
        self.device.read(D::view(&narrowed), &mut bits)?;
        let narrowed = bits.into_iter().map(f16::to_bits).collect();
        let cell = fetch(self.device, cell_of::<D>(&self.cells, *id))?.to_bytes();
        let replayed = again.is_some() && before.is_calibrated();
        Ok(Visit { narrowed, outcome, histogram, certificate, replayed, cell })
    }

    /// Ends a step of all cells at once, and reads them.
    fn finish(&mut self) -> Result<[Cell; CELLS], D::Error> {
        let (config, cells) = (&self.config, D::view_mut(&mut self.cells));
        self.device.run(Finish::<D::Space> { config, cells })?;
        let mut cells = [Cell::zeroed(); CELLS];
        self.device.read(D::view(&self.cells), &mut cells).map(|()| cells)
    }

    fn apply(
        &mut self,
        pass: Pass,
        id: usize,
        values: Ref<'_, D, f32>,
        mut to: Mut<'_, D, f16>,
        stream: u32,
    ) -> Result<(), D::Error> {
        let mut epilogue = Epilogue {
            from: D::view(&self.from),
            to: match pass {
                Pass::Replay => D::view(&self.replay),
                Pass::Measure | Pass::Store => cell_of::<D>(&self.cells, id),
            },
            narrowing: self.config.narrowing(),
            noise: Noise { seed: self.config.seed(), stream },
            stores: pass != Pass::Measure,
            outcome: D::view_mut(&mut self.outcome),
            histogram: (pass == Pass::Measure).then(|| D::view_mut(&mut self.histogram)),
        };
        let (to, epilogue) = (D::Space::reborrow_mut(&mut to), epilogue.reborrow());
        self.device.run(Narrow { input: values, to, epilogue })
    }
}

/// Reads one value.
fn fetch<T: Plain, D: Memory>(device: &mut D, from: Ref<'_, D, T>) -> Result<T, D::Error> {
    let mut value = [T::zeroed()];
    device.read(from, &mut value)?;
    Ok(value[0])
}

/// Names one cell.
fn cell_of<D: Memory>(cells: &D::Buffer<Cell>, id: usize) -> Ref<'_, D, Cell> {
    D::Space::part(D::view(cells), id..id + 1).expect("a cell")
}

/// Names one cell for writing.
fn cell_of_mut<D: Memory>(cells: &mut D::Buffer<Cell>, id: usize) -> Mut<'_, D, Cell> {
    D::Space::part_mut(D::view_mut(cells), id..id + 1).expect("a cell")
}

/// The same visit in the core alone.
fn visit_in_core(config: &Config, recorded: &Recorded, stream: u32, cell: &mut Cell) -> Visit {
    let Recorded { incoming, values, .. } = recorded;
    let (certifies, was_calibrated) = (due(config, cell).is_some(), cell.is_calibrated());
    let mut narrowed = vec![f16::ZERO; values.len()];
    let mut store = |scale: Scale| {
        let noise = Noise { seed: config.seed(), stream };
        let apply = Apply { narrowing: config.narrowing(), shift: scale / *incoming, noise };
        let mut outcome = Outcome::EMPTY;
        apply.slice(values, &mut narrowed, 0, &mut outcome).expect("as long as the values");
        outcome
    };
    let mut outcome = store(cell.scale());
    let again = policy::note(config, &outcome, *incoming, cell);
    if let Some(scale) = again {
        outcome = store(scale);
    }
    let (mut histogram, mut certificate) = (None, None);
    if certifies {
        let mut seen = Histogram::new(config.narrowing());
        seen.observe(values, *incoming);
        certificate = Some(policy::certify(config, &seen, cell.scale(), cell));
        histogram = Some(seen);
    }
    let narrowed = narrowed.into_iter().map(f16::to_bits).collect();
    let (replayed, cell) = (again.is_some() && was_calibrated, cell.to_bytes());
    Visit { narrowed, outcome, histogram, certificate, replayed, cell }
}

/// What happened in a run, so that a test can tell that it is about something.
#[derive(Debug, Default)]
struct Happened {
    first: u32,
    period: u32,
    replays: u32,
    /// Scales that were another one after a step.
    moves: u32,
}

/// Runs recorded tensors through the core and two devices, and returns what happened.
fn compare(config: Config, seed: u64) -> Happened {
    let (mut portable, mut accelerator) = (Portable, Accelerator::new());
    let mut on_portable = Loop::new(&mut portable, config).expect("memory");
    let mut on_accelerator = Loop::new(&mut accelerator, config).expect("memory");
    let mut in_core = [config.cell(); CELLS];
    let (mut happened, policy) = (Happened::default(), config.policy().name());
    let recorded = record(seed, CELLS, ROUNDS);
    for (round, recorded) in recorded.chunks(CELLS).enumerate() {
        for (stream, recorded) in (round as u32 * 100..).zip(recorded) {
            let expected = visit_in_core(&config, recorded, stream, &mut in_core[recorded.cell]);
            let found = on_portable.visit(recorded, stream).expect("no error");
            assert_eq!(found, expected, "{policy}, visit {stream}, portable");
            let found = on_accelerator.visit(recorded, stream).expect("no error");
            assert_eq!(found, expected, "{policy}, visit {stream}, accelerator");
            happened.replays += u32::from(expected.replayed);
            match expected.certificate.map(|certificate| certificate.trigger) {
                Some(Trigger::First) => happened.first += 1,
                Some(Trigger::Period) => happened.period += 1,
                _ => {}
            }
        }
        // Steps of one visit of each cell and of two take turns.
        if round % 3 != 1 {
            for cell in &mut in_core {
                let before = cell.scale();
                policy::finish(&config, cell);
                happened.moves += u32::from(cell.scale() != before);
            }
            assert_eq!(on_portable.finish(), Ok(in_core), "{policy}, round {round}, portable");
            let found = on_accelerator.finish().expect("no error");
            assert_eq!(found, in_core, "{policy}, round {round}, accelerator");
        }
    }
    happened
}

fn measured() -> Config {
    Config::for_format(Format::BINARY16)
}

#[test]
fn measured_decisions_are_the_same_bits() {
    let happened = compare(measured().with_period(7).expect("a period"), 1);
    assert_eq!(happened.first, CELLS as u32);
    assert!(happened.period > 100 && happened.replays > 20, "{happened:?}");
    assert!(happened.moves > 300, "{happened:?}");
}

#[test]
fn decisions_in_a_flushing_format_without_certificates_are_the_same_bits() {
    let config = Config::for_format(Format::BINARY16.flushing());
    let happened = compare(config.with_period(Config::NEVER).expect("a period"), 2);
    assert_eq!(happened.first + happened.period, 0);
    assert!(happened.replays > 20 && happened.moves > 300, "{happened:?}");
}

#[test]
fn saturating_and_stochastic_decisions_are_the_same_bits() {
    let config = measured().with_rounding(Rounding::Stochastic, 9);
    let happened = compare(config.with_overflow(Overflow::Saturate), 3);
    assert!(happened.replays == 0 && happened.moves > 100, "{happened:?}");
    let happened = compare(config.with_recovery(Recovery::Skip), 3);
    assert!(happened.replays == 0 && happened.moves > 100, "{happened:?}");
}

#[test]
fn amax_decisions_are_the_same_bits() {
    for (window, margin) in [(1, 0), (7, 1), (60, 0)] {
        let policy = Policy::Amax(Amax { window, margin });
        let config = measured().with_policy(policy).and_then(|config| config.with_period(3));
        let happened = compare(config.expect("a legal policy"), 4);
        assert!(happened.period > 100 && happened.replays > 20, "{happened:?}");
    }
}

#[test]
fn histograms_merge_in_any_order_to_the_same_bits() {
    let recorded = record(5, 8, 8);
    let parts: Vec<Histogram> = recorded
        .iter()
        .map(|recorded| {
            let mut part = Histogram::new(measured().narrowing());
            part.observe(&recorded.values, recorded.incoming);
            part
        })
        .collect();
    let merge = |mut into: Histogram, part: &Histogram| {
        into.merge(part).expect("one format");
        into
    };
    let empty = Histogram::new(measured().narrowing());
    let forwards = parts.iter().fold(empty, merge);
    let backwards = parts.iter().rev().fold(empty, merge);
    let halves = parts.chunks(7).map(|half| half.iter().fold(empty, merge));
    let pairwise = halves.rev().fold(empty, |into, half| merge(half, &into));
    assert_eq!(forwards, backwards);
    assert_eq!(forwards, pairwise);
}
