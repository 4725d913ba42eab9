//! Sums in f32 that overflow lower the scale of the tensor that they are of, whatever carried it since.

use adaloss_core::{
    format::{Format, bf16},
    policy::{Cell, Config},
    unscale::{Cause, Place, Verdict},
};
use adaloss_hal::{Device, Matmul, Product, Run, portable::Portable};
use adaloss_train::{
    layer::{
        Backward, EpilogueBuffers, Gradient, MicroBatch, NoObserver, NoSink, Parameter, Role,
        Scaler, Shape, Tensor, Total, Vector,
    },
    network::Mode,
};
use anyhow::Result;

const COUNT: usize = 4;
const SHAPE: Shape = Shape { samples: COUNT, height: 1, width: 1, channels: 1 };

type Back<'w> = Backward<'w, Portable>;

/// Takes a gradient of 2^120 back, which bfloat16 holds unscaled, and returns the verdict and the scale of the
/// loss in the next step.
fn step(operation: impl FnOnce(&mut Back<'_>, Gradient<Portable, bf16>)) -> (Verdict, i32) {
    let (mut device, sink) = (Portable, &mut NoSink);
    let config = Config::for_format(Format::BFLOAT16);
    let mut scaler = Scaler::new(&mut device, config, 1).unwrap();
    let mut buffers = EpilogueBuffers::new(&mut device).unwrap();
    let mut gradient = Tensor::zeroed(&mut device, SHAPE).unwrap();
    device.write(&[2.0_f32.powi(120); COUNT], gradient.view_mut()).unwrap();
    let mut run = Backward::new(&mut device, &mut buffers, &mut scaler, Mode::default(), sink);
    let narrowed = run.loss::<bf16>(&gradient).unwrap();
    operation(&mut run, narrowed);
    scaler.conclude(&mut device, None).unwrap();
    let verdict = scaler.read(&mut device, &mut NoObserver).unwrap().end.verdict;
    // The loss of the next step tells the scale.
    let mut run = Backward::new(&mut device, &mut buffers, &mut scaler, Mode::default(), sink);
    let narrowed = run.loss::<bf16>(&gradient).unwrap();
    let mut scale = [Cell::new()];
    device.read(narrowed.carried().scale(), &mut scale).unwrap();
    (verdict, scale[0].scale().log2())
}

/// Fills the gradient of a weight: the sum of four products with activations of this size.
fn weight_gradient(
    run: &mut Back<'_>,
    gradient: &Gradient<Portable, bf16>,
    activation: f32,
) -> Result<()> {
    let input = Vector::of(run.device, &[bf16::from_f32(activation); COUNT])?;
    let mut weight =
        Parameter::<_, bf16>::plain(run.device, "weight".into(), &[0.0], Role::Weight)?;
    let product = Product::new(1, COUNT, 1).transpose_a();
    run.weight_gradient(&mut weight, gradient, |device, gradient, to, mut epilogue| {
        let (a, b, epilogue) = (gradient, input.view(), epilogue.reborrow());
        device.run(Matmul { product, a, b, bias: None, to, epilogue })
    })
}

const SKIPPED: Verdict = Verdict::Skip { layer: Place::Weight(0), cause: Cause::NonFinite };

#[test]
fn of_a_weight() {
    let of =
        |activation| step(|run, gradient| weight_gradient(run, &gradient, activation).unwrap());
    assert_eq!(of(1.0), (Verdict::Apply, 0));
    assert_eq!(of(1024.0), (SKIPPED, -4));
}

#[test]
fn of_a_weight_behind_what_was_carried() {
    let carried = step(|run, gradient| {
        let carried = run.carry(gradient, SHAPE, |device, from, to, _| {
            let mut values = [bf16::ZERO; COUNT];
            device.read(from, &mut values)?;
            device.write(&values, to)
        });
        weight_gradient(run, &carried.unwrap(), 1024.0).unwrap();
    });
    assert_eq!(carried, (SKIPPED, -4));
}

#[test]
fn that_were_made_before_they_are_unscaled() {
    let of = |sum: f32| {
        step(|run, gradient| {
            let sums = Vector::of(run.device, &[sum]).unwrap();
            let mut bias =
                Parameter::<_, bf16>::plain(run.device, "bias".into(), &[0.0], Role::Bias).unwrap();
            run.unscale(&mut bias, &sums, gradient.carried()).unwrap();
        })
    };
    assert_eq!(of(3.0e38), (Verdict::Apply, 0));
    assert_eq!(of(f32::INFINITY), (SKIPPED, -4));
}

/// The sum of `values` by the binary tree, written down as a recursion.
fn tree(values: &[f32]) -> f32 {
    match values {
        [] => 0.0,
        [one] => *one,
        _ => {
            let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
            tree(left) + tree(right)
        }
    }
}

#[test]
fn micro_batches_are_summed_by_a_tree() {
    let mut device = Portable;
    let value = |nth: usize| (1.0 + nth as f32 / 3.0) * [1.0, -1.0e5, 1.0e-4][nth % 3];
    let mut total = Total::zeroed(&mut device, 1).unwrap();
    for count in 1..=20 {
        let values: Vec<f32> = (0..count).map(value).collect();
        for (part, &value) in MicroBatch::all(count).zip(&values) {
            // Of two losses, the second of which adds nothing but in the first micro-batch.
            let second = if part.nth == 0 { 0.5 } else { 0.0 };
            total.put(&mut device, part, |device, to| device.write(&[value - second], to)).unwrap();
            total.add(&mut device, |device, to| device.write(&[second], to)).unwrap();
        }
        total.complete(&mut device).unwrap();
        let found = total.value().read_one(&mut device).unwrap();
        assert_eq!(found.to_bits(), tree(&values).to_bits(), "{count}");
    }
}
