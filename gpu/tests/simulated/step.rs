//! Many tensors in one launch, and whole steps as graphs: what single calls and core give, bit for bit.

use adaloss_core::{
    format::{E5M2, Element, Format, Narrowing, Noise, bf16, f16},
    policy::{Cell, Config},
    propagate::Scaled,
    scale::Scale,
    scaler::device::Line,
    statistics::{Outcome, Statistics},
    unscale::{Unscaled, unscale},
};
use adaloss_gpu::{
    Buffer, Cuda, Elements, ElementsMut, GpuError, GpuSpace, Gradient, Gradients, Graph, Into, Sgd,
    Weight, Weights,
};
use adaloss_hal::{
    AddressSpace, Branch, Device, Epilogue, Error, ErrorKind, Memory, Narrow, Plain, Propagate,
    Run, Summarise, network,
    portable::Portable,
    scaler::{Carried, Engine, EngineError, Evidence},
};

use crate::{DRIVER, alone, cuda};

const SGD: Sgd = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 1.0e-3 };

/// Elements of a part: what one block does at a time.
const PART: usize = 1 << 16;

fn noise(stream: u32, count: usize) -> Vec<f32> {
    let noise = Noise { seed: 7, stream };
    (0..count as u32).map(|index| noise.word(index) as f32 / 2.0_f32.powi(31) - 1.0).collect()
}

fn put<T: Plain>(device: &mut Cuda, values: &[T]) -> Buffer<T> {
    let mut buffer = device.zeroed(values.len()).expect("memory");
    device.write(values, buffer.view_mut()).expect("lengths");
    buffer
}

fn take<T: Plain>(device: &mut Cuda, buffer: &Buffer<T>, like: T) -> Vec<T> {
    let mut values = vec![like; buffer.view().count()];
    device.read(buffer.view(), &mut values).expect("lengths");
    values
}

/// Lengths of 161 tensors like those of ResNet-50, with fewer channels; and an empty one, one with
/// one element, and some that end in the middle of a part or a warp.
fn resnet_50() -> Vec<usize> {
    let mut counts = vec![3 * 49 * 8, 8, 8];
    let mut channels = 8;
    for (blocks, width) in [(3, 8), (4, 16), (6, 32), (3, 64)] {
        for block in 0..blocks {
            counts.extend([channels * width, width, width, 9 * width * width, width, width]);
            counts.extend([4 * width * width, 4 * width, 4 * width]);
            if block == 0 {
                counts.extend([channels * 4 * width, 4 * width, 4 * width]);
            }
            channels = 4 * width;
        }
    }
    counts.extend([channels * 10, 10]);
    assert_eq!(counts.len(), 161);
    counts
}

/// Names one cell of a model.
fn cell_of(cells: &Buffer<Cell>, nth: usize) -> Elements<'_, Cell> {
    GpuSpace::part(cells.view(), nth..nth + 1).expect("a cell")
}

fn cell_of_mut(cells: &mut Buffer<Cell>, nth: usize) -> ElementsMut<'_, Cell> {
    GpuSpace::part_mut(cells.view_mut(), nth..nth + 1).expect("a cell")
}

/// A model's tensors, on the device.
struct Model<F> {
    gradients: Vec<Buffer<F>>,
    /// One for each gradient.
    cells: Buffer<Cell>,
    unscaled: Vec<Buffer<f32>>,
    met: Vec<Buffer<Unscaled>>,
    weights: Vec<Buffer<f32>>,
    momenta: Vec<Buffer<f32>>,
    bad: Buffer<u64>,
    steps: Buffer<u64>,
}

