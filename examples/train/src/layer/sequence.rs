//! Layers one after the other.

use adaloss_hal::{Memory, Plain};
use anyhow::{Context, Result};

use super::{Activation, AnyLayer, Backward, Forward, Gradient, Layer, Piece};

/// Layers one after the other.
pub struct Sequence<D: Memory, W: Plain, G: Plain> {
    layers: Vec<AnyLayer<D, W, G>>,
}

impl<D: Memory, W: Plain, G: Plain> Sequence<D, W, G> {
    /// Makes a sequence, in forward order.
    pub fn new(layers: Vec<AnyLayer<D, W, G>>) -> Self {
        Self { layers }
    }
}

impl<D: Memory, W: Plain, G: Plain> Layer<D, W, G> for Sequence<D, W, G> {
    fn name(&self) -> &str {
        "sequence"
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        self.layers.iter_mut().try_fold(input, |x, layer| {
            layer.forward(run, x).with_context(|| layer.name().to_owned())
        })
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let mut gradient = Some(gradient);
        for layer in self.layers.iter_mut().rev() {
            let Some(arriving) = gradient.take() else { break };
            let leaving = layer.backward(run, arriving);
            gradient = leaving.with_context(|| layer.name().to_owned())?;
        }
        Ok(gradient)
    }

    fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        self.layers.iter_mut().for_each(|layer| layer.pieces(to));
    }
}
