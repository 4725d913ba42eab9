//! The same recorded tensors give the same decisions on every device.

use adaloss_core::{
    apply::Apply,
    format::{Format, Noise, Overflow, Rounding, f16},
    policy::{self, Amax, Cell, Certificate, Config, Policy, Trigger, due, recover},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_hal::{Decide, Epilogue, Memory, Narrow, Plain, portable::Portable};

use crate::{
    memory::Accelerator,
    random::{Recorded, record},
};

const CELLS: usize = 24;
const VISITS: usize = 120;

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

/// A loop that keeps its cells on the device and decides there.
struct Loop<'d, D: Memory> {
    device: &'d mut D,
    config: Config,
    cells: Vec<D::Buffer<Cell>>,
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

impl<'d, D: Memory + Narrow<f16> + Decide> Loop<'d, D> {
    fn new(device: &'d mut D, config: Config) -> Result<Self, D::Error> {
        let mut cells = Vec::new();
        for _ in 0..CELLS {
            let mut cell = device.zeroed(1)?;
            device.write(&[config.cell()], D::view_mut(&mut cell))?;
            cells.push(cell);
        }
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

    /// Measures, decides, narrows, replays and takes note, all on the device.
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

        let (mut histogram, mut certificate) = (None, None);
        let before = fetch(self.device, D::view(&self.cells[*id]))?;
        if due(&self.config, &before).is_some() {
            let empty = [Histogram::new(self.config.narrowing())];
            self.device.write(&empty, D::view_mut(&mut self.histogram))?;
            run(self, Pass::Measure)?;
            let (seen, cell) = (D::view(&self.histogram), D::view_mut(&mut self.cells[*id]));
            self.device.decide(&self.config, seen, cell, D::view_mut(&mut self.certificate))?;
            histogram = Some(fetch(self.device, D::view(&self.histogram))?);
            certificate = Some(fetch(self.device, D::view(&self.certificate))?);
        }

        self.device.write(&[Outcome::EMPTY], D::view_mut(&mut self.outcome))?;
        run(self, Pass::Store)?;
        let mut outcome = fetch(self.device, D::view(&self.outcome))?;
        let (seen, cell) = (D::view(&self.outcome), D::view_mut(&mut self.cells[*id]));
        self.device.note(&self.config, seen, D::view(&self.from), cell)?;
        let recovered = recovered(&self.config, &outcome, *incoming);
        if let Some(scale) = recovered {
            self.device.write(&[Cell::at(scale)], D::view_mut(&mut self.replay))?;
            self.device.write(&[Outcome::EMPTY], D::view_mut(&mut self.outcome))?;
            run(self, Pass::Replay)?;
            outcome = fetch(self.device, D::view(&self.outcome))?;
        }

        let mut bits = vec![f16::ZERO; values.len()];
        self.device.read(D::view(&narrowed), &mut bits)?;
        let narrowed = bits.into_iter().map(f16::to_bits).collect();
        let cell = fetch(self.device, D::view(&self.cells[*id]))?.to_bytes();
        let replayed = recovered.is_some();
        Ok(Visit { narrowed, outcome, histogram, certificate, replayed, cell })
    }

    fn apply(
        &mut self,
        pass: Pass,
        id: usize,
        values: D::Ref<'_, f32>,
        to: D::Mut<'_, f16>,
        stream: u32,
    ) -> Result<(), D::Error> {
        let epilogue = Epilogue {
            from: D::view(&self.from),
            to: D::view(if pass == Pass::Replay { &self.replay } else { &self.cells[id] }),
            narrowing: self.config.narrowing(),
            noise: Noise { seed: self.config.seed(), stream },
            stores: pass != Pass::Measure,
            outcome: D::view_mut(&mut self.outcome),
            histogram: (pass == Pass::Measure).then(|| D::view_mut(&mut self.histogram)),
        };
        self.device.apply(values, to, epilogue)
    }
}

/// Reads one value.
fn fetch<T: Plain, D: Memory>(device: &mut D, from: D::Ref<'_, T>) -> Result<T, D::Error> {
    let mut value = [T::zeroed()];
    device.read(from, &mut value)?;
    Ok(value[0])
}

/// Returns the scale at which a tensor is replayed, if it has to be.
fn recovered(config: &Config, outcome: &Outcome, incoming: Scale) -> Option<Scale> {
    let is_fatal = outcome.overflow > 0 && config.narrowing().overflow == Overflow::Infinity;
    recover(config, outcome, incoming).filter(|_| is_fatal)
}

/// The same visit in the core alone.
fn visit_in_core(config: &Config, recorded: &Recorded, stream: u32, cell: &mut Cell) -> Visit {
    let Recorded { incoming, values, .. } = recorded;
    let (mut histogram, mut certificate) = (None, None);
    if due(config, cell).is_some() {
        let mut seen = Histogram::new(config.narrowing());
        seen.observe(values, *incoming);
        certificate = Some(policy::decide(config, &seen, cell));
        histogram = Some(seen);
    }
    let mut narrowed = vec![f16::ZERO; values.len()];
    let mut store = |scale: Scale| {
        let noise = Noise { seed: config.seed(), stream };
        let apply = Apply { narrowing: config.narrowing(), shift: scale / *incoming, noise };
        let mut outcome = Outcome::EMPTY;
        apply.slice(values, &mut narrowed, 0, &mut outcome).expect("as long as the values");
        outcome
    };
    let mut outcome = store(cell.scale());
    policy::note(config, &outcome, *incoming, cell);
    let recovered = recovered(config, &outcome, *incoming);
    if let Some(scale) = recovered {
        outcome = store(scale);
    }
    let narrowed = narrowed.into_iter().map(f16::to_bits).collect();
    let (replayed, cell) = (recovered.is_some(), cell.to_bytes());
    Visit { narrowed, outcome, histogram, certificate, replayed, cell }
}

/// Runs recorded tensors through the core and two devices, and returns the triggers that decided.
fn compare(config: Config, seed: u64) -> Vec<Trigger> {
    let (mut portable, mut accelerator) = (Portable, Accelerator::new());
    let mut on_portable = Loop::new(&mut portable, config).expect("memory");
    let mut on_accelerator = Loop::new(&mut accelerator, config).expect("memory");
    let mut in_core = [config.cell(); CELLS];
    let mut triggers = Vec::new();
    for (stream, recorded) in (0..).zip(record(seed, CELLS, VISITS)) {
        let expected = visit_in_core(&config, &recorded, stream, &mut in_core[recorded.cell]);
        let policy = config.policy().name();
        let found = on_portable.visit(&recorded, stream).expect("no error");
        assert_eq!(found, expected, "{policy}, visit {stream}, portable");
        let found = on_accelerator.visit(&recorded, stream).expect("no error");
        assert_eq!(found, expected, "{policy}, visit {stream}, accelerator");
        triggers.extend(expected.certificate.map(|certificate| certificate.trigger));
        triggers.extend(expected.replayed.then_some(Trigger::None)); // stands for a replay
    }
    triggers
}

fn measured() -> Config {
    Config::for_format(Format::BINARY16)
}

#[test]
fn measured_decisions_are_the_same_bits() {
    let triggers = compare(measured(), 1);
    use Trigger::{Empty, First, None, Overflow, Period, Underflow};
    for trigger in [First, Period, Empty, Overflow, Underflow, None] {
        let times = triggers.iter().filter(|&&t| t == trigger).count();
        assert!(times > 3, "{trigger:?} decided {times} times");
    }
}

#[test]
fn decisions_at_every_visit_in_a_flushing_format_are_the_same_bits() {
    let config = Config::for_format(Format::BINARY16.flushing());
    compare(config.with_period(1).expect("a period"), 2);
}

#[test]
fn saturating_and_stochastic_decisions_are_the_same_bits() {
    compare(measured().with_overflow(Overflow::Saturate).with_rounding(Rounding::Stochastic, 9), 3);
}

#[test]
fn amax_decisions_are_the_same_bits() {
    for (window, margin) in [(1, 0), (7, 1), (60, 0)] {
        let policy = Policy::Amax(Amax { window, margin });
        let config = measured().with_policy(policy).and_then(|config| config.with_period(3));
        let triggers = compare(config.expect("a legal policy"), 4);
        assert!(triggers.contains(&Trigger::Overflow) && triggers.contains(&Trigger::None));
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
