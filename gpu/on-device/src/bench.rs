//! Times of kernels, beside that of the device's own copy.

use std::error::Error;

use adaloss_core::{
    format::{E4M3, Element, Narrowing, Noise, f16},
    policy::{Cell, Certificate, Config},
    scale::Scale,
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};
use adaloss_gpu::{Buffer, Cuda};
use adaloss_hal::{Decide, Device, Epilogue, Memory, Narrow, Plain};
use cudarc::driver::{result::memcpy_dtod_async, sys::CUevent_flags};
use serde_json::{Value, json};

type Anyway<T> = Result<T, Box<dyn Error>>;

/// Elements of a tensor: 1 GiB of f32.
const ELEMENTS: usize = 1 << 28;

/// Launches that are timed, after some that are not.
const TIMES: usize = 21;

/// Returns the median time of a launch in milliseconds.
fn time(device: &mut Cuda, mut launch: impl FnMut(&mut Cuda) -> Anyway<()>) -> Anyway<f64> {
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
fn gradients(device: &mut Cuda) -> Anyway<Buffer<f32>> {
    let noise = Noise { seed: 2019, stream: 1 };
    let values: Vec<f32> = (0..ELEMENTS as u32)
        .map(|index| {
            let word = noise.word(index);
            let exponent = 119 - (word >> 23 & 0xf) - (word >> 27 & 0xf);
            f32::from_bits(word & 0x807f_ffff | exponent << 23)
        })
        .collect();
    let mut buffer = device.zeroed(ELEMENTS)?;
    device.write(&values, Cuda::view_mut(&mut buffer))?;
    Ok(buffer)
}

/// What an epilogue ends in.
struct End {
    cells: Buffer<Cell>,
    outcome: Buffer<Outcome>,
    histogram: Buffer<Histogram>,
}

impl End {
    fn new<F: Element>(device: &mut Cuda) -> Anyway<Self> {
        let mut of = Self {
            cells: device.zeroed(2)?,
            outcome: device.zeroed(1)?,
            histogram: device.zeroed(1)?,
        };
        let cells = [Cell::new(), Cell::at(Scale::new(12)?)];
        device.write(&cells, Cuda::view_mut(&mut of.cells))?;
        let empty = Histogram::new(Narrowing::to(F::ENCODING.into()));
        device.write(&[empty], Cuda::view_mut(&mut of.histogram))?;
        Ok(of)
    }

    fn epilogue<F: Element>(&mut self, stores: bool, measures: bool) -> Epilogue<'_, Cuda> {
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

/// Times what streams through memory.
pub(crate) fn bandwidth(device: &mut Cuda) -> Anyway<Value> {
    let values = gradients(device)?;
    let mut copy = device.zeroed::<f32>(ELEMENTS)?;
    let bytes = 4 * ELEMENTS;
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

    let mut narrowed = device.zeroed::<f16>(ELEMENTS)?;
    let mut end = End::new::<f16>(device)?;
    device.apply(values.view(), narrowed.view_mut(), end.epilogue::<f16>(true, false))?;
    let (mut met, mut moments) = (device.zeroed::<Unscaled>(1)?, device.zeroed::<Statistics>(1)?);
    let ms = time(device, |device| {
        let cell = Cuda::part(Cuda::view(&end.cells), 1..2).ok_or("two cells")?;
        Ok(device.unscale(narrowed.view(), cell, copy.view_mut(), met.view_mut())?)
    })?;
    rows.push(row("unscale binary16", 6 * ELEMENTS, ms));
    let ms = time(device, |device| Ok(device.statistics(narrowed.view(), moments.view_mut())?))?;
    rows.push(row("statistics binary16", 2 * ELEMENTS, ms));
    Ok(Value::Array(rows))
}

fn narrowing<F: Element + Plain>(
    device: &mut Cuda,
    format: &str,
    values: &Buffer<f32>,
    rows: &mut Vec<Value>,
    row: &impl Fn(&str, usize, f64) -> Value,
) -> Anyway<()> {
    let mut to = device.zeroed::<F>(ELEMENTS)?;
    let mut end = End::new::<F>(device)?;
    let passes =
        [("apply", true, false), ("apply and measure", true, true), ("measure", false, true)];
    for (name, stores, measures) in passes {
        let ms = time(device, |device| {
            let epilogue = end.epilogue::<F>(stores, measures);
            Ok(device.apply(values.view(), to.view_mut(), epilogue)?)
        })?;
        let bytes = if stores { 4 + size_of::<F>() } else { 4 } * ELEMENTS;
        rows.push(row(&format!("{name} {format}"), bytes, ms));
    }
    Ok(())
}

/// Times fifty layers of decide and apply, which wait for nothing.
pub(crate) fn decisions(device: &mut Cuda) -> Anyway<Value> {
    const LAYERS: usize = 50;
    const SMALL: usize = 1 << 16;
    let config = Config::for_format(adaloss_core::format::Format::BINARY16);
    let values = gradients(device)?;
    let values = Cuda::part(values.view(), 0..SMALL).ok_or("enough elements")?;
    let mut to = device.zeroed::<f16>(SMALL)?;
    let mut certificate = device.zeroed::<Certificate>(1)?;
    let mut ends = (0..LAYERS).map(|_| End::new::<f16>(device)).collect::<Anyway<Vec<_>>>()?;
    let ms = time(device, |device| {
        for end in &mut ends {
            let mut cells = end.cells.view_mut();
            let cell = Cuda::part_mut(Cuda::reborrow_mut(&mut cells), 1..2).ok_or("two cells")?;
            device.decide(&config, end.histogram.view(), cell, certificate.view_mut())?;
            device.apply(values, to.view_mut(), end.epilogue::<f16>(true, true))?;
        }
        Ok(())
    })?;
    let (mut cells, mut outcome) = ([Cell::new(); 2], [Outcome::EMPTY]);
    device.read(ends[0].cells.view(), &mut cells)?;
    device.read(ends[0].outcome.view(), &mut outcome)?;
    Ok(json!({
        "layers": LAYERS,
        "elements": SMALL,
        "us_per_layer": 1000.0 * ms / LAYERS as f64,
        "scale_log2": cells[1].scale().log2(),
        "underflow": outcome[0].underflow,
    }))
}