impl<F: Element + Plain> Model<F> {
    fn new(device: &mut Cuda, gradients: &[Vec<F>]) -> Self {
        let cell = |nth: usize| Cell::at(Scale::saturating(nth as i32 % 9));
        let counts = gradients.iter().map(Vec::len);
        let count = |stream: usize, device: &mut Cuda| -> Vec<Buffer<f32>> {
            let values = counts.clone().zip(stream as u32..);
            values.map(|(count, stream)| put(device, &noise(stream, count))).collect()
        };
        Self {
            gradients: gradients.iter().map(|of| put(device, of)).collect(),
            cells: put(device, &(0..gradients.len()).map(cell).collect::<Vec<_>>()),
            unscaled: count(2000, device),
            met: gradients.iter().map(|_| device.zeroed(1).expect("memory")).collect(),
            weights: count(0, device),
            momenta: count(1000, device),
            bad: device.zeroed(1).expect("memory"),
            steps: put(device, &[41]),
        }
    }

    /// Names the gradients, and where they are unscaled to if that is asked for.
    fn gradients(&mut self, to: bool) -> (impl Iterator<Item = Gradient<'_, F>>, &mut Buffer<u64>) {
        let cells = &self.cells;
        let of = self.gradients.iter().enumerate().zip(&mut self.unscaled).zip(&mut self.met);
        let named = of.map(move |(((nth, from), unscaled), met)| Gradient {
            from: from.view(),
            cell: cell_of(cells, nth),
            to: to.then(|| unscaled.view_mut()),
            met: met.view_mut(),
        });
        (named, &mut self.bad)
    }

    fn weights(&mut self) -> (impl Iterator<Item = Weight<'_, F>>, &Buffer<u64>, &mut Buffer<u64>) {
        let cells = &self.cells;
        let of = self.gradients.iter().enumerate().zip(&mut self.weights);
        let named = of.zip(&mut self.momenta).map(|(((nth, gradient), weight), momentum)| Weight {
            gradient: gradient.view(),
            cell: cell_of(cells, nth),
            weight: weight.view_mut(),
            momentum: momentum.view_mut(),
        });
        (named, &self.bad, &mut self.steps)
    }

    fn tables(&mut self, device: &mut Cuda) -> (Gradients<F>, Weights<F>) {
        let gradients = device.gradients(self.gradients(false).0).expect("lengths");
        (gradients, device.weights(self.weights().0).expect("lengths"))
    }

    /// Checks the gradients and takes a step.
    fn step(
        &mut self,
        device: &mut Cuda,
        tables: &(Gradients<F>, Weights<F>),
    ) -> Result<(), GpuError> {
        self.check(device, tables)?;
        self.update(device, tables, None)
    }

    /// Counts what is not finite in the gradients.
    fn check(
        &mut self,
        device: &mut Cuda,
        (table, _): &(Gradients<F>, Weights<F>),
    ) -> Result<(), GpuError> {
        device.clear(self.bad.view_mut())?;
        let (named, bad) = self.gradients(false);
        device.unscale_all(table, named, Into::Nothing, bad.view_mut())
    }

    /// Takes a step if nothing was found, and a predicate says so where there is one.
    fn update(
        &mut self,
        device: &mut Cuda,
        (_, table): &(Gradients<F>, Weights<F>),
        when: Option<Elements<'_, u32>>,
    ) -> Result<(), GpuError> {
        let (named, bad, steps) = self.weights();
        device.sgd(table, named, SGD, bad.view(), when, steps.view_mut())
    }

    /// Returns the bits of weights and momenta.
    fn bits(&self, device: &mut Cuda) -> Vec<u32> {
        let buffers = self.weights.iter().chain(&self.momenta);
        let values = buffers.flat_map(|buffer| take(device, buffer, 0.0));
        values.map(f32::to_bits).collect()
    }
}

/// Gradients with every bit pattern there is, or with numbers alone.
fn scaled<F: Element>(counts: &[usize], finite: bool) -> Vec<Vec<F>> {
    let of = |(&count, stream): (&usize, u32)| -> Vec<F> {
        if finite {
            let values = noise(3000 + stream, count).into_iter();
            return values.map(|x| F::narrow(x, Narrowing::to(F::ENCODING.into()), 5, 0)).collect();
        }
        let noise = Noise { seed: 5, stream };
        (0..count as u32)
            .map(|index| F::from_bits(noise.word(index) >> (32 - F::ENCODING.bits())))
            .collect()
    };
    counts.iter().zip(0..).map(of).collect()
}

