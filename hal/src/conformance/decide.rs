//! `decide` and `note`: every policy, through the life of a cell.

use adaloss_core::{
    apply::Apply,
    format::{Format, Noise, Overflow, Rounding},
    policy::{
        self, Amax, Backoff, Cell, Certificate, Config, ConfigError, Policy, Preset, Recovery,
    },
    scale::Scale,
    statistics::{Histogram, Outcome},
};

use super::{
    Case, Failure,
    bench::Bench,
    compare,
    tensor::{download, read_one},
    values,
};
use crate::{Decide, ErrorKind, Memory, Plain};

/// Visits of a cell, enough for every trigger and for a window of maxima to run over.
const VISITS: u32 = 120;

pub(super) fn check<D: Memory + Decide>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    let mut memory = DeviceMemory::new(Case::new("zeroed", 1), bench.device)?;
    let formats = [Format::BINARY16, Format::BFLOAT16, Format::E5M2, Format::E4M3];
    for (nth, format) in formats.iter().flat_map(|&f| [f, f.flushing()]).enumerate() {
        for config in configurations(format) {
            check_life(bench, &mut memory, &config, nth as u32)?;
        }
    }
    check_refusals(bench)
}

/// One configuration per policy, and the ones that change what a policy sees.
///
/// No parameter is out of range; were one, its configuration would be left out.
pub(super) fn configurations(format: Format) -> impl Iterator<Item = Config> {
    let configs = all_configurations(format);
    debug_assert!(configs.iter().all(Result::is_ok));
    configs.into_iter().flatten()
}

fn all_configurations(format: Format) -> [Result<Config, ConfigError>; 9] {
    let measured = Config::for_format(format);
    let amax = |window, margin| {
        measured.with_policy(Policy::Amax(Amax { window, margin }))?.with_period(1)
    };
    [
        Ok(measured),
        measured.with_period(3),
        Ok(measured.with_overflow(Overflow::Infinity).with_recovery(Recovery::Skip)),
        Ok(measured.with_rounding(Rounding::TowardZero, 0)),
        Ok(measured.with_rounding(Rounding::Stochastic, 7)),
        amax(5, 1),
        amax(64, 0),
        measured.with_policy(Policy::Backoff(Backoff::GRAD_SCALER)),
        Ok(Config::preset(Preset::Paper, format)),
    ]
}

/// What a decision takes and gives, on the device.
struct DeviceMemory<D: Memory> {
    histogram: D::Buffer<Histogram>,
    cell: D::Buffer<Cell>,
    certificate: D::Buffer<Certificate>,
    outcome: D::Buffer<Outcome>,
    from: D::Buffer<Cell>,
}

impl<D: Memory> DeviceMemory<D> {
    fn new(case: Case, device: &mut D) -> Result<Self, Failure> {
        Ok(Self {
            histogram: case.succeeds(device.zeroed(1))?,
            cell: case.succeeds(device.zeroed(1))?,
            certificate: case.succeeds(device.zeroed(1))?,
            outcome: case.succeeds(device.zeroed(1))?,
            from: case.succeeds(device.zeroed(1))?,
        })
    }
}

/// Takes a cell through many visits, on the device and in the core.
fn check_life<D: Memory + Decide>(
    bench: &mut Bench<'_, D>,
    memory: &mut DeviceMemory<D>,
    config: &Config,
    stream: u32,
) -> Result<(), Failure> {
    let start = Case::new(config.policy().name(), 0);
    let mut cell = config.cell();
    start.succeeds(bench.device.write(&[cell], D::view_mut(&mut memory.cell)))?;
    for visit in 0..VISITS {
        let tensor = Tensor::new(stream, visit);
        let case = |check, to| {
            Case::narrowing(check, tensor.elements, config.narrowing(), (tensor.incoming, to))
        };
        if visit % 4 != 3 {
            // Every fourth visit narrows without a decision, so that cells age and pull triggers.
            let case = case("decide", cell.scale());
            let histogram = tensor.histogram(config);
            let device = &mut *bench.device;
            case.succeeds(device.write(&[histogram], D::view_mut(&mut memory.histogram)))?;
            case.succeeds(device.decide(
                config,
                D::view(&memory.histogram),
                D::view_mut(&mut memory.cell),
                D::view_mut(&mut memory.certificate),
            ))?;
            let certificate = policy::decide(config, &histogram, &mut cell);
            let found = read_one(case, device, D::view(&memory.certificate))?;
            compare::certificates(case, &certificate, &found)?;
            compare::cells(case, &cell, &read_one(case, device, D::view(&memory.cell))?)?;
            let found = read_one(case, device, D::view(&memory.histogram))?;
            compare::histograms(case, &histogram, &found)?;
            bench.report.operations += 1;
        }
        let case = case("note", cell.scale());
        let outcome = tensor.outcome(config, cell.scale());
        let device = &mut *bench.device;
        case.succeeds(device.write(&[outcome], D::view_mut(&mut memory.outcome)))?;
        let incoming = [Cell::at(tensor.incoming)];
        case.succeeds(device.write(&incoming, D::view_mut(&mut memory.from)))?;
        case.succeeds(device.note(
            config,
            D::view(&memory.outcome),
            D::view(&memory.from),
            D::view_mut(&mut memory.cell),
        ))?;
        policy::note(config, &outcome, tensor.incoming, &mut cell);
        compare::cells(case, &cell, &read_one(case, device, D::view(&memory.cell))?)?;
        bench.report.operations += 1;
        bench.report.elements += tensor.elements as u64;
    }
    Ok(())
}

