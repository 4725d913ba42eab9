//! Layers that decide, one after the other, with nothing that waits between them.

use adaloss_core::{
    format::{Format, f16},
    policy::Config,
    scaler::device::{Entry, Line},
};
use adaloss_gpu::{Buffer, Cuda};
use adaloss_hal::{
    Memory, Narrow, Run,
    scaler::{Carried, Engine},
};
use serde_json::json;

use crate::{
    rows::Rows,
    setup::{End, gradients},
    timing::{time, time_called},
};

/// Layers that decide.
const LAYERS: usize = 50;

/// Lines of a step: a layer's each, and its end.
const LINES: usize = LAYERS + 1;

/// Elements of a layer's tensor at most: few enough for the time of a launch to show.
const ELEMENTS: usize = 1 << 16;

/// Layers with a tensor each.
struct Layers {
    engine: Engine<Cuda>,
    values: Buffer<f32>,
    to: Buffer<f16>,
    carried: Carried<Cuda>,
    end: End,
}

impl Layers {
    fn new(device: &mut Cuda, elements: usize) -> anyhow::Result<Self> {
        // Every visit measures.
        let config = Config::for_format(Format::BINARY16).with_period(1)?;
        Ok(Self {
            engine: Engine::new(device, config, LAYERS, LINES)?,
            values: gradients(device, elements)?,
            to: device.zeroed(elements)?,
            carried: Carried::new(device)?,
            end: End::new::<f16>(device, 12)?,
        })
    }

    /// Narrows each layer's tensor.
    fn apply(&mut self, device: &mut Cuda) -> anyhow::Result<()> {
        let Self { values, to, end, .. } = self;
        for _ in 0..LAYERS {
            let epilogue = end.epilogue::<f16>(true, false);
            device.run(Narrow { input: values.view(), to: to.view_mut(), epilogue })?;
        }
        Ok(())
    }

    /// Takes a step: visits each layer's tensor with all passes that might be needed, and decides all scales in the end.
    fn step(&mut self, device: &mut Cuda) -> anyhow::Result<()> {
        let Self { engine, values, to, carried, .. } = self;
        // Those of the last step are read, if any are.
        engine.set_written(0);
        for nth in 0..LAYERS {
            let mut visit = engine.loss_at(device, nth, values.view().count())?;
            while let Some(mut pass) = visit.next_pass(device)? {
                let (to, epilogue) = (to.view_mut(), pass.epilogue());
                device.run(Narrow { input: values.view(), to, epilogue })?;
            }
            visit.finish_into(device, carried)?;
        }
        Ok(engine.conclude(device, None)?)
    }
}

/// Times layers that apply alone, and steps of a scaler, which measure, store, replay and decide: asked for one by one, and as a
/// graph.
pub(crate) fn run(rows: &mut Rows, device: &mut Cuda, elements: usize) -> anyhow::Result<()> {
    let elements = elements.min(ELEMENTS);
    let mut layers = Layers::new(device, elements)?;
    let mut row = |name, pass: fn(&mut Layers, &mut Cuda) -> anyhow::Result<()>| {
        rows.row(name, || {
            let called = time_called(device, |device| pass(&mut layers, device))?;
            let captured = time(device, |device, _| pass(&mut layers, device))?;
            Ok(json!({
                "layers": LAYERS,
                "elements": elements,
                "us_per_layer_called": 1000.0 * called.ms / LAYERS as f64,
                "us_per_layer_captured": 1000.0 * captured.ms / LAYERS as f64,
            }))
        })
    };
    row("apply", Layers::apply)?;
    row("measure, store, replay and decide", Layers::step)?;
    rows.row("what was decided", || {
        let mut room = [Line::EMPTY; LINES];
        let (mut certified, mut end) = (None, None);
        for entry in layers.engine.read(device, &mut room)? {
            match entry? {
                Entry::Visit(visit) => {
                    certified = visit.certificate.map(|of| (visit.outgoing, of));
                }
                Entry::Step(of) => end = Some(of),
                other => anyhow::bail!("{other}"),
            }
        }
        Ok(json!({
            "scale_log2": certified.map(|(scale, _)| scale.log2()),
            "certified_scale_log2": certified.map(|(_, of)| of.scale.log2()),
            "promised": certified.map(|(_, of)| of.promised),
            "steps": end.map(|of| of.totals.steps),
            "skipped": end.map(|of| of.totals.skipped),
        }))
    })
}
