//! VGG (Simonyan and Zisserman 2015).

use std::fmt;

use adaloss_core::{format::Element, policy::Fraction};
use adaloss_hal::Plain;
use anyhow::{Result, ensure};

use super::{
    Build, Heads, Layers,
    chain::{Chain, Window},
};
use crate::layer::{AnyLayer, Dropping, Machine, Relu, Reshape};

/// Channels of each group of convolutions.
const WIDTHS: [usize; 5] = [64, 128, 256, 512, 512];

/// Units of the two linear layers before the last one.
const UNITS: usize = 4096;

/// Five groups of 3x3 convolutions, each followed by a pooling that halves the image, and linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vgg {
    /// Convolutions of each group.
    pub groups: [usize; 5],
    /// Whether each convolution is followed by a batch normalisation.
    pub normalised: bool,
    /// Whether nothing is dropped between the linear layers.
    pub undropped: bool,
    /// Whether there is one linear layer instead of three, as for images of 32 x 32 pixels.
    pub small: bool,
}

impl Vgg {
    /// The depths that have been published and trained most.
    pub const DEPTHS: [usize; 4] = [11, 13, 16, 19];

    /// A network of three linear layers, not normalised; nothing for another depth.
    pub fn new(depth: usize) -> Option<Self> {
        let groups = match depth {
            11 => [1, 1, 2, 2, 2],
            13 => [2, 2, 2, 2, 2],
            16 => [2, 2, 3, 3, 3],
            19 => [2, 2, 4, 4, 4],
            _ => return None,
        };
        Some(Self { groups, normalised: false, undropped: false, small: false })
    }

    /// Returns the number of layers with weights.
    pub fn depth(&self) -> usize {
        self.groups.iter().sum::<usize>() + if self.small { 1 } else { 3 }
    }

    pub(super) fn layers<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        [height, width]: [usize; 2],
        channels: usize,
        classes: usize,
    ) -> Result<Layers<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        ensure!(
            height.is_multiple_of(32) && width.is_multiple_of(32),
            "images of {height} x {width} pixels cannot be halved five times: VGG takes multiples of 32"
        );
        let mut chain = Chain::new([height, width], channels);
        for (group, (width, convolutions)) in WIDTHS.into_iter().zip(self.groups).enumerate() {
            for nth in 0..convolutions {
                let name = format!("conv{}_{}", group + 1, nth + 1);
                chain.convolution(build, &name, width, Window::same(3), self.normalised)?;
            }
            chain.pooling(&format!("pool{}", group + 1), Window::HALVES, false)?;
        }
        chain.push(Box::new(Reshape::to_rows()));
        let mut arriving = chain.extent[0] * chain.extent[1] * chain.channels;
        let hidden = if self.small { 0 } else { 2 };
        for nth in 0..hidden {
            let name = format!("fc{}", nth + 6);
            let layer: AnyLayer<D, W, G> =
                Box::new(build.biased_linear(&name, [arriving, UNITS], 2.0)?);
            chain.push(layer);
            chain.push(Box::new(Relu::new()));
            if !self.undropped {
                let half = Fraction::new(0.5)?;
                chain.push(Box::new(Dropping::new(format!("drop{}", nth + 6), half, nth as u32)));
            }
            arriving = UNITS;
        }
        let head = build.head("head", [arriving, classes])?;
        Ok(Layers::of(chain.take(), Heads::One(Box::new(head))))
    }
}

impl fmt::Display for Vgg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VGG of {} layers", self.depth())?;
        if self.normalised { write!(f, " with batch normalisation") } else { Ok(()) }
    }
}