/// The f32 results of one visit, as a function.
pub(super) struct Tensor {
    pub(super) stream: u32,
    pub(super) elements: usize,
    pub(super) incoming: Scale,
    center: i32,
    spread: i32,
    /// How often the counts are doubled: tensors have more elements than anyone waits for here.
    doublings: u32,
}

impl Tensor {
    /// The most elements.
    pub(super) const MOST: usize = 300;

    pub(super) fn new(stream: u32, visit: u32) -> Self {
        let pick = values::word(stream, visit as usize);
        let (kind, size) = (pick % 16, (pick >> 4) as usize % Self::MOST);
        let incoming = Scale::saturating((pick >> 16) as i32 % 41 - 20);
        // A drifting centre, with a jump now and then.
        let drift = (values::word(stream ^ 0xffff, visit as usize / 30) % 121) as i32 - 100;
        let (elements, center, spread, doublings) = match kind {
            0 => (0, 0, 0, 0),
            1 => (size, i32::MIN, 0, 0),
            2 => (size + 1, i32::MAX, 10, 0),
            3 => (size, drift, 60, 3),
            4 => (size, 0, 120, 0),
            5 => (size, drift, 2, 40),
            6 => (1, drift, 0, 0),
            _ => (size, drift, 8, 0),
        };
        Self { stream: stream << 16 | visit, elements, incoming, center, spread, doublings }
    }

    pub(super) fn value(&self, index: usize) -> f32 {
        match self.center {
            i32::MIN => 0.0,
            i32::MAX if index == self.elements / 2 => f32::NEG_INFINITY,
            i32::MAX => values::random(self.stream, index, -self.spread, self.spread),
            center => {
                let low = (center - self.spread).max(-149);
                values::random(self.stream, index, low, (center + self.spread).clamp(low, 127))
            }
        }
    }

    /// Returns the histogram of its elements, none of them counted twice.
    pub(super) fn histogram_once(&self, config: &Config) -> Histogram {
        let mut histogram = Histogram::new(config.narrowing());
        (0..self.elements).for_each(|i| histogram.observe_one(self.value(i), self.incoming));
        histogram
    }

    fn histogram(&self, config: &Config) -> Histogram {
        let mut histogram = self.histogram_once(config);
        for _ in 0..self.doublings {
            let same = histogram;
            let merged = histogram.merge(&same);
            debug_assert_eq!(merged, Ok(()));
        }
        histogram
    }

    /// Returns how it is narrowed to a scale.
    pub(super) fn apply(&self, config: &Config, leaving: Scale) -> Apply {
        let noise = Noise { seed: config.seed(), stream: self.stream };
        Apply { narrowing: config.narrowing(), shift: leaving / self.incoming, noise }
    }

    fn outcome(&self, config: &Config, leaving: Scale) -> Outcome {
        let apply = self.apply(config, leaving);
        let mut outcome = Outcome::EMPTY;
        for index in 0..self.elements {
            apply.element(self.value(index), index as u32, &mut outcome);
        }
        outcome
    }
}

/// Anything but one element; nothing may be written.
fn check_refusals<D: Memory + Decide>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    let config = Config::for_format(Format::BINARY16);
    let case = Case::new("decide and note with other lengths", 1);
    let device = &mut *bench.device;
    let mut seen = case.succeeds(device.zeroed::<Histogram>(2))?;
    let mut histogram = Histogram::new(config.narrowing());
    histogram.observe(&[1.0e-6, 1.0e-4], Scale::ONE);
    case.succeeds(device.write(&[histogram; 2], D::view_mut(&mut seen)))?;
    let outcome = case.succeeds(device.zeroed::<Outcome>(2))?;
    let from = case.succeeds(device.zeroed::<Cell>(2))?;
    let mut cells = case.succeeds(device.zeroed::<Cell>(2))?;
    case.succeeds(device.write(&[Cell::new(); 2], D::view_mut(&mut cells)))?;
    let mut certificates = case.succeeds(device.zeroed::<Certificate>(2))?;

    // How many histograms or outcomes, cells, and certificates or incoming cells.
    for (one, two, three) in [(0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)] {
        let cell = case.finds(D::part_mut(D::view_mut(&mut cells), 0..two))?;
        let certificate = case.finds(D::part_mut(D::view_mut(&mut certificates), 0..three))?;
        let seen = case.finds(D::part(D::view(&seen), 0..one))?;
        let result = bench.device.decide(&config, seen, cell, certificate);
        bench.refused(case, ErrorKind::Shape, result)?;

        let cell = case.finds(D::part_mut(D::view_mut(&mut cells), 0..two))?;
        let outcome = case.finds(D::part(D::view(&outcome), 0..one))?;
        let from = case.finds(D::part(D::view(&from), 0..three))?;
        let result = bench.device.note(&config, outcome, from, cell);
        bench.refused(case, ErrorKind::Shape, result)?;
    }
    download(case, bench.device, D::view(&cells), &mut |_, found| {
        compare::cells(case, &Cell::new(), &found)
    })?;
    download(case, bench.device, D::view(&certificates), &mut |_, found: Certificate| {
        compare::certificates(case, &Certificate::zeroed(), &found)
    })
}