fn unscales_as_core<F: Element + Plain>(counts: &[usize]) {
    let device = &mut cuda();
    let values = scaled::<F>(counts, false);
    let mut model = Model::new(device, &values);
    let table = device.gradients(model.gradients(true).0).expect("lengths");
    for (into, times) in [(Into::Place, 1), (Into::Sum, 2)] {
        let (named, bad) = model.gradients(true);
        device.unscale_all(&table, named, into, bad.view_mut()).expect("the same tensors");
        let mut nonfinite = 0;
        for (nth, values) in values.iter().enumerate() {
            let cell = take(device, &model.cells, Cell::new())[nth];
            let mut expected = vec![0.0; values.len()];
            let scaled = Scaled::new(values.as_slice(), cell.scale());
            let once = unscale(F::ENCODING.into(), scaled, &mut expected).expect("lengths");
            let found = take(device, &model.unscaled[nth], 0.0);
            for (x, found) in expected.into_iter().zip(found) {
                let x = if times == 2 { x + x } else { x };
                assert!(x.to_bits() == found.to_bits() || x.is_nan() && found.is_nan());
            }
            let mut expected = once;
            (1..times).for_each(|_| expected.merge(&once));
            assert_eq!(take(device, &model.met[nth], Unscaled::default()), [expected]);
            nonfinite += expected.nonfinite;
        }
        assert_eq!(take(device, &model.bad, 0), [nonfinite]);
    }
}

#[test]
fn many_gradients_are_unscaled_as_core_does() {
    let odd = [1, 0, 100, PART - 1, PART, PART + 3, 33];
    unscales_as_core::<f16>(&odd);
    unscales_as_core::<bf16>(&odd);
    unscales_as_core::<E5M2>(&odd);
    unscales_as_core::<f16>(&resnet_50());
}

fn steps_as_core<F: Element + Plain>(counts: &[usize]) {
    let device = &mut cuda();
    let values = scaled::<F>(counts, true);
    let mut model = Model::new(device, &values);
    let tables = model.tables(device);
    model.step(device, &tables).expect("the same tensors");
    let of_hal = network::Sgd {
        learning_rate: SGD.learning_rate,
        momentum: SGD.momentum,
        weight_decay: SGD.weight_decay,
        max_norm: None,
    };
    for (nth, values) in values.iter().enumerate() {
        let cell = take(device, &model.cells, Cell::new())[nth];
        let mut gradient = vec![0.0; values.len()];
        let scaled = Scaled::new(values.as_slice(), cell.scale());
        unscale(F::ENCODING.into(), scaled, &mut gradient).expect("lengths");
        let (mut weight, mut momentum) =
            (noise(nth as u32, values.len()), noise(1000 + nth as u32, values.len()));
        let step = network::SgdStep {
            sgd: of_hal,
            gradient: &gradient[..],
            square_norm: &[1.0][..],
            weight: &mut weight[..],
            momentum: &mut momentum[..],
            when: None,
        };
        Portable.run(step).expect("lengths");
        assert_eq!(take(device, &model.weights[nth], 0.0), weight);
        assert_eq!(take(device, &model.momenta[nth], 0.0), momentum);
    }
    assert_eq!(take(device, &model.steps, 0), [42]);
}

#[test]
fn a_fused_step_is_unscaling_and_an_update() {
    steps_as_core::<f16>(&[3, 0, 1000, PART + 5]);
    steps_as_core::<bf16>(&[3, 0, 1000, PART + 5]);
    steps_as_core::<f16>(&resnet_50());
}

