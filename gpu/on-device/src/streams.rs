//! What streams through memory, in tensors larger than any cache.

use std::num::NonZero;

use adaloss_core::{
    format::{E4M3, f16},
    policy::Cell,
    statistics::Statistics,
    unscale::Unscaled,
};
use adaloss_gpu::{Buffer, Cuda, GpuSpace, Weight, Weights};
use adaloss_hal::{AddressSpace, Branch, Memory, Narrow, Propagate, Run, Summarise, Unscale};
use serde_json::{Value, json};

use crate::{
    rows::Rows,
    setup::{End, gradients},
    timing::time,
};
use adaloss_on_device::entries::SGD;

/// One kernel over one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Copy,
    Apply,
    ApplyAndMeasure,
    Measure,
    ApplyE4m3,
    ApplyAndMeasureE4m3,
    MeasureE4m3,
    Unscale,
    RescaleAndMeasure,
    MeasureElements,
    Statistics,
    StatisticsF32,
    Update,
}

impl Pass {
    pub(crate) const ALL: [Self; 13] = [
        Self::Copy,
        Self::Apply,
        Self::ApplyAndMeasure,
        Self::Measure,
        Self::ApplyE4m3,
        Self::ApplyAndMeasureE4m3,
        Self::MeasureE4m3,
        Self::Unscale,
        Self::RescaleAndMeasure,
        Self::MeasureElements,
        Self::Statistics,
        Self::StatisticsF32,
        Self::Update,
    ];

    /// Those of which it is tried how many blocks serve them best.
    const SWEPT: [Self; 5] =
        [Self::Apply, Self::ApplyAndMeasure, Self::Unscale, Self::Statistics, Self::Update];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Apply => "apply binary16",
            Self::ApplyAndMeasure => "apply and measure binary16",
            Self::Measure => "measure binary16",
            Self::ApplyE4m3 => "apply E4M3",
            Self::ApplyAndMeasureE4m3 => "apply and measure E4M3",
            Self::MeasureE4m3 => "measure E4M3",
            Self::Unscale => "unscale binary16",
            Self::RescaleAndMeasure => "rescale and measure binary16 elements",
            Self::MeasureElements => "measure binary16 elements",
            Self::Statistics => "statistics binary16",
            Self::StatisticsF32 => "statistics binary32",
            Self::Update => "unscale and update binary16",
        }
    }

    /// Bytes of an element that have to be read and written, once.
    const fn bytes(self) -> usize {
        match self {
            Self::Copy => 8,
            Self::Apply | Self::ApplyAndMeasure | Self::Unscale => 6,
            Self::ApplyE4m3 | Self::ApplyAndMeasureE4m3 => 5,
            Self::Measure | Self::MeasureE4m3 | Self::RescaleAndMeasure | Self::StatisticsF32 => 4,
            Self::MeasureElements | Self::Statistics => 2,
            Self::Update => 18,
        }
    }
}

/// The tensors.
pub(crate) struct Streams {
    elements: usize,
    values: Buffer<f32>,
    other: Buffer<f32>,
    momentum: Buffer<f32>,
    narrowed: Buffer<f16>,
    rescaled: Buffer<f16>,
    eighths: Buffer<E4M3>,
    end: End,
    end_e4m3: End,
    end_rescaled: End,
    one: Buffer<Cell>,
    met: Buffer<Unscaled>,
    moments: Buffer<Statistics>,
    bad: Buffer<u64>,
    steps: Buffer<u64>,
    weights: Weights<f16>,
}

impl Streams {
    pub(crate) fn new(device: &mut Cuda, elements: usize) -> anyhow::Result<Self> {
        let values = gradients(device, elements)?;
        let mut narrowed = device.zeroed::<f16>(elements)?;
        let mut end = End::new::<f16>(device, 12)?;
        let epilogue = end.epilogue::<f16>(true, false);
        device.run(Narrow { input: values.view(), to: narrowed.view_mut(), epilogue })?;
        let (mut other, mut momentum) = (device.zeroed(elements)?, device.zeroed(elements)?);
        device.copy(values.view(), other.view_mut())?;
        let one = device.zeroed::<Cell>(1)?;
        let weights = device.weights([Weight {
            gradient: narrowed.view(),
            cell: one.view(),
            weight: other.view_mut(),
            momentum: momentum.view_mut(),
        }])?;
        Ok(Self {
            elements,
            rescaled: device.zeroed(elements)?,
            eighths: device.zeroed(elements)?,
            end_e4m3: End::new::<E4M3>(device, 12)?,
            end_rescaled: End::new::<f16>(device, 2)?,
            met: device.zeroed(1)?,
            moments: device.zeroed(1)?,
            bad: device.zeroed(1)?,
            steps: device.zeroed(1)?,
            values,
            other,
            momentum,
            narrowed,
            end,
            one,
            weights,
        })
    }

