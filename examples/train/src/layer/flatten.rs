//! Images as rows of features.

use std::rc::Rc;

use adaloss_hal::{Memory, Plain};
use anyhow::Result;

use super::{Activation, Backward, Forward, Gradient, Layer, Piece, own};

/// Makes one row of features of each image, at the beginning of a network.
pub struct Flatten;

impl<D: Memory, W: Plain, G: Plain> Layer<D, W, G> for Flatten {
    fn name(&self) -> &str {
        "flatten"
    }

    fn forward(
        &mut self,
        _: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let tensor = own(input)?;
        let shape = tensor.shape();
        let features = shape.height * shape.width * shape.channels;
        Ok(Rc::new(tensor.reshaped(shape.with_extent([1, 1]).with_channels(features))))
    }

    fn backward(
        &mut self,
        _: &mut Backward<'_, D>,
        _: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        Ok(None)
    }

    fn pieces<'a>(&'a mut self, _: &mut Vec<Piece<'a, D, W>>) {}
}
