//! A training step on a device that breaks: a verdict or an error, never non-finite weights.

use adaloss_core::{
    format::{Element, Format, f16},
    policy::{Cell, Config},
    propagate::Scaled,
    scaler::{LossScaler, OpenVisit},
    unscale::{Cause, Place, Unscaled, Verdict},
};
use adaloss_hal::{
    AddressSpace, DeviceEpilogue, ErrorKind, HasMatmul, HasNarrow, HostEpilogue, Matmul, Memory,
    Narrow, OperationKind, Product, Run, Unscale,
    fault::{Fault, FaultError, Injection},
    portable::Portable,
    record::Record,
};

use crate::memory::{Accelerator, AcceleratorError};

const BATCH: usize = 3;
const WIDTH: usize = 5;
const LAYERS: usize = 3;

const CELL: &str = "the scaler has a cell for each tensor";
const DONE: &str = "there are no more passes";

/// The cells of a layer: its input gradient and its weight gradient.
const CELLS: usize = 2 * LAYERS;

fn loss_gradient() -> Vec<f32> {
    (0..BATCH * WIDTH).map(|i| (i as f32 - 6.0) * 3.0e-9).collect()
}

fn weight(layer: usize) -> Vec<f16> {
    (0..WIDTH * WIDTH).map(|i| f16::from_f32(((i * 3 + layer) % 7) as f32 * 0.25 - 0.5)).collect()
}

/// What a step gives an optimizer.
struct Done {
    verdict: Verdict,
    weight_gradients: Vec<Vec<f32>>,
}

/// One step on any device with memory; the scaler lives on the host.
struct Training<D: Memory> {
    epilogue: DeviceEpilogue<D>,
    weights: Vec<D::Buffer<f16>>,
    input: D::Buffer<f16>,
    loss_gradient: D::Buffer<f32>,
}

impl<D: Memory + HasMatmul<f16, f16, f16>> Training<D> {
    fn new(device: &mut D) -> Result<Self, D::Error> {
        let mut weights = Vec::new();
        for layer in 0..LAYERS {
            weights.push(device.zeroed(WIDTH * WIDTH)?);
            device.write(&weight(layer), D::view_mut(&mut weights[layer]))?;
        }
        let mut input = device.zeroed(BATCH * WIDTH)?;
        device.write(&weight(9)[..BATCH * WIDTH], D::view_mut(&mut input))?;
        let mut gradient = device.zeroed(BATCH * WIDTH)?;
        device.write(&loss_gradient(), D::view_mut(&mut gradient))?;
        let epilogue = DeviceEpilogue::new(device)?;
        Ok(Self { epilogue, weights, input, loss_gradient: gradient })
    }

    fn step(&mut self, device: &mut D, scaler: &mut LossScaler<CELLS>) -> Result<Done, D::Error> {
        let Self { epilogue, weights, input, loss_gradient } = self;
        let mut step = scaler.begin();
        let mut narrowed = device.zeroed(BATCH * WIDTH)?;
        let mut visit = step.loss();
        while let Some(mut pass) = visit.next_pass() {
            epilogue.run(device, &mut pass, |device, mut epilogue| {
                let (to, epilogue) = (D::view_mut(&mut narrowed), epilogue.reborrow());
                device.run(Narrow { input: D::view(loss_gradient), to, epilogue })
            })?;
        }
        let mut gradient = visit.finish(narrowed).expect(DONE);
        let mut weight_gradients = Vec::new();
        for layer in (0..LAYERS).rev() {
            let product = Product::new(WIDTH, BATCH, WIDTH).transpose_a();
            let visit = step.layer(LAYERS + layer, &gradient).expect(CELL);
            let weight_gradient = multiply(device, epilogue, visit, product, &gradient, input)?;
            let product = Product::new(BATCH, WIDTH, WIDTH);
            let visit = step.layer(layer, &gradient).expect(CELL);
            let next = multiply(device, epilogue, visit, product, &gradient, &weights[layer])?;
            let (unscaled, unscale_counts) = unscale(device, &weight_gradient)?;
            step.unscaled(LAYERS + layer, &unscale_counts);
            weight_gradients.push(unscaled);
            gradient = next;
        }
        // The gradient of the input is unscaled as well.
        let (unscaled, unscale_counts) = unscale(device, &gradient)?;
        step.unscaled(0, &unscale_counts);
        weight_gradients.push(unscaled);
        Ok(Done { verdict: step.finish(), weight_gradients })
    }
}

/// Multiplies two matrices as the passes of a visit ask for it.
fn multiply<D: Memory + HasMatmul<f16, f16, f16>>(
    device: &mut D,
    epilogue: &mut DeviceEpilogue<D>,
    mut visit: OpenVisit<'_>,
    product: Product,
    a: &Scaled<D::Buffer<f16>>,
    b: &D::Buffer<f16>,
) -> Result<Scaled<D::Buffer<f16>>, D::Error> {
    let (a, _) = a.as_ref().into_parts();
    let mut result = device.zeroed(product.rows * product.columns)?;
    while let Some(mut pass) = visit.next_pass() {
        epilogue.run(device, &mut pass, |device, mut epilogue| {
            let (to, epilogue) = (D::view_mut(&mut result), epilogue.reborrow());
            device.run(Matmul { product, a: D::view(a), b: D::view(b), bias: None, to, epilogue })
        })?;
    }
    Ok(visit.finish(result).expect(DONE))
}