/// One element of the last gradient is not a number.
#[test]
fn a_skipped_step_leaves_every_bit() {
    let device = &mut cuda();
    let mut values = scaled::<f16>(&resnet_50(), true);
    *values.last_mut().and_then(|of| of.last_mut()).expect("one") = f16::NAN;
    let mut model = Model::new(device, &values);
    let (tables, before) = (model.tables(device), model.bits(device));
    model.step(device, &tables).expect("the same tensors");
    assert_eq!(model.bits(device), before);
    assert_eq!((take(device, &model.bad, 0), take(device, &model.steps, 0)), (vec![1], vec![41]));
    let met = take(device, &model.met[160], Unscaled::default());
    assert_eq!(met[0].nonfinite, 1);
}

#[test]
fn another_tensor_than_the_tables_is_refused() {
    let device = &mut cuda();
    let values = scaled::<f16>(&[5, 7, 9], true);
    let (mut model, mut other) = (Model::new(device, &values), Model::new(device, &values));
    let tables = model.tables(device);
    let mut bad = device.zeroed(1).expect("memory");
    let error = other.step(device, &tables).expect_err("of another model");
    assert_eq!((&error, error.kind()), (&GpuError::Table { row: 0 }, ErrorKind::Shape));
    let named = model.gradients(false).0.take(2);
    let error = device.unscale_all(&tables.0, named, Into::Nothing, bad.view_mut());
    assert!(matches!(error, Err(GpuError::Length { expected: 3, found: 2, .. })), "{error:?}");
    let named = model.gradients(false).0;
    let error = device.unscale_all(&tables.0, named, Into::Place, bad.view_mut());
    assert!(matches!(error, Err(GpuError::Length { expected: 5, found: 0, .. })), "{error:?}");
}

/// Captures a graph while no other test opens a GPU.
fn captured<E: From<GpuError>>(
    device: &mut Cuda,
    work: impl FnOnce(&mut Cuda) -> Result<(), E>,
) -> Result<Graph, E> {
    let _alone = alone();
    device.capture(work)
}

/// What a host asks the driver for while it does something: launches, clears and copies within the
/// device, graphs, and all that allocates, waits or reads the host's memory.
fn asked(work: impl FnOnce()) -> [u64; 4] {
    let calls = |names: &[&str]| names.iter().map(|name| DRIVER.calls(name)).sum::<u64>();
    let count = || {
        let others = [
            "cuMemAllocAsync",
            "cuMemAlloc_v2",
            "cuMemFreeAsync",
            "cuMemcpyHtoDAsync_v2",
            "cuMemcpyDtoHAsync_v2",
            "cuStreamSynchronize",
            "cuEventSynchronize",
            "cuCtxSynchronize",
        ];
        [
            calls(&["cuLaunchKernel"]),
            calls(&["cuMemsetD8Async", "cuMemcpyDtoDAsync_v2"]),
            calls(&["cuGraphLaunch"]),
            calls(&others),
        ]
    };
    let before = count();
    work();
    let after = count();
    std::array::from_fn(|nth| after[nth] - before[nth])
}

#[test]
fn a_step_allocates_nothing_and_waits_for_nothing() {
    let device = &mut cuda();
    let mut model = Model::new(device, &scaled::<f16>(&resnet_50(), true));
    let tables = model.tables(device);
    let asked_of_calls = asked(|| model.step(device, &tables).expect("the same tensors"));
    assert_eq!(asked_of_calls, [2, 1, 0, 0]);
    let graph = captured(device, |device| model.step(device, &tables)).expect("nothing waits");
    // SAFETY: the model is there.
    let asked_of_graph = asked(|| unsafe { graph.launch() }.expect("it was captured"));
    assert_eq!(asked_of_graph, [0, 0, 1, 0]);
    assert_eq!(take(device, &model.steps, 0), [43]);
}

const LAYERS: usize = 50;

/// Returns an epilogue that stores and does not measure.
fn storing<'a>(
    config: &Config,
    from: Elements<'a, Cell>,
    to: Elements<'a, Cell>,
    outcome: ElementsMut<'a, Outcome>,
) -> Epilogue<'a, GpuSpace> {
    let (narrowing, noise) = (config.narrowing(), Noise::default());
    Epilogue { from, to, narrowing, noise, stores: true, when: None, outcome, histogram: None }
}

