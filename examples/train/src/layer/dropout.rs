//! Dropout.

use adaloss_core::{
    format::{Element, Noise},
    policy::Fraction,
};
use adaloss_hal::{
    Plain,
    network::{Dropout, Mask},
};
use anyhow::Result;

use super::{Activation, Backward, Forward, Gradient, Layer, Machine, Piece, kept};

/// A layer that drops a share of the elements in training, and multiplies the others to make up.
pub struct Dropping {
    name: String,
    share: Fraction,
    /// Of the random words: one per layer.
    stream: u32,
    mask: Option<Mask>,
}

impl Dropping {
    /// Makes the layer; no two of a network share their stream.
    pub fn new(name: String, share: Fraction, stream: u32) -> Self {
        Self { name, share, stream, mask: None }
    }
}

impl<D, W, G> Layer<D, W, G> for Dropping
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        if !run.training || self.share == Fraction::ZERO {
            return Ok(input);
        }
        let Noise { seed, stream } = run.noise;
        let noise = Noise { seed: seed ^ self.stream.rotate_left(16), stream };
        let mask = Mask { share: self.share, noise };
        self.mask = Some(mask);
        run.activation(input.shape(), |device, to, epilogue| {
            device.run(Dropout { mask, input: input.view(), to, epilogue })
        })
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        if self.share == Fraction::ZERO {
            return Ok(Some(gradient));
        }
        let mask = kept(&mut self.mask)?;
        let shape = gradient.value().shape();
        run.layer(&self.name, &gradient, shape, |device, input, to, epilogue| {
            device.run(Dropout { mask, input, to, epilogue })
        })
        .map(Some)
    }

    fn pieces<'a>(&'a mut self, _: &mut Vec<Piece<'a, D, W>>) {}
}
