//! Times of kernels, beside that of the device's own copy.

use std::error::Error;

use adaloss_core::{
    format::{E4M3, Element, Format, Narrowing, Noise, f16},
    policy::{Cell, Certificate, Config},
    scale::Scale,
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};
use adaloss_gpu::{Buffer, Cuda, Gradient, Into, Sgd, Weight};
use adaloss_hal::{Branch, Decide, Device, Epilogue, Memory, Narrow, Plain};
use cudarc::driver::{result::memcpy_dtod_async, sys::CUevent_flags};
use serde_json::{Value, json};

pub(crate) type Anyway<T> = Result<T, Box<dyn Error>>;

/// The update that is timed.
const SGD: Sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1.0e-4 };

/// Launches that are timed, after some that are not.
const TIMES: usize = 21;

/// Returns the median time of a launch in milliseconds.
pub(crate) fn time(
    device: &mut Cuda,
    mut launch: impl FnMut(&mut Cuda) -> Anyway<()>,
) -> Anyway<f64> {
    for _ in 0..3 {
        launch(device)?;
    }
    let stream = device.stream().clone();
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let begin = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        launch(device)?;
        let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        end.synchronize()?;
        times.push(f64::from(begin.elapsed_ms(&end)?));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[TIMES / 2])
}

/// Values as gradients have them: of either sign, over some thirty binades.
fn gradients(device: &mut Cuda, elements: usize) -> Anyway<Buffer<f32>> {
    let noise = Noise { seed: 2019, stream: 1 };
    let values: Vec<f32> = (0..elements as u32)
        .map(|index| {
            let word = noise.word(index);
            let exponent = 119 - (word >> 23 & 0xf) - (word >> 27 & 0xf);
            f32::from_bits(word & 0x807f_ffff | exponent << 23)
        })
        .collect();
    let mut buffer = device.zeroed(elements)?;
    device.write(&values, Cuda::view_mut(&mut buffer))?;
    Ok(buffer)
}

/// What an epilogue ends in.
pub(crate) struct End {
    cells: Buffer<Cell>,
    outcome: Buffer<Outcome>,
    histogram: Buffer<Histogram>,
}

impl End {
    /// Results come at scale 1, and go to a scale of `2^to_log2`.
    pub(crate) fn new<F: Element>(device: &mut Cuda, to_log2: i32) -> Anyway<Self> {
        let mut of = Self {
            cells: device.zeroed(2)?,
            outcome: device.zeroed(1)?,
            histogram: device.zeroed(1)?,
        };
        let cells = [Cell::new(), Cell::at(Scale::new(to_log2)?)];
        device.write(&cells, Cuda::view_mut(&mut of.cells))?;
        let empty = Histogram::new(Narrowing::to(F::ENCODING.into()));
        device.write(&[empty], Cuda::view_mut(&mut of.histogram))?;
        Ok(of)
    }

    pub(crate) fn epilogue<F: Element>(
        &mut self,
        stores: bool,
        measures: bool,
    ) -> Epilogue<'_, Cuda> {
        let cell = |nth| Cuda::part(Cuda::view(&self.cells), nth..nth + 1).expect("two cells");
        Epilogue {
            from: cell(0),
            to: cell(1),
            narrowing: Narrowing::to(F::ENCODING.into()),
            noise: Noise::default(),
            stores,
            outcome: Cuda::view_mut(&mut self.outcome),
            histogram: measures.then(|| Cuda::view_mut(&mut self.histogram)),
        }
    }
}

