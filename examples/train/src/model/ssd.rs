//! SSD, the single shot detector (Liu et al. 2016): SSD300 and SSD512 on VGG-16, and a small one of the same layers.

use std::fmt;

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::{Result, ensure};

use super::{
    BoxHeads, Build, Heads, Layers, Map,
    chain::{Chain, Window},
};
use crate::{
    detect::{DefaultBoxes, MapBoxes},
    layer::{AnyLayer, LengthNorm, Machine, Sequence},
};

/// What the first map's features are after its normalisation, at the beginning: 20 in length for the 512 channels of VGG.
const ROOT_MEAN_SQUARE: f32 = 0.884;

/// A detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ssd {
    /// On VGG-16, for images of 300 x 300 pixels.
    Large300,
    /// On VGG-16, for images of 512 x 512 pixels.
    Large512,
    /// Two groups of two convolutions and as many maps as the image can be halved: for images from 32 x 32 pixels on.
    Small {
        /// Channels of the first group.
        width: usize,
    },
}

/// What the maps of a detector are.
struct Plan {
    /// Rows and columns of the images, where they are given.
    side: Option<usize>,
    /// The sides of small square boxes, as shares of the image; one more than there are maps.
    scales: Vec<f64>,
    /// Pixels from one centre to the next; those of the map, where they are not given.
    steps: Vec<f64>,
    /// Width over height of further boxes, by map.
    ratios: Vec<Vec<f64>>,
}

impl Ssd {
    fn plan(self) -> Plan {
        let pixels = |side: f64, of: &[f64]| of.iter().map(|x| x / side).collect();
        let (two, both) = (vec![2.0], vec![2.0, 3.0]);
        match self {
            // Those of the reference implementation (weiliu89/caffe, branch ssd, ssd_pascal.py).
            Self::Large300 => Plan {
                side: Some(300),
                scales: pixels(300.0, &[30.0, 60.0, 111.0, 162.0, 213.0, 264.0, 315.0]),
                steps: pixels(300.0, &[8.0, 16.0, 32.0, 64.0, 100.0, 300.0]),
                ratios: [&two, &both, &both, &both, &two, &two].map(Clone::clone).to_vec(),
            },
            Self::Large512 => Plan {
                side: Some(512),
                scales: pixels(512.0, &[35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6]),
                steps: pixels(512.0, &[8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
                ratios: [&two, &both, &both, &both, &both, &two, &two].map(Clone::clone).to_vec(),
            },
            Self::Small { .. } => Plan {
                side: None,
                scales: vec![0.1, 0.2, 0.4, 0.65, 0.9],
                steps: Vec::new(),
                ratios: vec![two; 4],
            },
        }
    }

    pub(super) fn layers<W, G, D>(
        self,
        build: &mut Build<'_, D>,
        extent: [usize; 2],
        channels: usize,
        classes: usize,
    ) -> Result<Layers<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let plan = self.plan();
        if let Some(side) = plan.side {
            ensure!(
                extent == [side; 2],
                "{self} takes images of {side} x {side} pixels, and these have {} x {}",
                extent[0],
                extent[1]
            );
        }
        let mut chain = Chain::new(extent, channels);
        match self {
            Self::Small { width } => small_base(build, &mut chain, width)?,
            _ => large_base(build, &mut chain)?,
        }
        let body = chain.take();
        let mut maps = Vec::new();
        let mut boxes = Vec::new();
        for (nth, ratios) in plan.ratios.into_iter().enumerate() {
            if nth > 0 {
                self.next_map(build, &mut chain, nth)?;
            }
            let steps = chain.extent.map(|pixels| 1.0 / pixels as f64);
            let of_map = MapBoxes {
                extent: chain.extent,
                step: plan.steps.get(nth).map_or(steps, |&step| [step; 2]),
                scale: plan.scales[nth],
                next_scale: plan.scales[nth + 1],
                ratios,
            };
            maps.push(map(build, &mut chain, nth, (&of_map, classes))?);
            boxes.push(of_map);
        }
        let heads = BoxHeads { maps, boxes: DefaultBoxes::new(&boxes) };
        let heads = Heads::Boxes(Box::new(heads));
        Ok(Layers::of(body, heads))
    }

    /// Appends the layers between two maps.
    fn next_map<W, G, D>(
        self,
        build: &mut Build<'_, D>,
        chain: &mut Chain<D, W, G>,
        nth: usize,
    ) -> Result<()>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let (halving, valid) =
            (Window { stride: 2, ..Window::same(3) }, Window { padding: 0, ..Window::same(3) });
        match (self, nth) {
            (Self::Small { width }, 1) => {
                chain.pooling("pool3", Window::HALVES, false)?;
                let dilated = Window { padding: 2, dilation: 2, ..Window::same(3) };
                chain.convolution(build, "conv4_1", 8 * width, dilated, false)?;
                chain.convolution(build, "conv4_2", 8 * width, Window::same(1), false)
            }
            (Self::Small { width }, _) => {
                let name = format!("conv{}", nth + 3);
                chain.convolution(
                    build,
                    &format!("{name}_1"),
                    4 * width,
                    Window::same(1),
                    false,
                )?;
                chain.convolution(build, &format!("{name}_2"), 8 * width, halving, false)
            }
            (_, 1) => {
                chain.pooling("pool4", Window::HALVES, false)?;
                for nth in 1..=3 {
                    let name = format!("conv5_{nth}");
                    chain.convolution(build, &name, 512, Window::same(3), false)?;
                }
                chain.pooling("pool5", Window::same(3), false)?;
                // The linear layers of VGG, taken apart (Chen et al. 2015).
                let dilated = Window { padding: 6, dilation: 6, ..Window::same(3) };
                chain.convolution(build, "conv6", 1024, dilated, false)?;
                chain.convolution(build, "conv7", 1024, Window::same(1), false)
            }
            _ => {
                let [narrow, wide] = if nth == 2 { [256, 512] } else { [128, 256] };
                let window = match self {
                    Self::Large300 if nth > 3 => valid,
                    // From 2 x 2 pixels to one.
                    Self::Large512 if nth == 6 => Window { padding: 1, ..Window::same(4) },
                    _ => halving,
                };
                let name = format!("conv{}", nth + 6);
                chain.convolution(build, &format!("{name}_1"), narrow, Window::same(1), false)?;
                chain.convolution(build, &format!("{name}_2"), wide, window, false)
            }
        }
    }
}