    /// Asks for a pass.
    pub(crate) fn launch(&mut self, device: &mut Cuda, pass: Pass) -> anyhow::Result<()> {
        let values = self.values.view();
        match pass {
            Pass::Copy => device.copy(values, self.other.view_mut())?,
            Pass::Apply | Pass::ApplyAndMeasure | Pass::Measure => {
                let epilogue = self.end.epilogue::<f16>(pass != Pass::Measure, pass != Pass::Apply);
                let to = self.rescaled.view_mut();
                device.run(Narrow { input: values, to, epilogue })?;
            }
            Pass::ApplyE4m3 | Pass::ApplyAndMeasureE4m3 | Pass::MeasureE4m3 => {
                let (stores, measures) = (pass != Pass::MeasureE4m3, pass != Pass::ApplyE4m3);
                let epilogue = self.end_e4m3.epilogue::<E4M3>(stores, measures);
                let to = self.eighths.view_mut();
                device.run(Narrow { input: values, to, epilogue })?;
            }
            Pass::Unscale => {
                let cell = GpuSpace::part(self.end.cells.view(), 1..2).expect("two cells");
                device.run(Unscale {
                    gradient: self.narrowed.view(),
                    cell,
                    to: self.other.view_mut(),
                    counts: self.met.view_mut(),
                })?;
            }
            Pass::RescaleAndMeasure | Pass::MeasureElements => {
                let branch = Branch { gradient: self.narrowed.view(), cell: self.one.view() };
                let epilogue =
                    self.end_rescaled.epilogue::<f16>(pass == Pass::RescaleAndMeasure, true);
                let to = self.rescaled.view_mut();
                device.run(Propagate { branches: &[branch], to, epilogue })?;
            }
            Pass::Statistics => {
                let (input, to) = (self.narrowed.view(), self.moments.view_mut());
                device.run(Summarise { input, to, when: None })?;
            }
            Pass::StatisticsF32 => {
                device.run(Summarise { input: values, to: self.moments.view_mut(), when: None })?;
            }
            Pass::Update => {
                let weight = Weight {
                    gradient: self.narrowed.view(),
                    cell: self.one.view(),
                    weight: self.other.view_mut(),
                    momentum: self.momentum.view_mut(),
                };
                device.sgd(
                    &self.weights,
                    [weight],
                    SGD,
                    self.bad.view(),
                    None,
                    self.steps.view_mut(),
                )?;
            }
        }
        Ok(())
    }
}

/// Times every pass, and some with one to so many blocks for each multiprocessor.
pub(crate) fn run(
    rows: &mut Rows,
    device: &mut Cuda,
    elements: usize,
    most_blocks: u32,
) -> anyhow::Result<()> {
    let mut streams = Streams::new(device, elements)?;
    for pass in Pass::ALL {
        rows.row(pass.name(), || {
            let timed = time(device, |device, _| streams.launch(device, pass))?;
            let mut row = timed.json();
            row["bytes"] = (pass.bytes() * streams.elements).into();
            row["gb_per_s"] = ((pass.bytes() * streams.elements) as f64 / timed.ms / 1.0e6).into();
            Ok(row)
        })?;
    }
    for pass in Pass::SWEPT {
        rows.row(&format!("blocks of {}", pass.name()), || {
            let mut blocks = Vec::new();
            for limit in (1..=most_blocks).map(NonZero::new).chain([None]) {
                device.limit_blocks(limit);
                let timed = time(device, |device, _| streams.launch(device, pass));
                device.limit_blocks(None);
                blocks.push(
                    json!({ "per_multiprocessor": limit.map(NonZero::get), "ms": timed?.ms }),
                );
            }
            Ok(json!({ "blocks": Value::Array(blocks) }))
        })?;
    }
    Ok(())
}
