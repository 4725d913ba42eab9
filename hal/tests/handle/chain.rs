//! A backward pass whose scales, counts and gradients never leave the device.

use adaloss_core::{
    format::{Format, Noise, Overflow, f16},
    policy::{Cell, Certificate, Config},
    statistics::{Histogram, Outcome},
    unscale::Unscaled,
};
use adaloss_hal::{
    AddressSpace, Branch, Certify, Device, Epilogue, Finish, HasDecide, HasMatmul, Matmul, Memory,
    Mut, Narrow, Note, OperationKind, Plain, Product, Propagate, Ref, Unscale, portable::Portable,
    record::Record,
};

use crate::memory::Accelerator;

const BATCH: usize = 5;
const WIDTH: usize = 6;
const LAYERS: usize = 4;
const STEPS: u32 = 6;

/// A tensor with the memory of its scale: what a visit needs on the device.
struct Visited<D: Memory> {
    gradient: D::Buffer<f16>,
    cell: D::Buffer<Cell>,
    histogram: D::Buffer<Histogram>,
    certificate: D::Buffer<Certificate>,
    outcome: D::Buffer<Outcome>,
}

impl<D: Memory + HasDecide> Visited<D> {
    fn new(device: &mut D, config: &Config, elements: usize) -> Result<Self, D::Error> {
        let mut visited = Self {
            gradient: device.zeroed(elements)?,
            cell: device.zeroed(1)?,
            histogram: device.zeroed(1)?,
            certificate: device.zeroed(1)?,
            outcome: device.zeroed(1)?,
        };
        device.write(&[config.cell()], D::view_mut(&mut visited.cell))?;
        Ok(visited)
    }

    /// Measures an operation, runs it again to store, takes note, and certifies; a first visit stores once more,
    /// at the cell's first scale.
    fn visit(
        &mut self,
        device: &mut D,
        config: &Config,
        is_first: bool,
        from: Ref<'_, D, Cell>,
        operation: impl for<'w> Fn(
            &mut D,
            Mut<'w, D, f16>,
            Epilogue<'w, D::Space>,
        ) -> Result<(), D::Error>,
    ) -> Result<(), D::Error> {
        let empty = Histogram::new(config.narrowing());
        device.write(&[empty], D::view_mut(&mut self.histogram))?;
        let run = |this: &mut Self, device: &mut D, stores| {
            device.write(&[Outcome::EMPTY], D::view_mut(&mut this.outcome))?;
            let epilogue = Epilogue {
                from: D::Space::reborrow(from),
                to: D::view(&this.cell),
                narrowing: config.narrowing(),
                noise: Noise::default(),
                stores,
                outcome: D::view_mut(&mut this.outcome),
                histogram: (!stores).then(|| D::view_mut(&mut this.histogram)),
            };
            operation(device, D::view_mut(&mut this.gradient), epilogue)
        };
        run(self, device, false)?;
        run(self, device, true)?;
        let (outcome, cell) = (D::view(&self.outcome), D::view_mut(&mut self.cell));
        let from = D::Space::reborrow(from);
        device.run(Note::<D::Space> { config, outcome, from, cell })?;
        if is_first {
            run(self, device, true)?;
        }
        let (histogram, cell) = (D::view(&self.histogram), D::view_mut(&mut self.cell));
        let certificate = D::view_mut(&mut self.certificate);
        device.run(Certify::<D::Space> { config, histogram, cell, certificate })
    }
}

/// A network of linear layers with a residual connection around all of them.
struct Network<D: Memory> {
    loss_gradient: D::Buffer<f32>,
    weights: Vec<D::Buffer<f16>>,
    inputs: Vec<D::Buffer<f16>>,
    unscaled_cell: D::Buffer<Cell>,
    loss: Visited<D>,
    layers: Vec<Visited<D>>,
    weight_gradients: Vec<Visited<D>>,
    join: Visited<D>,
    unscaled: Vec<D::Buffer<f32>>,
    unscale_counts: D::Buffer<Unscaled>,
}