/// All that a step of fifty layers works on.
struct Layers {
    engine: Engine<Cuda>,
    values: Vec<Buffer<f32>>,
    carried: Vec<Carried<Cuda>>,
    outcome: Buffer<Outcome>,
    statistics: Vec<Buffer<Statistics>>,
    joined: Vec<Buffer<f16>>,
    model: Model<f16>,
    tables: (Gradients<f16>, Weights<f16>),
    room: Vec<Line>,
}

impl Layers {
    fn new(device: &mut Cuda) -> Self {
        let config = Config::for_format(Format::BINARY16);
        let counts: Vec<_> = (0..LAYERS).map(|nth| 37 * nth + 1).collect();
        let mut model = Model::new(device, &scaled(&counts, true));
        let tables = model.tables(device);
        let small = |(count, stream): (&usize, u32)| {
            noise(stream, *count).into_iter().map(|x| x * 1.0e-9).collect::<Vec<_>>()
        };
        Self {
            engine: Engine::new(device, config, LAYERS, LAYERS + 1).expect("memory"),
            values: counts.iter().zip(0..).map(|of| put(device, &small(of))).collect(),
            carried: (0..LAYERS).map(|_| Carried::new(device).expect("memory")).collect(),
            outcome: device.zeroed(1).expect("memory"),
            statistics: (0..LAYERS).map(|_| put(device, &[Statistics::EMPTY])).collect(),
            joined: counts.iter().map(|&count| device.zeroed(count).expect("memory")).collect(),
            model,
            tables,
            room: vec![Line::EMPTY; LAYERS + 1],
        }
    }

    /// Goes back through all layers, updates their weights, and decides the next step's scales.
    fn step(&mut self, device: &mut Cuda) -> Result<(), EngineError<GpuError>> {
        let Self { engine, model, .. } = self;
        for nth in (0..LAYERS).rev() {
            let (gradient, values) = (&mut model.gradients[nth], self.values[nth].view());
            let mut visit = engine.loss_at(device, nth, values.count())?;
            while let Some(mut pass) = visit.next_pass(device)? {
                let (to, epilogue) = (gradient.view_mut(), pass.epilogue());
                device.run(Narrow { input: values, to, epilogue })?;
            }
            let carried = &mut self.carried[nth];
            visit.finish_into(device, carried)?;
            // The tables name cells.
            device.copy(carried.scale(), cell_of_mut(&mut model.cells, nth))?;

            device.clear(self.outcome.view_mut())?;
            let cell = cell_of(&model.cells, nth);
            let branch = Branch { gradient: gradient.view(), cell };
            let epilogue = storing(engine.config(), cell, cell, self.outcome.view_mut());
            let to = self.joined[nth].view_mut();
            device.run(Propagate { branches: &[branch; 2], to, epilogue })?;
            let to = self.statistics[nth].view_mut();
            device.run(Summarise { input: gradient.view(), to, when: None })?;
        }
        model.check(device, &self.tables)?;
        for (nth, carried) in self.carried.iter().enumerate() {
            let elements = model.gradients[nth].view().count() as u64;
            let (origin, counts) = (Some(carried.origin()), model.met[nth].view_mut());
            let evidence = Evidence::Unscaled { id: nth, origin, elements, counts };
            engine.judge(device, evidence, None)?;
        }
        engine.conclude(device, None)?;
        Ok(model.update(device, &self.tables, Some(engine.applies()))?)
    }

    /// Returns all that a step changes.
    fn found(&mut self, device: &mut Cuda) -> Vec<String> {
        let lines = self.engine.read(device, &mut self.room).expect("room");
        let mut found: Vec<_> = lines.map(|entry| format!("{entry:?}")).collect();
        found.push(format!("{:?}", self.model.bits(device)));
        let last = |device: &mut Cuda, of: &Buffer<u64>| take(device, of, 0)[0];
        found.push(format!(
            "{} {}",
            last(device, &self.model.bad),
            last(device, &self.model.steps)
        ));
        let mut cells = [Cell::new(); LAYERS];
        let (_, updates) = self.engine.save(device, &mut cells).expect("as many cells");
        found.push(format!("{cells:?} {updates}"));
        for nth in 0..LAYERS {
            let statistics = take(device, &self.statistics[nth], Statistics::EMPTY);
            let joined = take(device, &self.joined[nth], f16::ZERO);
            let met = take(device, &self.model.met[nth], Unscaled::default());
            found.push(format!("{statistics:?} {joined:?} {met:?}"));
        }
        found
    }
}

