//! Random steps of scalers that live on a device, and all that they leave behind: the same on any device.
//!
//! Gradients are small integers times a power of two, so that products are the same in any order of their terms.  From step
//! to step the power changes, and now and then something is not finite: there are first visits, overflows, replays, skipped
//! steps, and steps after which a run cannot go on.

use std::fmt;

use adaloss_core::{
    format::{Element, Format, Narrowing, Noise, Overflow, Rounding},
    policy::{Amax, Cell, Config, ConfigError, Policy},
    scaler::device::Line,
    statistics::Outcome,
    unscale::{LossSum, Unscaled},
};
use adaloss_hal::{
    AddressSpace, Branch, Device, Epilogue, HasMatmul, HasNarrow, Matmul, Memory, Mut, Narrow,
    Plain, Product, Propagate, Ref, Unscale,
    portable::Portable,
    scaler::{Carried, Engine, EngineError, Evidence, HasScaler, OpenVisit},
};

/// The layer: (rows x inner) (inner x columns).
const LAYER: Product = Product::new(9, 20, 7);

/// The gradient of its weight, from what came in, which is stored as it was: (inner x rows) (rows x columns).
const WEIGHT: Product = Product { transpose_a: true, ..Product::new(20, 9, 7) };

const INPUTS: usize = 9 * 20;
const WEIGHTS: usize = 20 * 7;
const RESULTS: usize = 9 * 7;

/// Visits of a step.
pub const VISITS: u32 = 6;

/// Steps whose lines are read together.
pub const AT_ONCE: usize = 4;

/// Room for the lines of so many steps: of each at most five visits, a loss and an end.
const LINES: usize = 7 * AT_ONCE;

/// What goes wrong, or right.
pub type Done<T, D> = Result<T, EngineError<<D as Device>::Error>>;

/// A product, as a function of its operands, its result and its epilogue.
type Multiply<D, F, T> = for<'a> fn(
    &mut D,
    [Ref<'a, D, F>; 2],
    Mut<'a, D, T>,
    Epilogue<'a, <D as Device>::Space>,
) -> Result<(), <D as Device>::Error>;

/// What a device multiplies: a layer's gradient, and that of its weight.
struct Products<D: Device, F: Plain>(Multiply<D, F, F>, Multiply<D, F, f32>);

/// A loss, a layer twice, their join and a further layer, with weight gradients; and a second loss with a scaler of its own, which
/// shares the weights.
pub struct Model<D: Memory, F: Plain> {
    seed: u32,
    engine: Engine<D>,
    second: Engine<D>,
    products: Option<Products<D, F>>,
    gradient: D::Buffer<f32>,
    results: D::Buffer<f32>,
    inputs: D::Buffer<F>,
    master: D::Buffer<f32>,
    weight: D::Buffer<F>,
    narrowed: D::Buffer<F>,
    layers: [D::Buffer<F>; 4],
    weight_gradient: D::Buffer<f32>,
    unscaled: D::Buffer<f32>,
    /// Of the weight gradient and of the weight.
    outcomes: [D::Buffer<Outcome>; 2],
    counts: D::Buffer<Unscaled>,
    sum: D::Buffer<LossSum>,
    squares: D::Buffer<f64>,
    /// The scale 2^0.
    one: D::Buffer<Cell>,
    carried: [Carried<D>; 6],
}

/// Returns configurations of every policy that a device decides without operands, and of one that decides joins.
///
/// # Errors
///
/// A parameter is impossible in this format.
pub fn configurations(format: Format) -> Result<Vec<Config>, ConfigError> {
    let measured = Config::for_format(format).with_period(3)?;
    let named =
        |name| Policy::named(name, format).map_or(Ok(measured), |of| measured.with_policy(of));
    Ok(vec![
        measured,
        measured.with_overflow(Overflow::Saturate).with_max_skips(1)?,
        measured.with_rounding(Rounding::Stochastic, 5),
        measured.with_policy(Policy::Amax(Amax { window: 4, margin: 1 }))?,
        named("backoff")?,
        named("fixed")?,
        named("range")?,
    ])
}