/// Everything that is looked at, once, after the last step.
#[derive(Debug, PartialEq)]
struct Seen {
    unscaled: Vec<Vec<u32>>,
    outcomes: Vec<Outcome>,
    certificates: Vec<Certificate>,
    unscale_counts: Unscaled,
}

impl<D: Memory + HasMatmul<f16, f16, f16> + HasDecide> Network<D> {
    fn new(device: &mut D, config: &Config) -> Result<Self, D::Error> {
        // Integers times one power of two: sums are exact, and so the same in any order.
        let mut integers = |elements: usize, seed: usize| {
            let integer = |i: usize| f16::from_f32(((i * 7 + seed * 3) % 5) as f32 - 2.0);
            let mut buffer = device.zeroed(elements)?;
            let values: Vec<f16> = (0..elements).map(integer).collect();
            device.write(&values, D::view_mut(&mut buffer)).map(|()| buffer)
        };
        let (mut weights, mut inputs) = (Vec::new(), Vec::new());
        for layer in 0..LAYERS {
            weights.push(integers(WIDTH * WIDTH, layer)?);
            inputs.push(integers(BATCH * WIDTH, layer + 100)?);
        }
        let mut visited = |elements| Visited::new(device, config, elements);
        let (mut layers, mut weight_gradients) = (Vec::new(), Vec::new());
        for _ in 0..LAYERS {
            layers.push(visited(BATCH * WIDTH)?);
            weight_gradients.push(visited(WIDTH * WIDTH)?);
        }
        let (loss, join) = (visited(BATCH * WIDTH)?, visited(BATCH * WIDTH)?);
        let mut unscaled = Vec::new();
        for _ in 0..LAYERS {
            unscaled.push(device.zeroed(WIDTH * WIDTH)?);
        }
        let mut unscaled_cell = device.zeroed(1)?;
        device.write(&[Cell::new()], D::view_mut(&mut unscaled_cell))?;
        let (loss_gradient, unscale_counts) = (device.zeroed(BATCH * WIDTH)?, device.zeroed(1)?);
        Ok(Self {
            loss_gradient,
            weights,
            inputs,
            unscaled_cell,
            loss,
            layers,
            weight_gradients,
            join,
            unscaled,
            unscale_counts,
        })
    }

    fn backward(&mut self, device: &mut D, config: &Config, step: u32) -> Result<(), D::Error> {
        let is_first = step == 0;
        // Far below what binary16 holds unscaled, and drifting.
        let unit = f32::exp2(-30.0 - 3.0 * step as f32);
        let values = (0..BATCH * WIDTH).map(|i| (i % 7) as f32 * unit).collect::<Vec<_>>();
        device.write(&values, D::view_mut(&mut self.loss_gradient))?;
        let from = D::view(&self.unscaled_cell);
        self.loss.visit(device, config, is_first, from, |device, to, epilogue| {
            let input = D::view(&self.loss_gradient);
            device.run(Narrow { input, to, epilogue })
        })?;

        let mut above = &self.loss;
        let layers = self.layers.iter_mut().zip(&mut self.weight_gradients);
        for (index, (layer, weight_gradient)) in layers.enumerate() {
            let (gradient, cell) = (D::view(&above.gradient), D::view(&above.cell));
            let input = D::view(&self.inputs[index]);
            let product = Product::new(WIDTH, BATCH, WIDTH).transpose_a();
            weight_gradient.visit(device, config, is_first, cell, |device, to, epilogue| {
                let (a, b) = (D::Space::reborrow(gradient), D::Space::reborrow(input));
                device.run(Matmul { product, a, b, to, epilogue })
            })?;
            device.run(Unscale::<D::Space, f16> {
                gradient: D::view(&weight_gradient.gradient),
                cell: D::view(&weight_gradient.cell),
                to: D::view_mut(&mut self.unscaled[index]),
                counts: D::view_mut(&mut self.unscale_counts),
            })?;
            let weight = D::view(&self.weights[index]);
            let product = Product::new(BATCH, WIDTH, WIDTH);
            layer.visit(device, config, is_first, cell, |device, to, epilogue| {
                let (a, b) = (D::Space::reborrow(gradient), D::Space::reborrow(weight));
                device.run(Matmul { product, a, b, to, epilogue })
            })?;
            above = layer;
        }
        // A host that knows no scale brings the branches to that of the first.
        let from = D::view(&above.cell);
        let branches = [above, &self.loss]
            .map(|of| Branch { gradient: D::view(&of.gradient), cell: D::view(&of.cell) });
        self.join.visit(device, config, is_first, from, |device, to, epilogue| {
            device.run(Propagate { branches: &branches, to, epilogue })
        })?;
        let layers = self.layers.iter_mut().chain(&mut self.weight_gradients);
        for visited in layers.chain([&mut self.loss, &mut self.join]) {
            let cells = D::view_mut(&mut visited.cell);
            device.run(Finish::<D::Space> { config, cells })?;
        }
        Ok(())
    }

