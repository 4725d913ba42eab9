//! The entry points of what layers need, beside the portable device.

use adaloss_core::{
    format::{E4M3, E5M2, Element, bf16, f16},
    unscale::LossSum,
};
use adaloss_gpu::Cuda;
use adaloss_hal::{
    Memory, Plain,
    network::{
        Accumulate, AdamW, AdamWStep, Blend, HasAccumulate, HasLoss, HasRelu, HasUpdate, Relu,
        ReluInput, Sgd, SgdStep, SoftmaxCrossEntropy, SquareNorm,
    },
    portable::Portable,
};

use super::{Readout, Row, bits, compare, elements, elements_of, failed, put, take, values};

/// Columns of what is added to rows, and classes of a loss.
const COLUMNS: usize = 8;

/// Runs the entry points of layers, over so many elements.
pub(super) fn run(device: &mut Cuda, count: usize, row: &mut Row<'_>) -> anyhow::Result<()> {
    of_elements::<f16>(row, device, "f16", count)?;
    of_elements::<bf16>(row, device, "bf16", count)?;
    of_elements::<E5M2>(row, device, "e5m2", count)?;
    of_elements::<E4M3>(row, device, "e4m3", count)?;
    of_elements::<f32>(row, device, "f32", count)?;
    row("adaloss_accumulate", &mut || {
        compare(accumulated(device, count)?, accumulated(&mut Portable, count)?)
    })?;
    row("adaloss_blend", &mut || compare(blended(device, count)?, blended(&mut Portable, count)?))?;
    // One operation by three launches, and one by two of which the last is the same.
    for entry in ["adaloss_loss_weights", "adaloss_softmax_cross_entropy", "adaloss_add_sums"] {
        row(entry, &mut || compare(loss(device, count)?, loss(&mut Portable, count)?))?;
    }
    row("adaloss_square_norm", &mut || compare(norm(device, count)?, norm(&mut Portable, count)?))?;
    row("adaloss_sgd_step", &mut || {
        compare(by_sgd(device, count)?, by_sgd(&mut Portable, count)?)
    })?;
    row("adaloss_adamw_step", &mut || {
        compare(by_adamw(device, count)?, by_adamw(&mut Portable, count)?)
    })
}

/// Runs the entry points of one element type.
fn of_elements<F: Element + Plain>(
    row: &mut Row<'_>,
    device: &mut Cuda,
    name: &str,
    count: usize,
) -> anyhow::Result<()> {
    let entry = |kernel: &str| format!("adaloss_{kernel}_{name}");
    row(&entry("relu"), &mut || {
        compare(rectified::<F, _>(device, count)?, rectified::<F, _>(&mut Portable, count)?)
    })?;
    row(&entry("relu_input"), &mut || {
        compare(passed_back::<F, _>(device, count)?, passed_back::<F, _>(&mut Portable, count)?)
    })
}

fn rectified<F: Element + Plain, D: Memory + HasRelu<F, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let mut values = put(device, &elements::<F>(21, count))?;
    device.run(Relu { values: D::view_mut(&mut values) }).map_err(failed)?;
    elements_of(device, &values)
}

fn passed_back<F: Element + Plain, D: Memory + HasRelu<F, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let mut output = put(device, &elements::<F>(21, count))?;
    device.run(Relu { values: D::view_mut(&mut output) }).map_err(failed)?;
    let mut gradient = put(device, &elements::<F>(22, count))?;
    let (output, to) = (D::view(&output), D::view_mut(&mut gradient));
    device.run(ReluInput { output, gradient: to }).map_err(failed)?;
    elements_of(device, &gradient)
}

fn accumulated<D: Memory + HasAccumulate>(device: &mut D, count: usize) -> anyhow::Result<Readout> {
    let count = count.next_multiple_of(COLUMNS);
    let (input, mut to) = (put(device, &values(23, COLUMNS))?, put(device, &values(24, count))?);
    device.run(Accumulate { input: D::view(&input), to: D::view_mut(&mut to) }).map_err(failed)?;
    elements_of(device, &to)
}

fn blended<D: Memory + HasAccumulate>(device: &mut D, count: usize) -> anyhow::Result<Readout> {
    let (input, mut to) = (put(device, &values(23, count))?, put(device, &values(24, count))?);
    let (input, to_mut) = (D::view(&input), D::view_mut(&mut to));
    device.run(Blend { share: 0.1, input, to: to_mut, when: None }).map_err(failed)?;
    elements_of(device, &to)
}

