//! The authors' arithmetic on a CPU, made of core's words: `dot` and `narrow`.
//!
//! Verified against the recorded bits: a product accumulates in f32 from the first term to the
//! last and rounds once; the taps of a transposed convolution are rounded one by one and added in
//! binary16; so are the rows of a bias gradient.

use adaloss_core::format::{Element, Format, Narrowing, dot, f16};

use crate::tensor::Tensor;

/// Where a convolution puts its kernel.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub(super) stride: [usize; 2],
    pub(super) pad: [usize; 2],
}

impl Geometry {
    /// Returns the pixel that an output pixel sees through a tap, or `None` where that is padding.
    fn pixel(&self, size: [usize; 2], output: [usize; 2], tap: [usize; 2]) -> Option<usize> {
        let place = |axis: usize| {
            let padded = output[axis] * self.stride[axis] + tap[axis];
            padded.checked_sub(self.pad[axis]).filter(|&place| place < size[axis])
        };
        Some(place(0)? * size[1] + place(1)?)
    }
}

/// Rounds an f32 result to storage.
pub(super) fn narrow(x: f32) -> f16 {
    f16::narrow(x, Narrowing::to(Format::BINARY16), 0, 0)
}

fn add(a: f16, b: f16) -> f16 {
    narrow(a.widen() + b.widen())
}

/// Returns `g W` of a linear layer: (samples, inputs).
pub(super) fn linear_input(g: &Tensor, weight: &Tensor) -> Result<Vec<f16>, String> {
    let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
    let (g, weight) = (g.halves()?, weight.halves()?);
    let columns: Vec<Vec<f16>> = (0..inputs)
        .map(|input| weight.iter().skip(input).step_by(inputs).copied().collect())
        .collect();
    let rows = g.chunks(outputs);
    Ok(rows.flat_map(|row| columns.iter().map(|column| narrow(dot(row, column)))).collect())
}

/// Returns `g^T x` of a linear layer in f32: (outputs, inputs).
pub(super) fn linear_weight(g: &Tensor, x: &Tensor) -> Result<Vec<f32>, String> {
    let samples = g.shape[0];
    let inputs = x.len() / samples;
    let (g, x) = (g.halves()?, x.halves()?);
    let column = |from: &[f16], width: usize, column: usize| -> Vec<f16> {
        from.iter().skip(column).step_by(width).copied().collect()
    };
    let outputs = g.len() / samples;
    let mut sums = Vec::with_capacity(outputs * inputs);
    for output in 0..outputs {
        let g = column(&g, outputs, output);
        sums.extend((0..inputs).map(|input| dot(&g, &column(&x, inputs, input))));
    }
    Ok(sums)
}

/// Returns the input gradient of a convolution, shaped as its input.
pub(super) fn convolution_input(
    g: &Tensor,
    weight: &Tensor,
    input: &[usize],
    geometry: Geometry,
) -> Result<Vec<f16>, String> {
    let [samples, outputs, g_height, g_width] = four(&g.shape)?;
    let [_, inputs, k_height, k_width] = four(&weight.shape)?;
    let [_, _, height, width] = four(input)?;
    let (g, weight) = (g.halves()?, weight.halves()?);
    let (pixels, taps) = (g_height * g_width, k_height * k_width);
    let mut gradient = vec![f16::ZERO; samples * inputs * height * width];
    for tap in 0..taps {
        for channel in 0..inputs {
            let kernel: Vec<f16> =
                (0..outputs).map(|o| weight[(o * inputs + channel) * taps + tap]).collect();
            for (sample, pixel) in (0..samples).flat_map(|n| (0..pixels).map(move |p| (n, p))) {
                let output = [pixel / g_width, pixel % g_width];
                let tap = [tap / k_width, tap % k_width];
                let Some(place) = geometry.pixel([height, width], output, tap) else { continue };
                let seen: Vec<f16> =
                    (0..outputs).map(|o| g[(sample * outputs + o) * pixels + pixel]).collect();
                let sum = &mut gradient[(sample * inputs + channel) * height * width + place];
                *sum = add(*sum, narrow(dot(&seen, &kernel)));
            }
        }
    }
    Ok(gradient)
}

/// Returns the weight gradient of a convolution in f32, shaped as its weight.
pub(super) fn convolution_weight(
    g: &Tensor,
    x: &Tensor,
    weight: &[usize],
    geometry: Geometry,
) -> Result<Vec<f32>, String> {
    let [samples, outputs, g_height, g_width] = four(&g.shape)?;
    let [_, inputs, height, width] = four(&x.shape)?;
    let [_, _, k_height, k_width] = four(weight)?;
    let (g, x) = (g.halves()?, x.halves()?);
    let pixels = g_height * g_width;
    let places = || (0..samples).flat_map(|n| (0..pixels).map(move |p| (n, p)));
    let mut sums = Vec::with_capacity(weight.iter().product());
    for output in 0..outputs {
        let seen: Vec<f16> =
            places().map(|(n, p)| g[(n * outputs + output) * pixels + p]).collect();
        for (channel, tap) in (0..inputs).flat_map(|c| (0..k_height * k_width).map(move |t| (c, t)))
        {
            let tap = [tap / k_width, tap % k_width];
            let through = |(n, p): (usize, usize)| {
                let output = [p / g_width, p % g_width];
                let place = geometry.pixel([height, width], output, tap);
                place.map_or(f16::ZERO, |place| x[(n * inputs + channel) * height * width + place])
            };
            sums.push(dot(&seen, &places().map(through).collect::<Vec<f16>>()));
        }
    }
    Ok(sums)
}

/// Returns the bias gradient, summed as numpy sums binary16: whole images in f32, pairwise; what
/// they add up to in binary16.
pub(super) fn bias(g: &Tensor) -> Result<Vec<f16>, String> {
    let (samples, outputs) = (g.shape[0], g.shape[1]);
    let pixels = g.len() / (samples * outputs);
    let values = g.values();
    let sum = |output: usize| {
        (0..samples).fold(f16::ZERO, |sum, sample| {
            let image = &values[(sample * outputs + output) * pixels..][..pixels];
            narrow(sum.widen() + pairwise(image))
        })
    };
    g.halves()?;
    Ok((0..outputs).map(sum).collect())
}

/// numpy's pairwise summation: eight running sums in blocks of up to 128.
pub(super) fn pairwise(values: &[f32]) -> f32 {
    let count = values.len();
    if count < 8 {
        return values.iter().fold(0.0, |sum, x| sum + x);
    }
    if count > 128 {
        let half = count / 2 - count / 2 % 8;
        return pairwise(&values[..half]) + pairwise(&values[half..]);
    }
    let (whole, rest) = values.split_at(count - count % 8);
    let mut sums = [0.0; 8];
    sums.copy_from_slice(&whole[..8]);
    for block in whole[8..].chunks(8) {
        sums.iter_mut().zip(block).for_each(|(sum, x)| *sum += x);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, x| sum + x)
}

fn four(shape: &[usize]) -> Result<[usize; 4], String> {
    shape.try_into().map_err(|_| format!("a convolution with an array of shape {shape:?}"))
}