/// Times what streams through memory, in tensors of so many elements.
pub(crate) fn bandwidth(device: &mut Cuda, elements: usize) -> Anyway<Value> {
    let values = gradients(device, elements)?;
    let mut copy = device.zeroed::<f32>(elements)?;
    let bytes = 4 * elements;
    let copied = time(device, |device| {
        let (from, to) = (values.view().address(), copy.view().address());
        // SAFETY: both buffers have so many bytes.
        unsafe { memcpy_dtod_async(to, from, bytes, device.stream().cu_stream())? };
        Ok(())
    })?;
    let rate = |bytes: usize, ms: f64| bytes as f64 / ms / 1.0e6;
    let of_copy = rate(2 * bytes, copied);
    let row = |name: &str, bytes: usize, ms: f64| {
        let rate = rate(bytes, ms);
        json!({ "kernel": name, "ms": ms, "gb_per_s": rate, "of_copy": rate / of_copy })
    };
    let mut rows = vec![row("copy", 2 * bytes, copied)];
    narrowing::<f16>(device, "binary16", &values, &mut rows, &row)?;
    narrowing::<E4M3>(device, "E4M3", &values, &mut rows, &row)?;

    let mut narrowed = device.zeroed::<f16>(elements)?;
    let mut end = End::new::<f16>(device, 12)?;
    device.apply(values.view(), narrowed.view_mut(), end.epilogue::<f16>(true, false))?;
    let (mut met, mut moments) = (device.zeroed::<Unscaled>(1)?, device.zeroed::<Statistics>(1)?);
    let ms = time(device, |device| {
        let cell = Cuda::part(Cuda::view(&end.cells), 1..2).ok_or("two cells")?;
        Ok(device.unscale(narrowed.view(), cell, copy.view_mut(), met.view_mut())?)
    })?;
    rows.push(row("unscale binary16", 6 * elements, ms));
    rescaling(device, &narrowed, &mut rows, &row)?;
    let ms = time(device, |device| Ok(device.statistics(narrowed.view(), moments.view_mut())?))?;
    rows.push(row("statistics binary16", 2 * elements, ms));
    let ms = time(device, |device| Ok(device.statistics(values.view(), moments.view_mut())?))?;
    rows.push(row("statistics binary32", 4 * elements, ms));

    let (unscaled, momentum) = (device.zeroed(0)?, device.zeroed(elements)?);
    let mut tensor = [Tensor { gradient: narrowed, unscaled, met, weight: copy, momentum }];
    let (cell, bad, mut steps) = (device.zeroed(1)?, device.zeroed(1)?, device.zeroed(1)?);
    let weights = device.weights(updated(&mut tensor, &cell))?;
    let ms = time(device, |device| {
        let updated = updated(&mut tensor, &cell);
        Ok(device.sgd(&weights, updated, SGD, bad.view(), steps.view_mut())?)
    })?;
    rows.push(row("unscale and update binary16", 18 * elements, ms));
    Ok(Value::Array(rows))
}

fn narrowing<F: Element + Plain>(
    device: &mut Cuda,
    format: &str,
    values: &Buffer<f32>,
    rows: &mut Vec<Value>,
    row: &impl Fn(&str, usize, f64) -> Value,
) -> Anyway<()> {
    let elements = values.view().count();
    let mut to = device.zeroed::<F>(elements)?;
    let mut end = End::new::<F>(device, 12)?;
    let passes =
        [("apply", true, false), ("apply and measure", true, true), ("measure", false, true)];
    for (name, stores, measures) in passes {
        let ms = time(device, |device| {
            let epilogue = end.epilogue::<F>(stores, measures);
            Ok(device.apply(values.view(), to.view_mut(), epilogue)?)
        })?;
        let bytes = if stores { 4 + size_of::<F>() } else { 4 } * elements;
        rows.push(row(&format!("{name} {format}"), bytes, ms));
    }
    Ok(())
}

/// Times what goes from one low-precision tensor to another, or looks at one.
fn rescaling(
    device: &mut Cuda,
    values: &Buffer<f16>,
    rows: &mut Vec<Value>,
    row: &impl Fn(&str, usize, f64) -> Value,
) -> Anyway<()> {
    let elements = values.view().count();
    let mut to = device.zeroed::<f16>(elements)?;
    let (mut end, cell) = (End::new::<f16>(device, 2)?, device.zeroed::<Cell>(1)?);
    for (name, stores, bytes) in [("rescale and measure", true, 4), ("measure", false, 2)] {
        let ms = time(device, |device| {
            let branch = Branch { gradient: values.view(), cell: cell.view() };
            Ok(device.propagate(&[branch], to.view_mut(), end.epilogue::<f16>(stores, true))?)
        })?;
        rows.push(row(&format!("{name} binary16 elements"), bytes * elements, ms));
    }
    Ok(())
}

/// Layers that decide.
const LAYERS: usize = 50;

/// Layers with a tensor each, small enough for the time of a launch to show.
struct Layers {
    config: Config,
    values: Buffer<f32>,
    to: Buffer<f16>,
    certificate: Buffer<Certificate>,
    ends: Vec<End>,
}

impl Layers {
    fn new(device: &mut Cuda, elements: usize) -> Anyway<Self> {
        Ok(Self {
            config: Config::for_format(Format::BINARY16),
            values: gradients(device, elements)?,
            to: device.zeroed(elements)?,
            certificate: device.zeroed(1)?,
            ends: (0..LAYERS).map(|_| End::new::<f16>(device, 12)).collect::<Anyway<_>>()?,
        })
    }