/// Sums of losses are compared in nine digits: they are added up in another order.
fn loss<D: Memory + HasLoss>(device: &mut D, count: usize) -> anyhow::Result<Readout> {
    let rows = count / COLUMNS;
    let logits = put(device, &values(25, COLUMNS * rows))?;
    let labels: Vec<_> = (0..rows).map(|row| (row * 5 % (COLUMNS + 1)) as u32).collect();
    let labels = put(device, &labels)?;
    let mut gradient = device.zeroed::<f32>(COLUMNS * rows).map_err(failed)?;
    let mut sum = put(device, &[LossSum::default()])?;
    let operation = SoftmaxCrossEntropy {
        classes: COLUMNS,
        logits: D::view(&logits),
        labels: D::view(&labels),
        weights: None,
        gradient: D::view_mut(&mut gradient),
        sum: D::view_mut(&mut sum),
    };
    device.run(operation).map_err(failed)?;
    let [LossSum { loss, weight, rows, correct }] = take(device, &sum, LossSum::default())?[..]
    else {
        anyhow::bail!("one sum");
    };
    Ok(vec![
        ("gradient", bits(&take(device, &gradient, 0.0)?)),
        ("loss", format!("{loss:.8e}")),
        ("counts", format!("{weight:?} {rows} {correct}")),
    ])
}

/// Small integers, whose squares are added up exactly in any order.
fn norm<D: Memory + HasUpdate>(device: &mut D, count: usize) -> anyhow::Result<Readout> {
    let integers: Vec<_> = (0..count).map(|index| (index * 7 % 31) as f32 - 15.0).collect();
    let (gradient, mut to) = (put(device, &integers)?, put(device, &[0.5_f64])?);
    let square = SquareNorm { gradient: D::view(&gradient), to: D::view_mut(&mut to) };
    device.run(square).map_err(failed)?;
    Ok(vec![("sum", format!("{:?}", take(device, &to, 0.0)?))])
}

/// Gradients are clipped to a fourth.
const MAX_NORM: Option<f32> = Some(2.5);
const SQUARE_NORM: f64 = 100.0;

fn by_sgd<D: Memory + HasUpdate>(device: &mut D, count: usize) -> anyhow::Result<Readout> {
    let (gradient, square_norm) = (put(device, &values(26, count))?, put(device, &[SQUARE_NORM])?);
    let mut weight = put(device, &values(7, count))?;
    let mut momentum = put(device, &values(8, count))?;
    let step = SgdStep {
        sgd: Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1.0e-4, max_norm: MAX_NORM },
        gradient: D::view(&gradient),
        square_norm: D::view(&square_norm),
        weight: D::view_mut(&mut weight),
        momentum: D::view_mut(&mut momentum),
        when: None,
    };
    device.run(step).map_err(failed)?;
    Ok(vec![
        ("weights", bits(&take(device, &weight, 0.0)?)),
        ("momenta", bits(&take(device, &momentum, 0.0)?)),
    ])
}

fn by_adamw<D: Memory + HasUpdate>(device: &mut D, count: usize) -> anyhow::Result<Readout> {
    let (gradient, square_norm) = (put(device, &values(26, count))?, put(device, &[SQUARE_NORM])?);
    let update = put(device, &[17_u32])?;
    let mut weight = put(device, &values(7, count))?;
    let moments: Vec<_> = values(8, 2 * count).into_iter().map(f32::abs).collect();
    let mut moments = put(device, &moments)?;
    let step = AdamWStep {
        adamw: AdamW {
            learning_rate: 0.1,
            betas: [0.9, 0.999],
            epsilon: 1.0e-8,
            weight_decay: 0.01,
            max_norm: MAX_NORM,
        },
        gradient: D::view(&gradient),
        square_norm: D::view(&square_norm),
        update: D::view(&update),
        weight: D::view_mut(&mut weight),
        moments: D::view_mut(&mut moments),
        when: None,
    };
    device.run(step).map_err(failed)?;
    Ok(vec![
        ("weights", bits(&take(device, &weight, 0.0)?)),
        ("moments", bits(&take(device, &moments, 0.0)?)),
    ])
}
