//! Layers one after the other over images whose size is known: what a network is written down with that has to know its maps.

use adaloss_core::format::Element;
use adaloss_hal::{
    Plain,
    network::{Convolution, Pooling as Windows},
};
use anyhow::{Context, Result};

use super::Build;
use crate::layer::{AnyLayer, Machine, Normalising, Pooling, Relu, Sequence};

/// Layers so far, and what leaves them.
pub(super) struct Chain<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    layers: Vec<AnyLayer<D, W, G>>,
    /// Rows and columns of the image that leaves.
    pub(super) extent: [usize; 2],
    /// Its channels.
    pub(super) channels: usize,
    /// Whether no layer with a weight was made yet.
    is_first: bool,
}

/// A window of a convolution or of a pooling.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Rows and columns.
    pub(super) side: usize,
    /// Pixels from one to the next.
    pub(super) stride: usize,
    /// Around the image.
    pub(super) padding: usize,
    /// Pixels from one row or column of the window to the next.
    pub(super) dilation: usize,
}

impl Window {
    /// A pooling that halves images.
    pub(super) const HALVES: Self = Self { side: 2, stride: 2, padding: 0, dilation: 1 };

    /// A window that keeps the size of the image.
    pub(super) const fn same(side: usize) -> Self {
        Self { side, stride: 1, padding: side / 2, dilation: 1 }
    }
}

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> Chain<D, W, G> {
    /// Begins at images of some channels.
    pub(super) fn new(extent: [usize; 2], channels: usize) -> Self {
        Self { layers: Vec::new(), extent, channels, is_first: true }
    }

    /// Returns the layers so far, and begins again behind them.
    pub(super) fn take(&mut self) -> Sequence<D, W, G> {
        Sequence::new(std::mem::take(&mut self.layers))
    }

    /// Appends a layer that changes neither size nor channels.
    pub(super) fn push(&mut self, layer: AnyLayer<D, W, G>) {
        self.layers.push(layer);
    }

    /// Appends a convolution with a bias, a normalisation if asked for, and a rectifier.
    pub(super) fn convolution(
        &mut self,
        build: &mut Build<'_, D>,
        name: &str,
        filters: usize,
        window: Window,
        is_normalised: bool,
    ) -> Result<()> {
        let Window { side, stride, padding, dilation } = window;
        let shape = Convolution::new(0, self.extent, self.channels, filters, [side; 2])
            .stride([stride; 2])
            .padding([padding; 2])
            .dilation([dilation; 2]);
        let extent = shape.output().with_context(|| {
            format!("{name}, {shape}, has no output: the images are too small for this network")
        })?;
        let convolution = build.biased(name, shape)?;
        let is_first = std::mem::replace(&mut self.is_first, false);
        let convolution = if is_first { convolution.first() } else { convolution };
        self.layers.push(Box::new(convolution));
        if is_normalised {
            let norm = Normalising::batch(build.device, &format!("{name}.norm"), filters, 1.0)?;
            self.layers.push(Box::new(norm));
        }
        self.layers.push(Box::new(Relu::new()));
        (self.extent, self.channels) = (extent, filters);
        Ok(())
    }

    /// Appends a max pooling.
    pub(super) fn pooling(&mut self, name: &str, window: Window, is_covering: bool) -> Result<()> {
        let Window { side, stride, padding, .. } = window;
        let shape = Windows::new(0, self.extent, self.channels, [side; 2]);
        let shape = shape.stride([stride; 2]).padding([padding; 2]);
        let shape = if is_covering { shape.covering() } else { shape };
        self.extent = shape.output().with_context(|| {
            format!("{name}, {shape}, has no output: the images are too small for this network")
        })?;
        self.layers.push(Box::new(Pooling::new(name.to_owned(), shape)));
        Ok(())
    }
}