    /// Narrows each layer's tensor, and decides its scale before if that is asked for.
    fn pass(&mut self, device: &mut Cuda, decides: bool) -> Anyway<()> {
        let Self { config, values, to, certificate, ends } = self;
        for end in ends {
            if decides {
                let mut cells = end.cells.view_mut();
                let cell =
                    Cuda::part_mut(Cuda::reborrow_mut(&mut cells), 1..2).ok_or("two cells")?;
                device.decide(config, end.histogram.view(), cell, certificate.view_mut())?;
            }
            device.apply(values.view(), to.view_mut(), end.epilogue::<f16>(true, decides))?;
        }
        Ok(())
    }
}

/// Times fifty layers that decide, measure and apply, and fifty that apply alone: asked for one by
/// one, and as graphs.
pub(crate) fn decisions(device: &mut Cuda, elements: usize) -> Anyway<Value> {
    let elements = elements.min(1 << 16);
    let mut layers = Layers::new(device, elements)?;
    let mut us_per_layer = [[0.0; 2]; 2];
    for (decides, times) in [false, true].into_iter().zip(&mut us_per_layer) {
        let called = time(device, |device| layers.pass(device, decides))?;
        let graph = device.capture(|device| layers.pass(device, decides))?;
        // SAFETY: the layers are there.
        let captured = time(device, |_| Ok(unsafe { graph.launch() }?))?;
        *times = [called, captured].map(|ms| 1000.0 * ms / LAYERS as f64);
    }
    let (mut cells, mut outcome) = ([Cell::new(); 2], [Outcome::EMPTY]);
    device.read(layers.ends[0].cells.view(), &mut cells)?;
    device.read(layers.ends[0].outcome.view(), &mut outcome)?;
    let [[apply, apply_captured], [decide, decide_captured]] = us_per_layer;
    Ok(json!({
        "layers": LAYERS,
        "elements": elements,
        "us_per_layer": decide,
        "us_per_layer_captured": decide_captured,
        "us_per_layer_of_apply": apply,
        "us_per_layer_of_apply_captured": apply_captured,
        "us_added_per_layer": decide - apply,
        "us_added_per_layer_captured": decide_captured - apply_captured,
        "scale_log2": cells[1].scale().log2(),
        "underflow": outcome[0].underflow,
    }))
}

/// Lengths of the weights of a ResNet-50 with so many channels in its first stage, 64 as published.
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

/// Times the unscaling of all gradients of a ResNet-50 and its step, in one launch each.
pub(crate) fn many(device: &mut Cuda, is_trial: bool) -> Anyway<Value> {
    let counts = resnet_50(if is_trial { 1 } else { 64 });
    let mut end = End::new::<f16>(device, 12)?;
    let tensors = counts.iter().map(|&count| {
        let (unscaled, weight) = (gradients(device, count)?, gradients(device, count)?);
        let (mut gradient, momentum) = (device.zeroed(count)?, gradients(device, count)?);
        let epilogue = end.epilogue::<f16>(true, false);
        device.apply(unscaled.view(), gradient.view_mut(), epilogue)?;
        Ok(Tensor { gradient, unscaled, met: device.zeroed(1)?, weight, momentum })
    });
    let mut tensors = tensors.collect::<Anyway<Vec<_>>>()?;
    let (cell, mut bad, mut steps) =
        (device.zeroed::<Cell>(1)?, device.zeroed(1)?, device.zeroed(1)?);
    let gradients = device.gradients(named(&mut tensors, &cell))?;
    let weights = device.weights(updated(&mut tensors, &cell))?;
    let into = [(Into::Place, 6), (Into::Nothing, 2)];
    let mut ms = [0.0; 2];
    for ((into, _), ms) in into.into_iter().zip(&mut ms) {
        *ms = time(device, |device| {
            let named = named(&mut tensors, &cell);
            Ok(device.unscale_all(&gradients, named, into, bad.view_mut())?)
        })?;
    }
    let stepped = time(device, |device| {
        let updated = updated(&mut tensors, &cell);
        Ok(device.sgd(&weights, updated, SGD, bad.view(), steps.view_mut())?)
    })?;
    let mut taken = [0_u64];
    device.read(steps.view(), &mut taken)?;
    let total: usize = counts.iter().sum();
    let rate = |bytes: usize, ms: f64| (bytes * total) as f64 / ms / 1.0e6;
    Ok(json!({
        "tensors": counts.len(),
        "elements": total,
        "unscale_ms": ms[0],
        "unscale_gb_per_s": rate(into[0].1, ms[0]),
        "check_ms": ms[1],
        "check_gb_per_s": rate(into[1].1, ms[1]),
        "sgd_ms": stepped,
        "sgd_gb_per_s": rate(18, stepped),
        "steps": taken[0],
    }))
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