impl<F, D> Model<D, F>
where
    F: Element + Plain,
    D: Memory + HasNarrow<F> + HasNarrow<f32> + HasScaler,
{
    /// Makes a model whose layers narrow what they are given.
    ///
    /// # Errors
    ///
    /// The device's memory is exhausted.
    pub fn new(device: &mut D, config: Config, seed: u32) -> Done<Self, D> {
        let mut room = || Carried::new(device);
        let carried = [room()?, room()?, room()?, room()?, room()?, room()?];
        Ok(Self {
            seed,
            engine: Engine::new(device, config, 5, LINES)?,
            second: Engine::new(device, config, 1, LINES)?,
            products: None,
            gradient: device.zeroed(INPUTS)?,
            results: device.zeroed(RESULTS)?,
            inputs: device.zeroed(INPUTS)?,
            master: device.zeroed(WEIGHTS)?,
            weight: device.zeroed(WEIGHTS)?,
            narrowed: device.zeroed(INPUTS)?,
            layers: [
                device.zeroed(RESULTS)?,
                device.zeroed(RESULTS)?,
                device.zeroed(RESULTS)?,
                device.zeroed(RESULTS)?,
            ],
            weight_gradient: device.zeroed(WEIGHTS)?,
            unscaled: device.zeroed(RESULTS)?,
            outcomes: [device.zeroed(1)?, device.zeroed(1)?],
            counts: device.zeroed(1)?,
            sum: device.zeroed(1)?,
            squares: device.zeroed(1)?,
            one: device.zeroed(1)?,
            carried,
        })
    }

    /// Makes a model whose layers multiply, and whose weight gradient is a product.
    ///
    /// # Errors
    ///
    /// The device's memory is exhausted.
    pub fn with_products(device: &mut D, config: Config, seed: u32) -> Done<Self, D>
    where
        D: HasMatmul<F, F, F> + HasMatmul<F, F, f32>,
    {
        let products = Products::<D, F>(
            |device, [a, b], to, epilogue| {
                device.run(Matmul { product: LAYER, a, b, bias: None, to, epilogue })
            },
            |device, [a, b], to, epilogue| {
                device.run(Matmul { product: WEIGHT, a, b, bias: None, to, epilogue })
            },
        );
        Ok(Self { products: Some(products), ..Self::new(device, config, seed)? })
    }

    /// Takes a step, with numbers of the seed and of the step's own.
    ///
    /// # Errors
    ///
    /// There is no room for lines, or the device failed.
    pub fn step(&mut self, device: &mut D, step: u32) -> Done<(), D> {
        self.write(device, step)?;
        self.compute(device)
    }

    /// Does all of a step but to write what it computes from: what can be captured.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    pub fn compute(&mut self, device: &mut D) -> Done<(), D> {
        self.narrow_weight(device)?;
        self.visits(device)?;
        self.judge(device)?;
        self.second.conclude(device, None)?;
        self.engine.conclude(device, Some(&self.second))
    }

    /// Writes what a step computes from.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn write(&mut self, device: &mut D, step: u32) -> Done<(), D> {
        let event = Noise { seed: self.seed, stream: step }.word(u32::MAX);
        // Some first steps are the same, so that a scale settles.
        let event = if step < 3 { 0 } else { event };
        let is = |share: u32, what: u32| event / share % 16 == what;
        let log2 = match event % 8 {
            1 => -10,
            2 => -34,
            // In binary16 the layer's results are finite at scale 2^0, and their sum is not.
            5 => 8,
            _ => -24,
        };
        let random = |stream: u32, count: usize| self.integers(16 * step + stream, count);
        let scaled = |values: Vec<f32>, log2: i32| -> Vec<f32> {
            values.into_iter().map(|x| x * 2.0_f32.powi(log2)).collect()
        };
        let mut gradient = scaled(random(0, INPUTS), log2);
        let results = scaled(random(1, RESULTS), 2 * log2 / 3);
        let (inputs, mut master) = (random(2, INPUTS), random(3, WEIGHTS));
        let mut inputs: Vec<F> =
            inputs.iter().map(|&x| F::narrow(x, narrowing::<F>(), 0, 0)).collect();
        if is(8, 3) {
            gradient[5] = f32::NAN;
        }
        if is(128, 3) {
            inputs[7] = F::narrow(f32::INFINITY, narrowing::<F>(), 0, 0);
        }
        if is(1 << 11, 3) && event.is_multiple_of(2) {
            master[9] = f32::NAN;
        }
        let mut sum = LossSum { loss: 2.5, weight: 9.0, rows: 9, correct: 4 };
        if is(1 << 15, 3) {
            sum.loss = f64::INFINITY;
        }
        if is(1 << 19, 3) && event.is_multiple_of(2) {
            sum.rows = 0;
        }
        let squares = if is(1 << 23, 3) { f64::INFINITY } else { 3.0 };
        device.write(&gradient, D::view_mut(&mut self.gradient))?;
        device.write(&results, D::view_mut(&mut self.results))?;
        device.write(&inputs, D::view_mut(&mut self.inputs))?;
        device.write(&master, D::view_mut(&mut self.master))?;
        device.write(&[sum], D::view_mut(&mut self.sum))?;
        device.write(&[squares], D::view_mut(&mut self.squares))?;
        // The weight's is not cleared by who takes note of it.
        Ok(device.write(&[Outcome::EMPTY], D::view_mut(&mut self.outcomes[1]))?)
    }

    /// Returns integers from -7 to 7.
    fn integers(&self, stream: u32, count: usize) -> Vec<f32> {
        let noise = Noise { seed: self.seed, stream };
        (0..count as u32).map(|index| (noise.word(index) % 15) as f32 - 7.0).collect()
    }

    /// Narrows the weight for this step.
    fn narrow_weight(&mut self, device: &mut D) -> Done<(), D> {
        let (one, [_, outcome]) = (D::view(&self.one), &mut self.outcomes);
        let epilogue = unmeasured::<F, D>(one, one, D::view_mut(outcome));
        let (input, to) = (D::view(&self.master), D::view_mut(&mut self.weight));
        device.run(Narrow::<D::Space, F> { input, to, epilogue })?;
        let outcome = D::view(outcome);
        let elements = WEIGHTS as u64;
        let weight = Evidence::Weight { id: 0, elements, saturates: false, outcome };
        self.engine.judge(device, weight, Some(&mut self.second))?;
        let squares = Evidence::WeightSquares { id: 1, sum: D::view(&self.squares) };
        Ok(self.second.judge(device, squares, Some(&mut self.engine))?)
    }

    /// Visits every gradient.
    fn visits(&mut self, device: &mut D) -> Done<(), D> {
        let Self { engine, second, products, gradient, results, weight, .. } = self;
        let [loss, left, right, joined, last, of_second] = &mut self.carried;
        let narrowed = &mut self.narrowed;
        let visit = engine.loss(device, INPUTS)?;
        each_pass(device, visit, loss, |device, epilogue| {
            narrow::<F, D>(device, gradient, narrowed, epilogue)
        })?;
        let [to_left, to_right, to_joined, to_last] = &mut self.layers;
        let visit = engine.layer(device, 1, RESULTS, loss)?;
        each_pass(device, visit, left, |device, mut epilogue| match products {
            Some(Products(multiply, _)) => {
                let operands = [D::view(narrowed), D::view(weight)];
                multiply(device, operands, D::view_mut(to_left), epilogue.reborrow())
            }
            None => narrow::<F, D>(device, results, to_left, epilogue),
        })?;
        let visit = engine.layer(device, 3, RESULTS, loss)?;
        each_pass(device, visit, right, |device, epilogue| {
            narrow::<F, D>(device, results, to_right, epilogue)
        })?;
        let visit = engine.join(device, 4, RESULTS, [left, right, left])?;
        each_pass(device, visit, joined, |device, mut epilogue| {
            let one = Branch { gradient: D::view(to_left), cell: left.scale() };
            let other = Branch { gradient: D::view(to_right), cell: right.scale() };
            let (branches, to) = (&[one, other, one], D::view_mut(to_joined));
            let epilogue = epilogue.reborrow();
            device.run(Propagate::<_, F> { branches, to, epilogue })
        })?;
        let visit = engine.loss_at(device, 0, RESULTS)?;
        each_pass(device, visit, last, |device, epilogue| {
            narrow::<F, D>(device, results, to_last, epilogue)
        })?;
        let visit = second.loss(device, RESULTS)?;
        each_pass(device, visit, of_second, |device, epilogue| {
            narrow::<F, D>(device, results, to_last, epilogue)
        })
    }

    /// Computes and unscales weight gradients, and says what they and the losses show.
    fn judge(&mut self, device: &mut D) -> Done<(), D> {
        let Self { engine, second, products, carried, .. } = self;
        let [_, left, _, joined, ..] = carried;
        let [outcome, _] = &mut self.outcomes;
        let (to, one) = (D::view_mut(&mut self.weight_gradient), D::view(&self.one));
        let epilogue = unmeasured::<f32, D>(left.scale(), one, D::view_mut(outcome));
        match products {
            Some(Products(_, multiply)) => {
                let operands = [D::view(&self.inputs), D::view(&self.layers[0])];
                multiply(device, operands, to, epilogue)?;
            }
            None => {
                let input = D::view(&self.master);
                device.run(Narrow::<D::Space, f32> { input, to, epilogue })?;
            }
        }
        let (origin, elements) = (Some(left.origin()), WEIGHTS as u64);
        let outcome = D::view_mut(outcome);
        engine.judge(
            device,
            Evidence::Gradient { id: 3, origin, elements, outcome },
            Some(&mut *second),
        )?;
        device.run(Unscale::<D::Space, F> {
            gradient: D::view(&self.layers[2]),
            cell: joined.scale(),
            to: D::view_mut(&mut self.unscaled),
            counts: D::view_mut(&mut self.counts),
        })?;
        let (origin, elements) = (Some(joined.origin()), RESULTS as u64);
        let counts = D::view_mut(&mut self.counts);
        engine.judge(
            device,
            Evidence::Unscaled { id: 4, origin, elements, counts },
            Some(&mut *second),
        )?;
        let sum = D::view(&self.squares);
        let squares = |is_gradient| Evidence::Squares { id: 5, is_gradient, sum };
        engine.judge_all(device, &mut [true, false].map(squares), Some(&mut *second))?;
        engine.judge_loss(device, 9, D::view(&self.sum), Some(&mut *second))?;
        second.judge_loss(device, 9, D::view(&self.sum), Some(engine))
    }

    /// Reads what was written down since the last read, with one copy for each scaler.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn read(&mut self, device: &mut D) -> Done<Vec<String>, D> {
        let mut room = vec![Line::EMPTY; self.engine.written().max(self.second.written())];
        let mut entries = Vec::new();
        for engine in [&mut self.engine, &mut self.second] {
            let lines = engine.read(device, &mut room)?;
            entries.extend(lines.map(|entry| format!("{entry:?}")));
        }
        Ok(entries)
    }

    /// Says how many lines there are to be read: as [`Engine::set_written`] for each scaler.
    pub fn set_written(&mut self, [engine, second]: [usize; 2]) {
        self.engine.set_written(engine);
        self.second.set_written(second);
    }

    /// Returns how many lines were written since the last read.
    pub const fn written(&self) -> [usize; 2] {
        [self.engine.written(), self.second.written()]
    }

    /// Reads all else that steps left behind: scalers, what optimizers are told, tensors as bits.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn left(&mut self, device: &mut D) -> Done<Vec<String>, D> {
        let mut left = Vec::new();
        for engine in [&mut self.engine, &mut self.second] {
            let mut cells = vec![Cell::new(); engine.cells()];
            let (state, updates) = engine.save(device, &mut cells)?;
            left.push(format!("{cells:?} {state:?} {updates}"));
            let (mut words, mut norm) = ([[0]; 2], [0.0]);
            device.read(engine.applies(), &mut words[0])?;
            device.read(engine.updates(), &mut words[1])?;
            device.read(engine.square_norm(), &mut norm)?;
            left.push(format!("{words:?} {norm:?}"));
        }
        let buffers = [&self.weight, &self.narrowed].into_iter().chain(&self.layers);
        for buffer in buffers {
            left.push(bits::<F, D>(device, buffer)?);
        }
        left.push(bits::<f32, D>(device, &self.weight_gradient)?);
        left.push(bits::<f32, D>(device, &self.unscaled)?);
        let mut scale = [Cell::new()];
        for carried in &self.carried {
            device.read(carried.scale(), &mut scale)?;
            left.push(format!("{scale:?} {:?}", carried.origin()));
        }
        Ok(left)
    }

    /// Goes on where training could not.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn go_on(&mut self, device: &mut D) -> Done<(), D> {
        self.engine.go_on(device)?;
        Ok(self.second.go_on(device)?)
    }
}

