//! SegNet-basic (Badrinarayanan et al. 2017): an encoder, and a decoder that unpools with the
//! encoder's indices.

use std::fmt;

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::{Result, ensure};

use super::{Build, Layers, build::Place};
use crate::layer::{AnyLayer, Level, Machine, Relu, Sequence};

/// An encoder and decoder: at each level convolutions with their normalisations and rectifiers, then
/// max pooling; on the way up unpooling and as many convolutions.
///
/// SegNet-basic has one convolution of 7x7 per level and no rectifiers in the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segnet {
    /// Channels of each level, from the largest images to the smallest; zeros end the list.
    pub widths: [usize; 5],
    /// Height and width of kernels; odd.
    pub kernel: usize,
    /// Convolutions of a level, each way.
    pub convolutions: usize,
    /// Whether there are rectifiers on the way up.
    pub rectified: bool,
}

impl Default for Segnet {
    fn default() -> Self {
        Self { widths: [8, 16, 32, 32, 0], kernel: 5, convolutions: 1, rectified: false }
    }
}

impl Segnet {
    fn levels(&self) -> impl Iterator<Item = usize> {
        self.widths.into_iter().take_while(|&width| width > 0)
    }

    /// Checks that images can be halved as often as there are levels, odd rows and columns rounded up.
    pub(super) fn check(&self, height: usize, width: usize) -> Result<()> {
        let unit = 1 << self.levels().count();
        ensure!(
            height.min(width) >= unit,
            "images of {height} x {width} pixels cannot be halved {} times",
            self.levels().count()
        );
        Ok(())
    }

    pub(super) fn layers<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        channels: usize,
        classes: usize,
    ) -> Result<Layers<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let widths: Vec<usize> = self.levels().collect();
        let mut encoders = Vec::new();
        let mut arriving = channels;
        for (level, &width) in widths.iter().enumerate() {
            let name = format!("encoder{}", level + 1);
            let place = if level == 0 { Place::First } else { Place::Inside };
            let shape = (arriving, width, width);
            encoders.push(Sequence::new(self.level::<W, G, D>(build, &name, shape, place, true)?));
            arriving = width;
        }
        let mut inside: Vec<AnyLayer<D, W, G>> = Vec::new();
        for (level, encoder) in encoders.into_iter().enumerate().rev() {
            let name = format!("decoder{}", level + 1);
            let shape = (widths[level], widths[level], widths[level.saturating_sub(1)]);
            let decoder = self.level(build, &name, shape, Place::Inside, self.rectified)?;
            let level = Level::new(encoder, Sequence::new(inside), Sequence::new(decoder));
            inside = vec![Box::new(level)];
        }
        let head = build.head("head", [widths[0], classes])?;
        Ok(Layers::in_line(inside, head))
    }

    /// Makes the convolutions of one level, from so many channels by so many to so many.
    fn level<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        name: &str,
        (arriving, inner, leaving): (usize, usize, usize),
        place: Place,
        rectified: bool,
    ) -> Result<Vec<AnyLayer<D, W, G>>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let mut layers: Vec<AnyLayer<D, W, G>> = Vec::new();
        for nth in 0..self.convolutions {
            let from = if nth == 0 { arriving } else { inner };
            let to = if nth + 1 == self.convolutions { leaving } else { inner };
            let place = if nth == 0 { place } else { Place::Inside };
            let name = match self.convolutions {
                1 => name.to_owned(),
                _ => format!("{name}.{}", nth + 1),
            };
            layers.extend(build.normalised(&name, [from, to], self.kernel, place)?);
            if rectified {
                layers.push(Box::new(Relu::new()));
            }
        }
        Ok(layers)
    }
}

impl fmt::Display for Segnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<String> = self.levels().map(|width| width.to_string()).collect();
        let Self { kernel, convolutions, rectified, .. } = self;
        write!(f, "SegNet of widths {}, ", widths.join("-"))?;
        write!(f, "{convolutions} convolutions of {kernel}x{kernel} per level and way")?;
        if *rectified { Ok(()) } else { write!(f, ", decoder without rectifiers") }
    }
}
