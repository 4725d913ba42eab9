//! A training step whose scales, counts and gradients never leave the device.

use adaloss_core::{
    format::{Format, f16},
    policy::Config,
    scaler::device::{Entry, Line},
    statistics::Outcome,
    unscale::{Unscaled, Verdict},
};
use adaloss_hal::{
    Branch, Device, Epilogue, HasMatmul, Matmul, Memory, Mut, Narrow, OperationKind, Product,
    Propagate, Ref, Unscale,
    portable::Portable,
    record::Record,
    scaler::{Carried, Engine, EngineError, Evidence, HasScaler, OpenVisit},
};

use crate::memory::Accelerator;

const BATCH: usize = 5;
const WIDTH: usize = 6;
const LAYERS: usize = 4;
const STEPS: usize = 6;

/// Cells of weight gradients come after those of layers, and that of the join last.
const JOIN: usize = 2 * LAYERS;

/// The loss, a layer and its weight gradient, and the join.
const VISITS: usize = 1 + 2 * LAYERS + 1;

/// A visit and a step end in a line.
const LINES: usize = STEPS * (VISITS + 1);

/// A gradient on the device, with the scale that it carries.
struct Gradient<D: Memory> {
    values: D::Buffer<f16>,
    carried: Carried<D>,
}

/// A network of linear layers with a residual connection around all of them.
struct Network<D: Memory> {
    engine: Engine<D>,
    loss_gradient: D::Buffer<f32>,
    weights: Vec<D::Buffer<f16>>,
    inputs: Vec<D::Buffer<f16>>,
    unscaled: Vec<D::Buffer<f32>>,
    counts: D::Buffer<Unscaled>,
}

/// Everything that is looked at, once, after the last step.
#[derive(Debug, PartialEq)]
struct Seen {
    unscaled: Vec<Vec<u32>>,
    entries: Vec<Entry>,
    digest: u32,
}

type Done<D, T> = Result<T, EngineError<<D as Device>::Error>>;

impl<D: Memory + HasMatmul<f16, f16, f16> + HasScaler> Network<D> {
    fn new(device: &mut D) -> Result<Self, D::Error> {
        // Integers times one power of two: sums are exact, and so the same in any order.
        let mut integers = |elements: usize, seed: usize| {
            let integer = |i: usize| f16::from_f32(((i * 7 + seed * 3) % 5) as f32 - 2.0);
            let mut buffer = device.zeroed(elements)?;
            let values: Vec<f16> = (0..elements).map(integer).collect();
            device.write(&values, D::view_mut(&mut buffer)).map(|()| buffer)
        };
        let (mut weights, mut inputs, mut unscaled) = (Vec::new(), Vec::new(), Vec::new());
        for layer in 0..LAYERS {
            weights.push(integers(WIDTH * WIDTH, layer)?);
            inputs.push(integers(BATCH * WIDTH, layer + 100)?);
        }
        for _ in 0..LAYERS {
            unscaled.push(device.zeroed(WIDTH * WIDTH)?);
        }
        let engine = Engine::new(device, Config::for_format(Format::BINARY16), JOIN + 1, LINES)?;
        let (loss_gradient, counts) = (device.zeroed(BATCH * WIDTH)?, device.zeroed(1)?);
        Ok(Self { engine, loss_gradient, weights, inputs, unscaled, counts })
    }

    fn step(&mut self, device: &mut D, step: usize) -> Done<D, ()> {
        // Far below what binary16 holds unscaled, and drifting.
        let unit = f32::exp2(-30.0 - 3.0 * step as f32);
        let values = (0..BATCH * WIDTH).map(|i| (i % 7) as f32 * unit).collect::<Vec<_>>();
        let Self { engine, loss_gradient, weights, inputs, unscaled, counts } = self;
        device.write(&values, D::view_mut(loss_gradient))?;
        let elements = BATCH * WIDTH;
        let visit = engine.loss(device, elements)?;
        let loss = visited(device, visit, elements, |device, to, epilogue| {
            device.run(Narrow { input: D::view(loss_gradient), to, epilogue })
        })?;

        let mut above = None;
        for layer in 0..LAYERS {
            let gradient = above.as_ref().unwrap_or(&loss);
            let product = Product::new(WIDTH, BATCH, WIDTH).transpose_a();
            let visit = engine.layer(device, LAYERS + layer, WIDTH * WIDTH, &gradient.carried)?;
            let of_weight = visited(device, visit, WIDTH * WIDTH, |device, to, epilogue| {
                let (a, b) = (D::view(&gradient.values), D::view(&inputs[layer]));
                device.run(Matmul { product, a, b, bias: None, to, epilogue })
            })?;
            device.run(Unscale::<D::Space, f16> {
                gradient: D::view(&of_weight.values),
                cell: of_weight.carried.scale(),
                to: D::view_mut(&mut unscaled[layer]),
                counts: D::view_mut(counts),
            })?;
            let evidence = Evidence::Unscaled {
                id: layer,
                origin: Some(of_weight.carried.origin()),
                elements: (WIDTH * WIDTH) as u64,
                counts: D::view_mut(counts),
            };
            engine.judge(device, evidence, None)?;
            let product = Product::new(BATCH, WIDTH, WIDTH);
            let visit = engine.layer(device, layer, elements, &gradient.carried)?;
            let next = visited(device, visit, elements, |device, to, epilogue| {
                let (a, b) = (D::view(&gradient.values), D::view(&weights[layer]));
                device.run(Matmul { product, a, b, bias: None, to, epilogue })
            })?;
            above = Some(next);
        }
        let above = above.as_ref().unwrap_or(&loss);
        let visit = engine.join(device, JOIN, elements, [&above.carried, &loss.carried])?;
        visited(device, visit, elements, |device, to, epilogue| {
            let branches = [above, &loss]
                .map(|of| Branch { gradient: D::view(&of.values), cell: of.carried.scale() });
            device.run(Propagate { branches: &branches, to, epilogue })
        })?;
        engine.conclude(device, None)
    }