/// Takes so many steps on a device and on the portable one, and compares all that they leave behind; returns how many visits
/// agreed.
///
/// Lines are read once for [`AT_ONCE`] steps.
///
/// # Errors
///
/// The first difference, or a device failed.
pub fn agree<F, D>(
    device: &mut D,
    mut found: Model<D, F>,
    mut expected: Model<Portable, F>,
    steps: u32,
) -> Result<u64, String>
where
    F: Element + Plain,
    D: Memory + HasNarrow<F> + HasNarrow<f32> + HasScaler,
    Portable: HasNarrow<F>,
{
    for begin in (0..steps).step_by(AT_ONCE) {
        for step in begin..steps.min(begin + AT_ONCE as u32) {
            found.step(device, step).map_err(failed)?;
            expected.step(&mut Portable, step).map_err(failed)?;
        }
        let found_entries = found.read(device).map_err(failed)?;
        let expected_entries = expected.read(&mut Portable).map_err(failed)?;
        same(begin, &found_entries, &expected_entries)?;
        let left = found.left(device).map_err(failed)?;
        same(begin, &left, &expected.left(&mut Portable).map_err(failed)?)?;
        if expected_entries.iter().any(|entry| entry.contains("Stop") || entry.contains("Halted")) {
            found.go_on(device).map_err(failed)?;
            expected.go_on(&mut Portable).map_err(failed)?;
        }
    }
    Ok(u64::from(steps) * u64::from(VISITS))
}

