//! The parameter-free shortcut of a residual block that halves the image or adds channels.

use adaloss_core::format::{Element, Narrowing};
use adaloss_hal::{
    AddressSpace, Memory, Plain,
    network::{Convolution, Convolve, ConvolveInput},
};
use anyhow::{Context, Result};

use super::{
    Activation, Backward, Forward, Gradient, Layer, Machine, Piece, Shape, Vector,
    convolution::of_input, kept,
};

/// Takes every second pixel and adds channels of zeros (He et al. 2016, option A).
///
/// It is a convolution with an identity for a weight, so that each result is one element as it was:
/// nothing is rounded, and the scale is carried.
pub struct Padding<D: Memory, W: Plain> {
    identity: Vector<D, W>,
    /// For one image of any size.
    shape: Convolution,
    input: Option<Shape>,
}

impl<D: Memory, W: Element + Plain> Padding<D, W> {
    /// Makes the shortcut between blocks of so many channels; with a stride of 1 it takes every pixel.
    pub fn new(
        device: &mut D,
        [channels, filters]: [usize; 2],
        stride: usize,
    ) -> Result<Self, D::Error> {
        let entry = |i: usize| if i / channels == i % channels { 1.0 } else { 0.0 };
        let narrow = |x: f32| W::narrow(x, Narrowing::to(W::ENCODING.into()), 0, 0);
        let identity: Vec<W> = (0..filters * channels).map(|i| narrow(entry(i))).collect();
        let shape = Convolution::new(0, [0, 0], channels, filters, [1, 1]).stride([stride; 2]);
        Ok(Self { identity: Vector::of(device, &identity)?, shape, input: None })
    }
}

impl<D, W, G> Layer<D, W, G> for Padding<D, W>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    fn name(&self) -> &str {
        "padding"
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let convolution = of_input(self.shape, input.shape());
        let extent = convolution.output();
        let extent = extent.with_context(|| {
            format!("the shortcut {convolution} has no output: its kernel exceeds the padded image")
        })?;
        self.input = run.training.then_some(input.shape());
        let leaving = input.shape().with_extent(extent).with_channels(convolution.filters);
        run.activation(leaving, |device, to, epilogue| {
            let (input, weight) = (input.view(), self.identity.view());
            device.run(Convolve::<_, W, W, W> {
                convolution,
                input,
                weight,
                bias: None,
                to,
                epilogue,
            })
        })
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let input = kept(&mut self.input)?;
        let (convolution, weight) = (of_input(self.shape, input), self.identity.view());
        run.carry(gradient, input, |device, gradient, to, epilogue| {
            let (gradient, weight) = (D::Space::reborrow(gradient), D::Space::reborrow(weight));
            device.run(ConvolveInput::<_, G, W, G> { convolution, gradient, weight, to, epilogue })
        })
        .map(Some)
    }

    fn pieces<'a>(&'a mut self, _: &mut Vec<Piece<'a, D, W>>) {}
}