/// VGG-16 up to the last convolution of its fourth group.
fn large_base<W, G, D>(build: &mut Build<'_, D>, chain: &mut Chain<D, W, G>) -> Result<()>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    for (group, (width, convolutions)) in
        [(64, 2), (128, 2), (256, 3), (512, 3)].into_iter().enumerate()
    {
        if group > 0 {
            chain.pooling(&format!("pool{group}"), Window::HALVES, true)?;
        }
        for nth in 0..convolutions {
            let name = format!("conv{}_{}", group + 1, nth + 1);
            chain.convolution(build, &name, width, Window::same(3), false)?;
        }
    }
    Ok(())
}

/// Two groups of two convolutions, and two more.
fn small_base<W, G, D>(
    build: &mut Build<'_, D>,
    chain: &mut Chain<D, W, G>,
    width: usize,
) -> Result<()>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    for group in 0..3 {
        if group > 0 {
            chain.pooling(&format!("pool{group}"), Window::HALVES, false)?;
        }
        for nth in 0..2 {
            let name = format!("conv{}_{}", group + 1, nth + 1);
            chain.convolution(build, &name, width << group, Window::same(3), false)?;
        }
    }
    Ok(())
}

/// Makes a map of the layers so far, with its heads.
fn map<W, G, D>(
    build: &mut Build<'_, D>,
    chain: &mut Chain<D, W, G>,
    nth: usize,
    (boxes, classes): (&MapBoxes, usize),
) -> Result<Map<D, W, G>>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    let (name, channels) = (format!("map{}", nth + 1), chain.channels);
    let mut to_heads: Vec<AnyLayer<D, W, G>> = Vec::new();
    if nth == 0 {
        // Activations of the base are larger than those behind it.
        let gain = ROOT_MEAN_SQUARE * (channels as f32).sqrt();
        let norm = LengthNorm::new(build.device, &format!("{name}.norm"), channels, gain)?;
        to_heads.push(Box::new(norm));
    }
    let mut head = |kind: &str, per_box: usize| {
        build.map_head(&format!("{name}.{kind}"), [channels, boxes.per_pixel() * per_box])
    };
    let (scores, offsets) = (head("scores", classes + 1)?, head("offsets", 4)?);
    Ok(Map { name, body: chain.take(), to_heads: Sequence::new(to_heads), scores, offsets })
}

impl fmt::Display for Ssd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Large300 => write!(f, "SSD300 on VGG-16"),
            Self::Large512 => write!(f, "SSD512 on VGG-16"),
            Self::Small { width } => write!(f, "SSD of width {width}"),
        }
    }
}