/// A step that a scaler skips, for what no gradient of a weight shows.
#[test]
fn a_scaler_that_skips_keeps_the_weights() {
    let device = &mut cuda();
    let mut model = Model::new(device, &scaled::<f16>(&[3, 1000], true));
    let (tables, before) = (model.tables(device), model.bits(device));
    let config = Config::for_format(Format::BINARY16);
    let mut engine = Engine::new(device, config, 0, 3).expect("memory");
    model.check(device, &tables).expect("the same tensors");
    // Nothing was visited.
    engine.conclude(device, None).expect("room");
    model.update(device, &tables, Some(engine.applies())).expect("the same tensors");
    assert_eq!((model.bits(device) == before, take(device, &model.steps, 0)), (true, vec![41]));
    engine.loss(device, 0).and_then(|visit| visit.finish(device)).expect("room");
    let error =
        model.update(device, &tables, Some(GpuSpace::part(engine.applies(), 0..0).expect("none")));
    assert!(matches!(error, Err(GpuError::Length { expected: 1, found: 0, .. })), "{error:?}");
}

/// A graph of the step, launched thrice, and the step, thrice.
#[test]
fn a_captured_step_is_the_step() {
    let device = &mut cuda();
    let (mut called, mut captured) = (Layers::new(device), Layers::new(device));
    let graph = self::captured(device, |device| captured.step(device)).expect("nothing waits");
    assert_eq!(take(device, &captured.model.steps, 0), [41]);
    let lines = captured.engine.written();
    for _step in 0..3 {
        called.step(device).expect("lengths");
        // SAFETY: all layers are there.
        unsafe { graph.launch() }.expect("it was captured");
        captured.engine.set_written(lines);
        assert!(called.found(device) == captured.found(device));
    }
    assert_eq!(take(device, &captured.model.steps, 0), [44]);
    let mut cells = [Cell::new(); LAYERS];
    let (state, updates) = captured.engine.save(device, &mut cells).expect("as many cells");
    assert_eq!((state.totals().steps, state.totals().skipped, updates), (3, 0, 3));
    for cell in cells {
        // The same values at each step: about the greatest scale that a billionth bears.
        assert!((44..=55).contains(&cell.scale().log2()) && cell.is_promised(), "{cell:?}");
    }
}

fn refused(
    device: &mut Cuda,
    work: impl FnOnce(&mut Cuda) -> Result<(), GpuError>,
) -> Result<(), GpuError> {
    captured(device, work).map(drop)
}

#[test]
fn what_waits_cannot_be_captured() {
    let device = &mut cuda();
    let mut four = put(device, &[1.0_f32, 2.0, 3.0, 4.0]);
    let mut dropped = Some(device.zeroed::<f32>(4).expect("memory"));
    let read = refused(device, |device| device.read(four.view(), &mut [0.0; 4]));
    assert_eq!(read, Err(GpuError::Captured { what: "to read" }));
    let memory = refused(device, |device| device.zeroed::<f32>(4).map(drop));
    assert_eq!(memory, Err(GpuError::Captured { what: "to allocate" }));
    let within = refused(device, |device| device.capture(|_| Ok(())).map(drop));
    assert_eq!(within, Err(GpuError::Captured { what: "another graph" }));
    let freed = refused(device, |_| {
        dropped = None;
        Ok(())
    });
    assert_eq!(freed, Err(GpuError::Captured { what: "to free memory" }));
    let text = freed.expect_err("it was refused").to_string();
    assert_eq!(text, "the GPU refuses to free memory while a graph is captured");
    // What the runtime itself asks the driver for.
    let waits = refused(device, |device| {
        let waits = device.stream().synchronize();
        waits.map_err(|error| GpuError::Driver { what: "to wait", error })
    });
    assert!(matches!(waits, Err(GpuError::Driver { what: "to wait", .. })), "{waits:?}");
    let ignored = refused(device, |device| {
        let _ = device.stream().synchronize();
        Ok(())
    });
    assert_eq!(ignored, Err(GpuError::Captured { what: "what waits for it" }));
    // None of it was done, and the device goes on.
    assert_eq!(take(device, &four, 0.0), [1.0, 2.0, 3.0, 4.0]);
    refused(device, |device| device.clear(four.view_mut())).expect("it can be captured");
    assert_eq!(take(device, &four, 0.0), [1.0, 2.0, 3.0, 4.0]);
}

