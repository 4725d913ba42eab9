//! Times of what layers of networks take: convolutions in three directions, products tile by tile, and attention.

use std::ops::Range;

use adaloss_core::format::{Element, Narrowing, Noise, f16};
use adaloss_gpu::{Buffer, Cuda, Elements, GpuSpace};
use adaloss_hal::{
    AddressSpace, Device, Matmul, Memory, Plain, Product, Run,
    network::{
        Attend, AttendInput, Attention, Convolution, Convolve, ConvolveInput, ConvolveWeight,
    },
};
use serde_json::Value;

use crate::{rows::Rows, setup::End, timing::time};

/// Layers of a ResNet-20 with 128 images, and of a ResNet-50 with 32; the first of each has three channels, which tensor cores
/// have no chunks of.
const LAYERS: [Convolution; 14] = [
    Convolution::new(128, [32, 32], 3, 16, [3, 3]).padding([1, 1]),
    Convolution::new(128, [32, 32], 16, 16, [3, 3]).padding([1, 1]),
    Convolution::new(128, [32, 32], 16, 32, [3, 3]).padding([1, 1]).stride([2, 2]),
    Convolution::new(128, [16, 16], 32, 32, [3, 3]).padding([1, 1]),
    Convolution::new(128, [8, 8], 64, 64, [3, 3]).padding([1, 1]),
    Convolution::new(32, [224, 224], 3, 64, [7, 7]).padding([3, 3]).stride([2, 2]),
    Convolution::new(32, [56, 56], 64, 64, [3, 3]).padding([1, 1]),
    Convolution::new(32, [56, 56], 256, 64, [1, 1]),
    Convolution::new(32, [56, 56], 128, 128, [3, 3]).padding([1, 1]).stride([2, 2]),
    Convolution::new(32, [56, 56], 256, 512, [1, 1]).stride([2, 2]),
    Convolution::new(32, [28, 28], 128, 128, [3, 3]).padding([1, 1]),
    Convolution::new(32, [14, 14], 256, 256, [3, 3]).padding([1, 1]),
    Convolution::new(32, [7, 7], 512, 512, [3, 3]).padding([1, 1]),
    Convolution::new(32, [7, 7], 512, 2048, [1, 1]),
];

/// Attention as in a small transformer, and with longer sequences.
const ATTENTION: [Attention; 2] = [
    Attention { batch: 16, tokens: 512, heads: 12, width: 64 },
    Attention { batch: 2, tokens: 4096, heads: 12, width: 64 },
];

/// The side of squares that are multiplied tile by tile.
const SIDE: usize = 2048;

/// Elements of all operands: more than any cache has, so that each launch takes others.
const ELEMENTS: usize = 1 << 26;

/// Operands of all shapes: parts of one tensor, another one at each launch.
struct Operands<T> {
    elements: Buffer<T>,
    count: usize,
}

impl<T: Element + Plain> Operands<T> {
    fn new(device: &mut Cuda, count: usize) -> anyhow::Result<Self> {
        let noise = Noise { seed: 1997, stream: 5 };
        let narrowing = Narrowing::to(T::ENCODING.into());
        let element =
            |index| T::narrow(noise.word(index) as i32 as f32 / 2.0_f32.powi(31), narrowing, 0, 0);
        let values: Vec<T> = (0..count as u32).map(element).collect();
        let mut elements = device.zeroed(count)?;
        device.write(&values, elements.view_mut())?;
        Ok(Self { elements, count })
    }

    /// Returns so many elements, at a multiple of 256 bytes, as an allocation begins at.
    fn part(&self, launch: usize, nth: usize, count: usize) -> Elements<'_, T> {
        let first = (2 * launch + nth) * count.next_multiple_of(128) % (self.count - count + 1);
        let part: Range<_> = first / 128 * 128..first / 128 * 128 + count;
        GpuSpace::part(self.elements.view(), part).expect("operands for every shape")
    }
}

