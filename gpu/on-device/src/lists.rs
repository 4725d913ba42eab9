//! All tensors of a model in one launch.

use adaloss_core::{format::f16, policy::Cell, unscale::Unscaled};
use adaloss_gpu::{Buffer, Cuda, Gradient, Into, Weight};
use adaloss_hal::{Device, Memory, Narrow, Run};
use serde_json::json;

use crate::{
    rows::Rows,
    setup::{End, gradients},
    timing::time,
};
use adaloss_on_device::entries::SGD;

/// Channels of the first stage of a ResNet-50, as published, and for a trial of the program.
pub(crate) const WIDTHS: [usize; 2] = [64, 1];

/// Lengths of the weights of a ResNet-50 with so many channels in its first stage.
fn resnet_50(width: usize) -> Vec<usize> {
    let mut counts = vec![3 * 49 * width, width, width];
    let mut channels = width;
    for (blocks, stage) in [3, 4, 6, 3].into_iter().zip(0..) {
        let width = width << stage;
        for block in 0..blocks {
            counts.extend([channels * width, width, width, 9 * width * width, width, width]);
            counts.extend([4 * width * width, 4 * width, 4 * width]);
            if block == 0 {
                counts.extend([channels * 4 * width, 4 * width, 4 * width]);
            }
            channels = 4 * width;
        }
    }
    counts.extend([1000 * channels, 1000]);
    counts
}

/// A model's weight and what belongs to it.
struct Tensor {
    gradient: Buffer<f16>,
    unscaled: Buffer<f32>,
    met: Buffer<Unscaled>,
    weight: Buffer<f32>,
    momentum: Buffer<f32>,
}

impl Tensor {
    fn new(device: &mut Cuda, count: usize, end: &mut End) -> anyhow::Result<Self> {
        let unscaled = gradients(device, count)?;
        let mut gradient = device.zeroed(count)?;
        let epilogue = end.epilogue::<f16>(true, false);
        device.run(Narrow { input: unscaled.view(), to: gradient.view_mut(), epilogue })?;
        let (weight, momentum) = (gradients(device, count)?, gradients(device, count)?);
        Ok(Self { gradient, unscaled, met: device.zeroed(1)?, weight, momentum })
    }
}

fn named<'a>(
    tensors: &'a mut [Tensor],
    cell: &'a Buffer<Cell>,
) -> impl Iterator<Item = Gradient<'a, f16>> {
    tensors.iter_mut().map(move |Tensor { gradient, unscaled, met, .. }| Gradient {
        from: gradient.view(),
        cell: cell.view(),
        to: Some(unscaled.view_mut()),
        met: met.view_mut(),
    })
}

fn updated<'a>(
    tensors: &'a mut [Tensor],
    cell: &'a Buffer<Cell>,
) -> impl Iterator<Item = Weight<'a, f16>> {
    tensors.iter_mut().map(move |Tensor { gradient, weight, momentum, .. }| Weight {
        gradient: gradient.view(),
        cell: cell.view(),
        weight: weight.view_mut(),
        momentum: momentum.view_mut(),
    })
}

/// Times the unscaling of all gradients of a ResNet-50 and its step, in one launch each.
pub(crate) fn run(rows: &mut Rows, device: &mut Cuda, width: usize) -> anyhow::Result<()> {
    let counts = resnet_50(width);
    let mut end = End::new::<f16>(device, 12)?;
    let tensors = counts.iter().map(|&count| Tensor::new(device, count, &mut end));
    let mut tensors = tensors.collect::<anyhow::Result<Vec<_>>>()?;
    let cell = device.zeroed::<Cell>(1)?;
    let (mut bad, mut steps) = (device.zeroed(1)?, device.zeroed(1)?);
    let gradients = device.gradients(named(&mut tensors, &cell))?;
    let weights = device.weights(updated(&mut tensors, &cell))?;
    let total: usize = counts.iter().sum();
    let row = |timed: crate::timing::Timed, bytes: usize| {
        let mut row = timed.json();
        row["tensors"] = counts.len().into();
        row["elements"] = total.into();
        row["gb_per_s"] = ((bytes * total) as f64 / timed.ms / 1.0e6).into();
        row
    };
    for (name, into, bytes) in [("unscale", Into::Place, 6), ("check", Into::Nothing, 2)] {
        rows.row(name, || {
            let timed = time(device, |device, _| {
                Ok(device.unscale_all(
                    &gradients,
                    named(&mut tensors, &cell),
                    into,
                    bad.view_mut(),
                )?)
            })?;
            let mut row = row(timed, bytes);
            // For those who do the same elsewhere.
            row["lengths"] = json!(counts);
            Ok(row)
        })?;
    }
    rows.row("unscale and update", || {
        let timed = time(device, |device, _| {
            let updated = updated(&mut tensors, &cell);
            Ok(device.sgd(&weights, updated, SGD, bad.view(), None, steps.view_mut())?)
        })?;
        let mut taken = [0_u64];
        device.read(steps.view(), &mut taken)?;
        let mut row = row(timed, 18);
        row["steps"] = json!(taken[0]);
        row["learning_rate"] = json!(SGD.learning_rate);
        row["momentum"] = json!(SGD.momentum);
        row["weight_decay"] = json!(SGD.weight_decay);
        Ok(row)
    })
}