    fn look(&self, device: &mut D) -> Result<Seen, D::Error> {
        let mut unscaled = Vec::new();
        for gradient in &self.unscaled {
            let values: Vec<f32> = fetch(device, D::view(gradient))?;
            unscaled.push(values.into_iter().map(f32::to_bits).collect());
        }
        let visited = [&self.loss, &self.join];
        let visited = visited.into_iter().chain(&self.layers).chain(&self.weight_gradients);
        let (mut outcomes, mut certificates) = (Vec::new(), Vec::new());
        for visited in visited {
            outcomes.extend(fetch(device, D::view(&visited.outcome))?);
            certificates.extend(fetch(device, D::view(&visited.certificate))?);
        }
        let unscale_counts = fetch(device, D::view(&self.unscale_counts))?[0];
        Ok(Seen { unscaled, outcomes, certificates, unscale_counts })
    }
}

fn fetch<T: Plain, D: Device>(device: &mut D, from: Ref<'_, D, T>) -> Result<Vec<T>, D::Error> {
    let mut values = vec![T::zeroed(); D::Space::len(from)];
    device.read(from, &mut values).map(|()| values)
}

/// Runs some steps, calls `before_reading`, and looks at what is there.
fn run<D: Memory + HasMatmul<f16, f16, f16> + HasDecide>(
    device: &mut D,
    before_reading: impl FnOnce(&D),
) -> Result<Seen, D::Error> {
    // A replay needs a read, and this chain has none.
    let config = Config::for_format(Format::BINARY16).with_overflow(Overflow::Saturate);
    let mut network = Network::new(device, &config)?;
    for step in 0..STEPS {
        network.backward(device, &config, step)?;
    }
    before_reading(device);
    network.look(device)
}

#[test]
fn a_backward_pass_waits_for_nothing() {
    let mut device = Record::counting(Accelerator::new());
    let seen = run(&mut device, |device| {
        let counts = device.counts();
        assert_eq!(counts.of(OperationKind::Read), 0);
        let (visits, steps) = (1 + 2 * LAYERS as u64 + 1, u64::from(STEPS));
        assert_eq!(counts.of(OperationKind::Finish), steps * visits);
        // A visit is measured, stored, noted and certified, and the first stored once more.
        let visited = steps * visits * 4 + visits;
        assert_eq!(counts.computations(), visited + steps * (LAYERS as u64 + visits));
        assert_eq!(device.device().executed(), 0, "computed before it was asked");
    })
    .expect("no error");
    assert!(device.device().executed() > 0);
    assert_eq!(seen, run(&mut Portable, |_| ()).expect("no error"));

    assert_eq!(seen.unscale_counts.nonfinite, 0);
    assert!(seen.outcomes.iter().all(|outcome| outcome.underflow + outcome.overflow == 0));
    assert!(seen.outcomes.iter().all(|outcome| outcome.nonzero() > 0));
    // The loss gradient reaches up to 6 * 2^-45 in the last step, and the scale lags behind.
    assert!((40..57).contains(&seen.certificates[0].scale.log2()), "{}", seen.certificates[0]);
    assert!(seen.certificates.iter().all(|certificate| certificate.promised));
}