/// Unscales a gradient on the device and reads it.
fn unscale<D: Memory + HasNarrow<f16>>(
    device: &mut D,
    gradient: &Scaled<D::Buffer<f16>>,
) -> Result<(Vec<f32>, Unscaled), D::Error> {
    let (buffer, scale) = gradient.as_ref().into_parts();
    let mut values = vec![0.0; D::Space::len(D::view(buffer))];
    let mut to = device.zeroed(values.len())?;
    let (mut cell, mut unscale_counts) = (device.zeroed(1)?, device.zeroed(1)?);
    device.write(&[Cell::at(scale)], D::view_mut(&mut cell))?;
    device.run(Unscale::<D::Space, f16> {
        gradient: D::view(buffer),
        cell: D::view(&cell),
        to: D::view_mut(&mut to),
        counts: D::view_mut(&mut unscale_counts),
    })?;
    device.read(D::view(&to), &mut values)?;
    let mut counts = [Unscaled::default()];
    device.read(D::view(&unscale_counts), &mut counts)?;
    Ok((values, counts[0]))
}

type Broken<P> = Fault<Accelerator, P>;
type StepResult = Result<Done, FaultError<AcceleratorError>>;

/// Runs a first step on an accelerator that breaks by a plan, and tells how often it did.
fn broken_step(plan: impl FnMut(OperationKind, usize) -> Option<Injection>) -> (StepResult, u64) {
    fn inner<P: FnMut(OperationKind, usize) -> Option<Injection>>(
        device: &mut Broken<P>,
    ) -> StepResult {
        let mut scaler = LossScaler::new(Config::for_format(Format::BINARY16));
        Training::new(device)?.step(device, &mut scaler)
    }
    let mut device = Fault::new(Accelerator::new(), plan);
    (inner(&mut device), device.injected())
}

/// A plan that makes one fault at the `nth` call of the operations it looks at.
fn once(
    nth: usize,
    of: impl Fn(OperationKind) -> bool,
    injection: impl Fn(usize) -> Injection,
) -> impl FnMut(OperationKind, usize) -> Option<Injection> {
    let mut calls = 0;
    move |operation, elements| {
        let is_due = of(operation) && calls == nth;
        calls += usize::from(of(operation));
        is_due.then(|| injection(elements))
    }
}

/// Whether an operation narrows, so that what it leaves is read again by another one.
fn narrows(operation: OperationKind) -> bool {
    matches!(operation, OperationKind::Apply | OperationKind::Matmul)
}

/// The passes of a first step that narrow: each tensor is measured, stored to find its scale, and stored.
const PASSES: usize = 3 * (1 + 2 * LAYERS);

#[test]
fn a_sound_device_needs_no_verdict_but_apply() {
    let (done, injected) = broken_step(|_, _| None);
    let done = done.expect("no error");
    assert_eq!((done.verdict, injected), (Verdict::Apply, 0));
    assert_eq!(done.weight_gradients.len(), LAYERS + 1);
    assert!(done.weight_gradients.iter().flatten().any(|&x| x != 0.0));
}

#[test]
fn what_is_not_finite_is_named_by_the_layer_that_meets_it() {
    // What the passes of a step write: the loss, then weight and input gradient of each layer.
    let place = |nth: usize| match nth / 3 {
        tensor if tensor % 2 == 1 => Place::Weight(CELLS - 1 - tensor / 2),
        tensor if tensor == 2 * LAYERS => Place::Weight(0), // the caller alone uses it
        tensor => Place::Layer(CELLS - 1 - tensor / 2), // the weight gradient of the layer below
    };
    let injections: [fn(usize) -> Injection; 2] = [
        |elements| Injection::Nan { index: elements / 2 },
        |elements| Injection::Infinity { index: elements - 1 },
    ];
    for nth in 0..PASSES {
        for injection in injections {
            let (done, injected) = broken_step(once(nth, narrows, injection));
            assert_eq!(injected, 1);
            let verdict = done.expect("no error").verdict;
            let expected = match nth % 3 {
                2 => Verdict::Skip { layer: place(nth), cause: Cause::NonFinite },
                _ => Verdict::Apply, // the next pass stores over it
            };
            assert_eq!(verdict, expected, "pass {nth}");
        }
    }
}

