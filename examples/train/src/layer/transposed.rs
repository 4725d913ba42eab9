//! Transposed convolutions: from images to larger ones.

use adaloss_core::format::Element;
use adaloss_hal::{
    AddressSpace, Memory, Plain, Ref,
    network::{Convolution, Convolve, ConvolveInput, ConvolveWeight},
};
use anyhow::{Result, ensure};

use super::{
    Activation, Backward, Forward, Gradient, Layer, Machine, Parameter, Piece, ProductOperands,
    Tensor, convolution::of_input, kept, statistics,
};

/// A layer without bias that goes forward as a convolution goes back to its input (Dumoulin and Visin 2016, section 4).
///
/// Its inputs have the extents and filters of the convolution's output, its outputs those and the channels of its input.
pub struct Transposed<D: Memory, W: Plain> {
    weight: Parameter<D, W>,
    /// From an output to an input.
    convolution: Convolution,
    input: Option<Activation<D, W>>,
}

impl<D: Memory, W: Plain> Transposed<D, W> {
    /// Makes a layer from its weight and the convolution that goes from its outputs, whose extents it has, to its inputs.
    pub fn new(weight: Parameter<D, W>, convolution: Convolution) -> Self {
        Self { weight, convolution, input: None }
    }
}

impl<D, W, G> Layer<D, W, G> for Transposed<D, W>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    fn name(&self) -> &str {
        &self.weight.name
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let shape = input.shape();
        let Convolution { input: extent, channels, filters, .. } = self.convolution;
        let leaving = shape.with_extent(extent).with_channels(channels);
        let convolution = of_input(self.convolution, leaving);
        let arriving = convolution.output().map(|extent| (extent, filters));
        ensure!(
            arriving == Some((shape.extent(), shape.channels)),
            "the transposed convolution {convolution} cannot take images of {shape}"
        );
        let weight = self.weight.narrow()?;
        let output = run.activation(leaving, |device, to, epilogue| {
            let gradient = input.view();
            device.run(ConvolveInput::<_, W, W, W> { convolution, gradient, weight, to, epilogue })
        })?;
        self.input = run.training.then_some(input);
        Ok(output)
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let input = kept(&mut self.input)?;
        let convolution = of_input(self.convolution, gradient.value().shape());
        run.weight_gradient(&mut self.weight, &gradient, |device, gradient, to, epilogue| {
            device.run(ConvolveWeight::<_, W, G, f32> {
                convolution,
                gradient: input.view(),
                input: D::Space::reborrow(gradient),
                to,
                epilogue,
            })
        })?;
        let leaving = input.shape();
        drop(input); // not needed any more
        let weight = self.weight.narrow()?;
        let describe = |device: &mut D, gradient: &Tensor<D, G>, when: Option<Ref<'_, D, u32>>| {
            Ok(ProductOperands {
                gradient: statistics(device, gradient.view(), when)?,
                weight: statistics(device, D::Space::reborrow(weight), when)?,
                fan_in: convolution.fan_in() as u32,
            })
        };
        run.product(
            &self.weight.name,
            &gradient,
            leaving,
            &describe,
            &|device, gradient, to, epilogue| {
                let (input, weight) = (D::Space::reborrow(gradient), D::Space::reborrow(weight));
                let bias = None;
                device.run(Convolve::<_, G, W, G> {
                    convolution,
                    input,
                    weight,
                    bias,
                    to,
                    epilogue,
                })
            },
            &|device, gradient, to, epilogue| {
                let (input, weight) = (D::Space::reborrow(gradient), D::Space::reborrow(weight));
                let bias = None;
                device.run(Convolve::<_, G, W, f32> {
                    convolution,
                    input,
                    weight,
                    bias,
                    to,
                    epilogue,
                })
            },
        )
        .map(Some)
    }

    fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        to.push(Piece::Parameter(&mut self.weight));
    }
}