fn failed(error: impl fmt::Debug) -> String {
    format!("{error:?}")
}

/// Says what differs, if anything.
fn same(step: u32, found: &[String], expected: &[String]) -> Result<(), String> {
    match found.iter().zip(expected).enumerate().find(|(_, (found, expected))| found != expected) {
        Some((nth, (found, expected))) => {
            Err(format!("from step {step} on, result {nth}: {found} and not {expected}"))
        }
        None if found.len() != expected.len() => {
            Err(format!("from step {step} on: {} and not {}", found.len(), expected.len()))
        }
        None => Ok(()),
    }
}

/// Narrows a tensor.
fn narrow<F: Element + Plain, D: Memory + HasNarrow<F>>(
    device: &mut D,
    input: &D::Buffer<f32>,
    to: &mut D::Buffer<F>,
    mut epilogue: Epilogue<'_, D::Space>,
) -> Result<(), D::Error> {
    let (input, to, epilogue) = (D::view(input), D::view_mut(to), epilogue.reborrow());
    device.run(Narrow::<D::Space, F> { input, to, epilogue })
}

/// Makes every pass of a visit, and ends it.
fn each_pass<D: Memory + HasScaler, const N: usize>(
    device: &mut D,
    mut visit: OpenVisit<'_, D, N>,
    carried: &mut Carried<D>,
    mut work: impl FnMut(&mut D, Epilogue<'_, D::Space>) -> Result<(), D::Error>,
) -> Done<(), D> {
    while let Some(mut pass) = visit.next_pass(device)? {
        work(device, pass.epilogue())?;
    }
    visit.finish_into(device, carried)
}

fn narrowing<F: Element>() -> Narrowing {
    Narrowing::to(F::ENCODING.into())
}

/// Returns an epilogue of a result that no visit is of.
fn unmeasured<'a, F: Element, D: Device>(
    from: Ref<'a, D, Cell>,
    to: Ref<'a, D, Cell>,
    outcome: Mut<'a, D, Outcome>,
) -> Epilogue<'a, D::Space> {
    let (narrowing, noise) = (narrowing::<F>(), Noise::default());
    Epilogue { from, to, narrowing, noise, stores: true, when: None, outcome, histogram: None }
}

/// Returns elements as their bits, of which those of a NaN may be any.
fn bits<F: Element + Plain, D: Memory>(
    device: &mut D,
    buffer: &D::Buffer<F>,
) -> Result<String, D::Error> {
    let mut values = vec![F::from_bits(0); D::Space::len(D::view(buffer))];
    device.read(D::view(buffer), &mut values)?;
    let bits = |x: &F| if x.widen().is_nan() { None } else { Some(x.to_bits()) };
    Ok(format!("{:x?}", values.iter().map(bits).collect::<Vec<_>>()))
}