/// What is written in a graph is what it was when the graph was captured.
#[test]
fn a_captured_write_is_the_same_at_each_launch() {
    let device = &mut cuda();
    let mut four = put(device, &[1_u32, 2, 3, 4]);
    let mut values = [5, 6, 7, 8];
    let graph = captured(device, |device| device.write(&values, four.view_mut()));
    let graph = graph.expect("it is copied from a table");
    values.fill(9);
    assert_eq!(take(device, &four, 0), [1, 2, 3, 4]);
    for _launch in 0..2 {
        device.write(&values, four.view_mut()).expect("as many");
        // SAFETY: the four are there.
        unsafe { graph.launch() }.expect("it was captured");
        assert_eq!(take(device, &four, 0), [5, 6, 7, 8]);
    }
}

/// What a graph needs of the device that captured it, it keeps.
#[test]
fn a_graph_outlives_its_device() {
    let mut device = cuda();
    let stream = device.stream().clone();
    let mut model = Model::new(&mut device, &scaled::<f16>(&[3, 300], true));
    let tables = model.tables(&mut device);
    let config = Config::for_format(Format::BINARY16);
    let mut engine = Engine::new(&mut device, config, 2, 2).expect("memory");
    let mut carried = Carried::new(&mut device).expect("memory");
    let graph = captured(&mut device, |device| {
        let visit = engine.loss_at(device, 0, 0)?;
        visit.finish_into(device, &mut carried)?;
        model.step(device, &tables)?;
        engine.conclude(device, None)
    });
    let graph = graph.expect("nothing waits");
    drop(device);
    // SAFETY: the model and its tables are there, and so is the engine.
    unsafe { graph.launch() }.expect("the kernels are still loaded");
    let mut other = Cuda::on(stream).expect("the context is still there");
    assert_eq!(take(&mut other, &model.steps, 0), [42]);
    let mut cells = [Cell::new(); 2];
    let (state, _) = engine.save(&mut other, &mut cells).expect("two cells");
    assert_eq!(state.totals().steps, 1);
}

/// A panic within leaves no stream that captures.
#[test]
fn a_panic_ends_a_capture() {
    let mut device = cuda();
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        refused(&mut device, |_| panic!("as a test does"))
    }));
    assert!(panics.is_err());
    let four = put(&mut device, &[4_u32]);
    assert_eq!(take(&mut device, &four, 0), [4]);
}

/// A stream that somebody else captures is told apart.
#[test]
fn a_strange_capture_is_noticed() {
    use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
    let device = &mut cuda();
    let config = Config::for_format(Format::BINARY16);
    let mut engine = Engine::new(device, config, 0, 1).expect("memory");
    let stream = device.stream().clone();
    let _alone = alone();
    let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    stream.begin_capture(mode).expect("it does not capture");
    // The configuration is not there yet.
    let concluded = engine.conclude(device, None);
    assert!(
        matches!(concluded, Err(EngineError::Device(GpuError::Captured { .. }))),
        "{concluded:?}"
    );
    stream.end_capture(CUgraphInstantiate_flags(0)).expect("nothing was refused");
}
