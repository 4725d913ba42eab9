//! Layers that decide, one after the other, with nothing that waits between them.

use adaloss_core::{
    format::{Format, f16},
    policy::{Cell, Certificate, Config},
    statistics::Outcome,
};
use adaloss_gpu::{Buffer, Cuda};
use adaloss_hal::{Decide, Device, Memory, Narrow};
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
    certificate: Buffer<Certificate>,
    ends: Vec<End>,
}

impl Layers {
    fn new(device: &mut Cuda, elements: usize) -> anyhow::Result<Self> {
        Ok(Self {
            config: Config::for_format(Format::BINARY16),
            values: gradients(device, elements)?,
            to: device.zeroed(elements)?,
            certificate: device.zeroed(1)?,
            ends: (0..LAYERS)
                .map(|_| End::new::<f16>(device, 12))
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// Narrows each layer's tensor, and decides its scale before if that is asked for.
    fn pass(&mut self, device: &mut Cuda, decides: bool) -> anyhow::Result<()> {
        let Self { config, values, to, certificate, ends } = self;
        for end in ends {
            if decides {
                let cell = Cuda::part_mut(end.cells.view_mut(), 1..2).expect("two cells");
                device.decide(config, end.histogram.view(), cell, certificate.view_mut())?;
            }
            device.apply(values.view(), to.view_mut(), end.epilogue::<f16>(true, decides))?;
        }
        Ok(())
    }
}

/// Times layers that decide, measure and apply, and such that apply alone: asked for one by one, and as a graph.
pub(crate) fn run(rows: &mut Rows, device: &mut Cuda, elements: usize) -> anyhow::Result<()> {
    let elements = elements.min(ELEMENTS);
    let mut layers = Layers::new(device, elements)?;
    for (name, decides) in [("apply", false), ("decide, measure and apply", true)] {
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
        let (mut cells, mut outcome) = ([Cell::new(); 2], [Outcome::EMPTY]);
        device.read(layers.ends[0].cells.view(), &mut cells)?;
        device.read(layers.ends[0].outcome.view(), &mut outcome)?;
        Ok(json!({ "scale_log2": cells[1].scale().log2(), "underflow": outcome[0].underflow }))
    })
}
