//! Images as rows of features.

use std::rc::Rc;

use adaloss_hal::{Memory, Plain};
use anyhow::Result;

use super::{Activation, Backward, Forward, Gradient, Layer, Piece, Shape, kept, own};

/// Makes one row of features of each image.
#[derive(Default)]
pub struct Flatten {
    input: Option<Shape>,
}

impl Flatten {
    /// Makes the layer.
    pub const fn new() -> Self {
        Self { input: None }
    }
}

impl<D: Memory, W: Plain, G: Plain> Layer<D, W, G> for Flatten {
    fn name(&self) -> &str {
        "flatten"
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let tensor = own(input)?;
        let shape = tensor.shape();
        self.input = run.training.then_some(shape);
        let features = shape.height * shape.width * shape.channels;
        Ok(Rc::new(tensor.reshaped(shape.with_extent([1, 1]).with_channels(features))))
    }

    fn backward(
        &mut self,
        _: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let input = kept(&mut self.input)?;
        gradient.carry(|gradient| Ok(own(gradient)?.reshaped(input))).map(Some)
    }

    fn pieces<'a>(&'a mut self, _: &mut Vec<Piece<'a, D, W>>) {}
}