#[test]
fn no_flipped_bit_lets_anything_pass_that_is_not_finite() {
    let (mut skipped, mut runs) = (0, 0);
    for nth in 0..PASSES {
        for bit in 0..16 {
            for index in [0, 7, 14] {
                let flip = |_| Injection::Flip { index, bit };
                let (done, injected) = broken_step(once(nth, narrows, flip));
                let done = done.expect("no error");
                assert_eq!(injected, 1);
                let is_finite = done.weight_gradients.iter().flatten().all(|x| x.is_finite());
                assert!(is_finite || done.verdict != Verdict::Apply, "pass {nth}, bit {bit}");
                skipped += usize::from(done.verdict != Verdict::Apply);
                runs += 1;
            }
        }
    }
    assert!(skipped < runs);
}

#[test]
fn a_failure_of_the_device_is_its_error() {
    for operation in OperationKind::ALL {
        for nth in 0.. {
            let kind = ErrorKind::Hardware;
            let plan = once(nth, |asked| asked == operation, |_| Injection::Fail(kind));
            match broken_step(plan) {
                (Ok(done), injected) => {
                    assert_eq!((done.verdict, injected), (Verdict::Apply, 0));
                    break; // there is no such call any more
                }
                (Err(error), injected) => {
                    let expected = FaultError::Injected { operation, kind };
                    assert_eq!((error, injected), (expected, 1));
                }
            }
        }
    }
}

#[test]
fn an_operation_that_never_happens_leaves_nothing_that_is_not_finite() {
    let computes = |operation| narrows(operation) || operation == OperationKind::Unscale;
    for nth in 0..PASSES + LAYERS + 1 {
        let (done, injected) = broken_step(once(nth, computes, |_| Injection::Drop));
        let done = done.expect("no error");
        assert_eq!(injected, 1);
        assert!(done.weight_gradients.iter().flatten().all(|x| x.is_finite()));
    }
}

#[test]
fn faults_that_cannot_be_are_errors() {
    let faults = [
        Injection::Nan { index: 15 },
        Injection::Infinity { index: usize::MAX },
        Injection::Flip { index: 0, bit: 16 },
    ];
    for injection in faults {
        let (done, injected) = broken_step(once(0, narrows, |_| injection));
        let operation = OperationKind::Apply;
        let expected = FaultError::Impossible { operation, injection };
        assert_eq!((done.err(), injected), (Some(expected), 0));
    }
    let read = |operation| operation == OperationKind::Read;
    let (done, _) = broken_step(once(0, read, |_| Injection::Nan { index: 0 }));
    assert!(matches!(done, Err(FaultError::Impossible { .. })));
}

/// One scaler on a device with memory of its own, one on host memory: the same run.
#[test]
fn a_scaler_on_the_host_drives_both_shapes_of_device() {
    let config = Config::for_format(Format::BINARY16);
    let mut device = Record::counting(Accelerator::new());
    let mut training = Training::new(&mut device).expect("memory");
    let (mut there, mut here) = (LossScaler::new(config), LossScaler::<CELLS>::new(config));
    for _ in 0..25 {
        let done = training.step(&mut device, &mut there).expect("no error");
        assert_eq!(done.verdict, Verdict::Apply);

        let mut step = here.begin();
        let mut narrowed = vec![f16::ZERO; BATCH * WIDTH];
        let mut visit = step.loss();
        while let Some(mut pass) = visit.next_pass() {
            let mut epilogue = HostEpilogue::new(&mut pass);
            let (to, epilogue) = (&mut narrowed[..], epilogue.epilogue());
            Portable.run(Narrow { input: &loss_gradient()[..], to, epilogue }).expect("no error");
        }
        let mut gradient = visit.finish(narrowed).expect(DONE);
        let mut gradients = Vec::new();
        for layer in (0..LAYERS).rev() {
            let g = gradient.clone().into_parts().0;
            let multiply = |mut visit: OpenVisit<'_>, product: Product, b: &[f16]| {
                let mut result = vec![f16::ZERO; product.rows * product.columns];
                while let Some(mut pass) = visit.next_pass() {
                    let mut epilogue = HostEpilogue::new(&mut pass);
                    let (a, to, epilogue) = (&g[..], &mut result[..], epilogue.epilogue());
                    Portable
                        .run(Matmul { product, a, b, bias: None, to, epilogue })
                        .expect("no error");
                }
                visit.finish(result).expect(DONE)
            };
            let product = Product::new(WIDTH, BATCH, WIDTH).transpose_a();
            let input = &weight(9)[..BATCH * WIDTH];
            let visit = step.layer(LAYERS + layer, &gradient).expect(CELL);
            let weight_gradient = multiply(visit, product, input);
            let product = Product::new(BATCH, WIDTH, WIDTH);
            gradients.push(
                weight_gradient.unscale(|g, inverse| {
                    g.iter().map(|x| x.widen() * inverse).collect::<Vec<_>>()
                }),
            );
            let visit = step.layer(layer, &gradient).expect(CELL);
            gradient = multiply(visit, product, &weight(layer));
        }
        assert_eq!(step.finish(), Verdict::Apply);
        assert_eq!(gradients, done.weight_gradients[..LAYERS]);
        assert_eq!(here.digest(), there.digest());
    }
    assert!(here.decisions().eq(there.decisions()));
    assert!(device.counts().of(OperationKind::Read) > 0);
}
