//! Images as rows of features, and rows of features as images.

use std::rc::Rc;

use adaloss_hal::{Memory, Plain};
use anyhow::{Result, ensure};

use super::{Activation, Backward, Forward, Gradient, Layer, Piece, Shape, kept, own};

/// Makes an image of a height and a width of each sample, pixel by pixel with the channels side by side; a row of features is an image of
/// one pixel.
pub struct Reshape {
    extent: [usize; 2],
    input: Option<Shape>,
}

impl Reshape {
    /// Makes a layer to one row of features of each image.
    pub const fn to_rows() -> Self {
        Self::to_images([1, 1])
    }

    /// Makes a layer to images of a height and a width.
    pub const fn to_images(extent: [usize; 2]) -> Self {
        Self { extent, input: None }
    }
}

impl<D: Memory, W: Plain, G: Plain> Layer<D, W, G> for Reshape {
    fn name(&self) -> &str {
        "reshape"
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let tensor = own(input)?;
        let (shape, [height, width]) = (tensor.shape(), self.extent);
        let features = shape.height * shape.width * shape.channels;
        ensure!(
            features.is_multiple_of((height * width).max(1)),
            "{features} features are no image of {height} x {width} pixels"
        );
        self.input = run.training.then_some(shape);
        let channels = features / (height * width).max(1);
        Ok(Rc::new(tensor.reshaped(shape.with_extent(self.extent).with_channels(channels))))
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
