//! `certify`, `note` and `finish`: every policy, through the life of a cell, and over slices of cells.

use adaloss_core::{
    apply::Apply,
    format::{Format, Noise, Overflow, Rounding},
    policy::{
        self, Amax, Backoff, Cell, Certificate, Config, ConfigError, Fraction, Measured, Policy,
        Preset, Recovery, Seen,
    },
    scale::Scale,
    statistics::{Histogram, Outcome},
};

use super::{
    Case, Failure,
    bench::Bench,
    compare,
    tensor::{self, download, read_one, upload},
    values,
};
use adaloss_hal::{AddressSpace, Certify, Finish, HasDecide, Memory, Note, Plain};

/// Visits of a cell, enough for every trigger and for a window of maxima to run over.
const VISITS: u32 = 120;

/// Cells of a model: more than a device has threads in a block.
const CELLS: usize = 1100;

/// Where slices of cells begin and how long they are: none, one, and lengths around those of blocks.
///
/// One less than there are configurations, so that each meets others in each format.
const SLICES: [(usize, usize); 12] = [
    (0, CELLS),
    (0, 0),
    (7, 1),
    (3, 2),
    (0, 31),
    (1, 33),
    (CELLS - 127, 127),
    (16, 128),
    (CELLS, 0),
    (9, 257),
    (100, 513),
    (1, CELLS - 1),
];

pub(super) fn check<D: Memory + HasDecide>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    let mut memory = DeviceMemory::new(Case::new("zeroed", 1), bench.device)?;
    let formats = [Format::BINARY16, Format::BFLOAT16, Format::E5M2, Format::E4M3];
    let mut slices = SLICES.iter().cycle();
    for (nth, format) in formats.iter().flat_map(|&f| [f, f.flushing()]).enumerate() {
        for config in configurations(format) {
            check_life(bench, &mut memory, &config, nth as u32)?;
        }
    }
    check_refusals(bench)?;
    let case = Case::new("finish", CELLS);
    let mut cells = tensor::Tensor::filled(case, bench.device, CELLS, |_| Cell::new())?;
    for (nth, format) in formats.iter().flat_map(|&f| [f, f.flushing()]).enumerate() {
        for (config, &(first, length)) in configurations(format).zip(&mut slices) {
            check_finish(bench, &mut cells, &config, nth as u32, (first, length))?;
        }
    }
    Ok(())
}

/// One configuration per policy, and the ones that change what a policy sees.
///
/// No parameter is out of range; were one, its configuration would be left out.
pub(super) fn configurations(format: Format) -> impl Iterator<Item = Config> {
    let configs = all_configurations(format);
    debug_assert!(configs.iter().all(Result::is_ok));
    configs.into_iter().flatten()
}

fn all_configurations(format: Format) -> [Result<Config, ConfigError>; 13] {
    let measured = Config::for_format(format);
    let paper = Config::preset(Preset::Paper, format);
    let little_headroom = || {
        let tolerance = Fraction::new(0.25)?;
        measured.with_policy(Policy::Measured(Measured { tolerance, most_headroom: 1 }))
    };
    let amax = |window, margin| {
        measured.with_policy(Policy::Amax(Amax { window, margin }))?.with_period(1)
    };
    [
        Ok(measured),
        measured.with_period(3),
        Ok(measured.with_overflow(Overflow::Saturate)),
        measured.with_recovery(Recovery::Skip).with_period(Config::NEVER),
        little_headroom(),
        Ok(measured.with_rounding(Rounding::TowardZero, 0)),
        Ok(measured.with_rounding(Rounding::Stochastic, 7)),
        amax(5, 1),
        amax(64, 0),
        measured.with_policy(Policy::Fixed(Scale::saturating(5))),
        measured.with_policy(Policy::Backoff(Backoff::GRAD_SCALER)),
        Ok(paper),
        paper.with_recovery(Recovery::Replay).with_period(5),
    ]
}

/// What a visit takes and gives, on the device.
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
fn check_life<D: Memory + HasDecide>(
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
        if visit % 16 < 10 {
            // Some visits narrow without a certificate, so that cells age and pull triggers.
            let case = case("certify", cell.scale());
            // One is of another rounding, and says nothing.
            let measured = if visit == 9 { other_rounding(config) } else { *config };
            let histogram = tensor.histogram(&measured);
            let device = &mut *bench.device;
            case.succeeds(device.write(&[histogram], D::view_mut(&mut memory.histogram)))?;
            case.succeeds(device.run(Certify::<D::Space> {
                config,
                histogram: D::view(&memory.histogram),
                cell: D::view_mut(&mut memory.cell),
                certificate: D::view_mut(&mut memory.certificate),
            }))?;
            let certificate = policy::certify(config, &histogram, cell.scale(), &mut cell);
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
        case.succeeds(device.run(Note::<D::Space> {
            config,
            outcome: D::view(&memory.outcome),
            from: D::view(&memory.from),
            cell: D::view_mut(&mut memory.cell),
        }))?;
        let _ = policy::note(config, &outcome, tensor.incoming, &mut cell);
        compare::cells(case, &cell, &read_one(case, device, D::view(&memory.cell))?)?;
        bench.report.operations += 1;
        bench.report.elements += tensor.elements as u64;
        // Steps of one visit and of two take turns.
        if visit % 3 != 1 {
            let case = Case { check: "finish", ..case };
            let cells = D::view_mut(&mut memory.cell);
            case.succeeds(device.run(Finish::<D::Space> { config, cells }))?;
            policy::finish(config, &mut cell);
            compare::cells(case, &cell, &read_one(case, device, D::view(&memory.cell))?)?;
            bench.report.operations += 1;
        }
    }
    Ok(())
}

