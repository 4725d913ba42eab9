//! Layers that decide, one after the other, with nothing that waits between them.

use adaloss_core::{
    format::{Format, Overflow, f16},
    policy::{Cell, Certificate, Config},
};
use adaloss_gpu::{Buffer, Cuda, GpuSpace};
use adaloss_hal::{AddressSpace, Certify, Device, Finish, Memory, Narrow, Note, Plain, Run};
use serde_json::json;

use crate::{
    rows::Rows,
    setup::{End, gradients},
    timing::{time, time_called},
};

/// Layers that decide.
const LAYERS: usize = 50;

/// Elements of a layer's tensor at most: few enough for the time of a launch to show.
const ELEMENTS: usize = 1 << 16;

/// Layers with a tensor each.
struct Layers {
    config: Config,
    values: Buffer<f32>,
    to: Buffer<f16>,
    /// A cell for each.
    cells: Buffer<Cell>,
    certificate: Buffer<Certificate>,
    ends: Vec<End>,
}

impl Layers {
    fn new(device: &mut Cuda, elements: usize) -> anyhow::Result<Self> {
        // Nobody waits, and so nobody replays.
        let config = Config::for_format(Format::BINARY16).with_overflow(Overflow::Saturate);
        let mut cells = device.zeroed(LAYERS)?;
        device.write(&[config.cell(); LAYERS], cells.view_mut())?;
        Ok(Self {
            config,
            cells,
            values: gradients(device, elements)?,
            to: device.zeroed(elements)?,
            certificate: device.zeroed(1)?,
            ends: (0..LAYERS)
                .map(|_| End::new::<f16>(device, 12))
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// Narrows each layer's tensor; and, if that is asked for, measures it, takes note, certifies its scale, and
    /// decides all scales in the end.
    fn pass(&mut self, device: &mut Cuda, decides: bool) -> anyhow::Result<()> {
        let Self { config, values, to, cells, certificate, ends } = self;
        for (nth, end) in ends.iter_mut().enumerate() {
            let mut epilogue = end.epilogue::<f16>(true, decides);
            epilogue.narrowing = config.narrowing();
            epilogue.to = GpuSpace::part(cells.view(), nth..nth + 1).expect("a cell for each");
            device.run(Narrow { input: values.view(), to: to.view_mut(), epilogue })?;
            if decides {
                let mut cell =
                    GpuSpace::part_mut(cells.view_mut(), nth..nth + 1).expect("a cell for each");
                let from = GpuSpace::part(end.cells.view(), 0..1).expect("two cells");
                let (config, outcome) = (&*config, end.outcome.view());
                device.run(Note {
                    config,
                    outcome,
                    from,
                    cell: GpuSpace::reborrow_mut(&mut cell),
                })?;
                let (histogram, certificate) = (end.histogram.view(), certificate.view_mut());
                device.run(Certify { config, histogram, cell, certificate })?;
            }
        }
        if decides {
            device.run(Finish { config, cells: cells.view_mut() })?;
        }
        Ok(())
    }
}

/// Times layers that apply alone, and such that measure, note, certify and decide: asked for one by one, and as a
/// graph.
pub(crate) fn run(rows: &mut Rows, device: &mut Cuda, elements: usize) -> anyhow::Result<()> {
    let elements = elements.min(ELEMENTS);
    let mut layers = Layers::new(device, elements)?;
    let decides_too = "apply, measure, note, certify and finish";
    for (name, decides) in [("apply", false), (decides_too, true)] {
        rows.row(name, || {
            let called = time_called(device, |device| layers.pass(device, decides))?;
            let captured = time(device, |device, _| layers.pass(device, decides))?;
            Ok(json!({
                "layers": LAYERS,
                "elements": elements,
                "us_per_layer_called": 1000.0 * called.ms / LAYERS as f64,
                "us_per_layer_captured": 1000.0 * captured.ms / LAYERS as f64,
            }))
        })?;
    }
    rows.row("what was decided", || {
        let (mut cells, mut last) = ([Cell::new(); LAYERS], [Certificate::zeroed()]);
        device.read(layers.cells.view(), &mut cells)?;
        device.read(layers.certificate.view(), &mut last)?;
        Ok(json!({
            "scale_log2": cells[0].scale().log2(),
            "certified_scale_log2": last[0].scale.log2(),
            "promised": last[0].promised,
        }))
    })
}