/// Times layers in binary16 with outcome; weight gradients are f32.  Small ones for a trial.
pub(crate) fn run(rows: &mut Rows, device: &mut Cuda, is_trial: bool) -> anyhow::Result<()> {
    let count = if is_trial { 1 << 16 } else { ELEMENTS };
    let operands = Operands::<f16>::new(device, count)?;
    let mut narrowed = device.zeroed::<f16>(count)?;
    let mut unscaled = device.zeroed::<f32>(count / 4)?;
    for layer in LAYERS {
        let layer = if is_trial { trial(layer) } else { layer };
        rows.row(&format!("{layer}"), || {
            convolutions(device, layer, &operands, &mut narrowed, &mut unscaled)
        })?;
    }
    for attention in ATTENTION {
        let attention = match is_trial {
            true => Attention { batch: 1, tokens: 20, heads: 2, width: 8 },
            false => attention,
        };
        rows.row(&format!("{attention}"), || {
            let [input, output] = attention.lengths();
            let mut end = End::new::<f16>(device, 0)?;
            let forward = time(device, |device, launch| {
                let to = GpuSpace::part_mut(narrowed.view_mut(), 0..output).expect("room");
                let (input, epilogue) =
                    (operands.part(launch, 0, input), end.epilogue::<f16>(true, false));
                Ok(device.run(Attend { attention, input, to, epilogue })?)
            })?;
            let back = time(device, |device, launch| {
                let to = GpuSpace::part_mut(narrowed.view_mut(), 0..input).expect("room");
                let (gradient, input) =
                    (operands.part(launch, 1, output), operands.part(launch, 0, input));
                let epilogue = end.epilogue::<f16>(true, false);
                Ok(device.run(AttendInput { attention, gradient, input, to, epilogue })?)
            })?;
            let mut row = forward.json();
            row["ms_input"] = back.ms.into();
            Ok(row)
        })?;
    }
    let side = if is_trial { 20 } else { SIDE };
    let wide = Operands::<f32>::new(device, count / 2)?;
    rows.row(&format!("{side} x {side} x {side} binary32"), || {
        let (product, square) = (Product::new(side, side, side), side * side);
        let mut end = End::new::<f32>(device, 0)?;
        let timed = time(device, |device, launch| {
            let (a, b) = (wide.part(launch, 0, square), wide.part(launch, 1, square));
            let to = GpuSpace::part_mut(unscaled.view_mut(), 0..square).expect("room");
            let epilogue = end.epilogue::<f32>(true, false);
            Ok(device.run(Matmul { product, a, b, bias: None, to, epilogue })?)
        })?;
        let mut row = timed.json();
        row["tflops"] = (2.0 * (square * side) as f64 / timed.ms / 1.0e9).into();
        Ok(row)
    })
}

/// Returns a layer of as many kinds of windows, and little else.
fn trial(of: Convolution) -> Convolution {
    Convolution {
        batch: 1,
        input: of.input.map(|side| side.min(9)),
        channels: of.channels.min(16),
        filters: of.filters.min(16),
        ..of
    }
}

/// Times a layer forward, its gradient of the input, and that of the weight.
fn convolutions(
    device: &mut Cuda,
    convolution: Convolution,
    operands: &Operands<f16>,
    narrowed: &mut Buffer<f16>,
    unscaled: &mut Buffer<f32>,
) -> anyhow::Result<Value> {
    let [of_input, of_weight, of_output] = convolution.lengths();
    let mut end = End::new::<f16>(device, 0)?;
    let forward = time(device, |device, launch| {
        let to = GpuSpace::part_mut(narrowed.view_mut(), 0..of_output).expect("room");
        let (input, weight) =
            (operands.part(launch, 0, of_input), operands.part(launch, 1, of_weight));
        let epilogue = end.epilogue::<f16>(true, false);
        Ok(device.run(Convolve { convolution, input, weight, bias: None, to, epilogue })?)
    })?;
    let of_inputs = time(device, |device, launch| {
        let to = GpuSpace::part_mut(narrowed.view_mut(), 0..of_input).expect("room");
        let (gradient, weight) =
            (operands.part(launch, 0, of_output), operands.part(launch, 1, of_weight));
        let epilogue = end.epilogue::<f16>(true, false);
        Ok(device.run(ConvolveInput { convolution, gradient, weight, to, epilogue })?)
    })?;
    let mut end = End::new::<f32>(device, 0)?;
    let of_weights = time(device, |device, launch| {
        let to = GpuSpace::part_mut(unscaled.view_mut(), 0..of_weight).expect("room");
        let (gradient, input) =
            (operands.part(launch, 0, of_output), operands.part(launch, 1, of_input));
        let epilogue = end.epilogue::<f32>(true, false);
        Ok(device.run(ConvolveWeight { convolution, gradient, input, to, epilogue })?)
    })?;
    let terms = of_output as f64 * (of_weight / convolution.filters) as f64;
    let tflops = |ms: f64| 2.0 * terms / ms / 1.0e9;
    let mut row = forward.json();
    row["tflops"] = tflops(forward.ms).into();
    for (direction, timed) in [("input", of_inputs), ("weight", of_weights)] {
        row[format!("ms_{direction}")] = timed.ms.into();
        row[format!("tflops_{direction}")] = tflops(timed.ms).into();
    }
    Ok(row)
}