/// Returns a configuration whose histograms are not those of this one.
fn other_rounding(config: &Config) -> Config {
    match config.narrowing().rounding {
        Rounding::NearestEven => config.with_rounding(Rounding::TowardZero, 0),
        Rounding::TowardZero | Rounding::Stochastic => {
            config.with_rounding(Rounding::NearestEven, 0)
        }
    }
}

/// Ends a step of a slice of cells; those beside it are left alone.
fn check_finish<D: Memory + HasDecide>(
    bench: &mut Bench<'_, D>,
    cells: &mut tensor::Tensor<D, Cell>,
    config: &Config,
    stream: u32,
    (first, length): (usize, usize),
) -> Result<(), Failure> {
    let case = Case::new("finish", length);
    let device = &mut *bench.device;
    let before = |place: usize| cell_in_a_step(config, stream, place);
    upload(case, device, cells.whole_mut(), &before)?;
    // The guard at the front is the first place.
    let slice = 1 + first..1 + first + length;
    let part = case.finds(D::Space::part_mut(cells.whole_mut(), slice.clone()))?;
    case.succeeds(device.run(Finish::<D::Space> { config, cells: part }))?;
    download(case, device, cells.whole(), &mut |place, found| {
        let mut expected = before(place);
        if slice.contains(&place) {
            policy::finish(config, &mut expected);
        }
        compare::cells(case, &expected, &found)
    })?;
    bench.report.operations += 1;
    bench.report.elements += length as u64;
    Ok(())
}

/// Returns a cell that has some steps behind it and one to end, a pure function of its place.
fn cell_in_a_step(config: &Config, stream: u32, place: usize) -> Cell {
    let mut cell = config.cell();
    for step in 0..=place % 7 {
        if step > 0 {
            policy::finish(config, &mut cell);
        }
        let pick = values::word(stream << 8 | step as u32, place);
        let magnitude = values::random(pick, place, -60, 20).abs();
        let outcome = Outcome {
            elements: 2,
            nonfinite: u64::from(pick.is_multiple_of(16)),
            overflow: u64::from(pick % 4 == 1),
            max_bits: if pick % 8 == 2 { 0 } else { magnitude.to_bits() },
            ..Outcome::EMPTY
        };
        if pick % 8 != 3 {
            let incoming = Scale::saturating((pick >> 16) as i32 % 41 - 20);
            let _ = policy::note(config, &outcome, incoming, &mut cell);
        }
        if pick % 8 == 4 {
            cell.sums_overflowed();
        }
        if pick % 8 == 5 {
            // What other machines saw.
            let mut seen = Seen { ceiling: (pick >> 24) as i8, visited: true, ..Seen::NOTHING };
            seen.merge(&cell.seen());
            cell.set_seen(seen);
        }
    }
    cell
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

    /// Returns what becomes of its elements at a scale.
    pub(super) fn outcome(&self, config: &Config, leaving: Scale) -> Outcome {
        let apply = self.apply(config, leaving);
        let mut outcome = Outcome::EMPTY;
        for index in 0..self.elements {
            apply.element(self.value(index), index as u64, &mut outcome);
        }
        outcome
    }
}

/// Anything but one element; nothing may be written.
fn check_refusals<D: Memory + HasDecide>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    let config = &Config::for_format(Format::BINARY16);
    let case = Case::new("certify and note with other lengths", 1);
    let device = &mut *bench.device;
    let mut memory = DeviceMemory::new(case, device)?;
    let mut histogram = Histogram::new(config.narrowing());
    histogram.observe(&[1.0e-6, 1.0e-4], Scale::ONE);
    case.succeeds(device.write(&[histogram], D::view_mut(&mut memory.histogram)))?;
    case.succeeds(device.write(&[Cell::new()], D::view_mut(&mut memory.cell)))?;
    bench.refuses_every_mutation(case, &mut |device, mutation| {
        device.run(mutation.apply(Certify::<D::Space> {
            config,
            histogram: D::view(&memory.histogram),
            cell: D::view_mut(&mut memory.cell),
            certificate: D::view_mut(&mut memory.certificate),
        }))
    })?;
    bench.refuses_every_mutation(case, &mut |device, mutation| {
        device.run(mutation.apply(Note::<D::Space> {
            config,
            outcome: D::view(&memory.outcome),
            from: D::view(&memory.from),
            cell: D::view_mut(&mut memory.cell),
        }))
    })?;
    let device = &mut *bench.device;
    compare::cells(case, &Cell::new(), &read_one(case, device, D::view(&memory.cell))?)?;
    let found = read_one(case, device, D::view(&memory.certificate))?;
    compare::certificates(case, &Certificate::zeroed(), &found)
}