    fn look(&mut self, device: &mut D) -> Done<D, Seen> {
        let mut room = vec![Line::EMPTY; LINES];
        let lines = self.engine.read(device, &mut room)?;
        let entries = lines.map(|entry| entry.expect("nothing was left out")).collect();
        let mut unscaled = Vec::new();
        for gradient in &self.unscaled {
            let mut values = vec![0.0_f32; WIDTH * WIDTH];
            let from: Ref<'_, D, f32> = D::view(gradient);
            device.read(from, &mut values)?;
            unscaled.push(values.into_iter().map(f32::to_bits).collect());
        }
        let mut cells = [adaloss_core::policy::Cell::new(); JOIN + 1];
        let (state, updates) = self.engine.save(device, &mut cells)?;
        assert_eq!(updates as usize, STEPS);
        Ok(Seen { unscaled, entries, digest: state.digest(&cells) })
    }
}

/// Makes every pass of a visit that might be needed.
fn visited<D: Memory + HasScaler, const N: usize>(
    device: &mut D,
    mut visit: OpenVisit<'_, D, N>,
    elements: usize,
    operation: impl for<'w> Fn(&mut D, Mut<'w, D, f16>, Epilogue<'w, D::Space>) -> Result<(), D::Error>,
) -> Done<D, Gradient<D>> {
    let mut values = device.zeroed(elements)?;
    while let Some(mut pass) = visit.next_pass(device)? {
        operation(device, D::view_mut(&mut values), pass.epilogue())?;
    }
    let carried = visit.finish(device)?;
    Ok(Gradient { values, carried })
}

/// Takes some steps, calls `before_reading`, and looks at what is there.
fn run<D: Memory + HasMatmul<f16, f16, f16> + HasScaler>(
    device: &mut D,
    before_reading: impl FnOnce(&D),
) -> Done<D, Seen> {
    let mut network = Network::new(device)?;
    for step in 0..STEPS {
        network.step(device, step)?;
    }
    before_reading(device);
    network.look(device)
}

#[test]
fn a_training_step_waits_for_nothing() {
    let mut device = Record::counting(Accelerator::new());
    let seen = run(&mut device, |device| {
        let counts = device.counts();
        assert_eq!(counts.of(OperationKind::Read), 0);
        let (visits, steps) = (VISITS as u64, STEPS as u64);
        // Each visit is measured, stored and stored once more, if that is needed; it ends with what comes next, and the
        // last one of a step by itself.
        assert_eq!(counts.of(OperationKind::Advance), 3 * steps * visits);
        assert_eq!(counts.of(OperationKind::Close), steps);
        let of_a_visit = 3 * 2;
        let of_a_step = visits * of_a_visit + 2 * LAYERS as u64 + 2;
        assert_eq!(counts.computations(), steps * of_a_step);
        assert_eq!(device.device().executed(), 0, "computed before it was asked");
    })
    .expect("no error");
    assert!(device.device().executed() > 0);
    assert_eq!(seen, run(&mut Portable, |_| ()).expect("no error"));

    let mut replays = 0;
    for entry in &seen.entries {
        match entry {
            Entry::Visit(visit) => {
                let Outcome { underflow, overflow, nonfinite, .. } = visit.outcome;
                assert_eq!((underflow + overflow, nonfinite), (0, 0), "{entry}");
                assert!(visit.outcome.nonzero() > 0, "{entry}");
                replays += u32::from(visit.passes == 3);
            }
            Entry::Step(end) => assert_eq!(end.verdict, Verdict::Apply),
            _ => panic!("{entry}"),
        }
    }
    // First visits are measured, and narrowed twice.
    assert_eq!(replays as usize, VISITS);
    assert_eq!(seen.entries.len(), LINES);
}
