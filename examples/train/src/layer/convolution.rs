//! Convolutional layers.

use adaloss_core::format::Element;
use adaloss_hal::{
    AddressSpace, Memory, Plain, Ref,
    network::{Convolution, Convolve, ConvolveInput, ConvolveWeight},
};
use anyhow::{Context, Result};

use super::{
    Activation, Backward, Forward, Gradient, Layer, Machine, Parameter, Piece, ProductOperands,
    Shape, Tensor, kept, linear::bias_gradient, statistics,
};

/// A convolutional layer.
pub struct Convolutional<D: Memory, W: Plain> {
    weight: Parameter<D, W>,
    /// None where a normalisation follows.
    bias: Option<Parameter<D, W>>,
    /// For one image of any size.
    shape: Convolution,
    /// Whether it is the first layer: the gradient of its input is not computed.
    is_first: bool,
    input: Option<Activation<D, W>>,
}

impl<D: Memory, W: Plain> Convolutional<D, W> {
    /// Makes a layer from its weight; `shape` is for images of any size.
    pub fn new(weight: Parameter<D, W>, shape: Convolution) -> Self {
        Self { weight, bias: None, shape, is_first: false, input: None }
    }

    /// Adds a bias, one element per filter.
    pub fn with_bias(self, bias: Parameter<D, W>) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// Makes the layer the first one, for whose input no gradient is computed.
    pub fn first(self) -> Self {
        Self { is_first: true, ..self }
    }
}

impl<D, W, G> Layer<D, W, G> for Convolutional<D, W>
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
        let convolution = of_input(self.shape, input.shape());
        let leaving = output_of(convolution, input.shape())?;
        let weight = self.weight.narrow()?;
        let bias = self.bias.as_ref().map(|bias| bias.master.view());
        let output = run.activation(leaving, |device, to, epilogue| {
            let input = input.view();
            device.run(Convolve::<_, W, W, W> { convolution, input, weight, bias, to, epilogue })
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
        let convolution = of_input(self.shape, input.shape());
        filter_gradient(run, &mut self.weight, &gradient, convolution, &input)?;
        if let Some(bias) = &mut self.bias {
            bias_gradient(run, bias, &gradient)?;
        }
        if self.is_first {
            return Ok(None);
        }
        let (weight, name) = (self.weight.narrow()?, &self.weight.name);
        let leaving = input.shape();
        drop(input); // not needed any more
        input_gradient(run, name, &gradient, (convolution, leaving), weight).map(Some)
    }

    fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        to.push(Piece::Parameter(&mut self.weight));
        to.extend(self.bias.as_mut().map(Piece::Parameter));
    }
}

/// Returns the convolution of images of one shape.
pub(super) fn of_input(shape: Convolution, input: Shape) -> Convolution {
    Convolution { batch: input.samples, input: input.extent(), ..shape }
}

/// Returns the shape of what leaves a convolution.
pub(super) fn output_of(convolution: Convolution, input: Shape) -> Result<Shape> {
    let extent = convolution.output().with_context(|| {
        format!("the convolution {convolution} has no output: its kernel exceeds the padded image")
    })?;
    Ok(input.with_extent(extent).with_channels(convolution.filters))
}

/// Fills the gradient of filters.
pub(super) fn filter_gradient<D, W, G>(
    run: &mut Backward<'_, D>,
    weight: &mut Parameter<D, W>,
    gradient: &Gradient<D, G>,
    convolution: Convolution,
    input: &Tensor<D, W>,
) -> Result<()>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    run.weight_gradient(weight, gradient, |device, gradient, to, epilogue| {
        device.run(ConvolveWeight::<_, G, W, f32> {
            convolution,
            gradient: D::Space::reborrow(gradient),
            input: input.view(),
            to,
            epilogue,
        })
    })
}

/// Takes a gradient back through a convolution, to an input of a shape.
pub(super) fn input_gradient<D, W, G>(
    run: &mut Backward<'_, D>,
    name: &str,
    gradient: &Gradient<D, G>,
    (convolution, leaving): (Convolution, Shape),
    weight: Ref<'_, D, W>,
) -> Result<Gradient<D, G>>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    let describe = |device: &mut D, gradient: &Tensor<D, G>, when: Option<Ref<'_, D, u32>>| {
        Ok(ProductOperands {
            gradient: statistics(device, gradient.view(), when)?,
            weight: statistics(device, D::Space::reborrow(weight), when)?,
            fan_in: convolution.fan_out() as u32,
        })
    };
    run.product(
        name,
        gradient,
        leaving,
        &describe,
        &|device, gradient, to, epilogue| {
            let (gradient, weight) = (D::Space::reborrow(gradient), D::Space::reborrow(weight));
            device.run(ConvolveInput::<_, G, W, G> { convolution, gradient, weight, to, epilogue })
        },
        &|device, gradient, to, epilogue| {
            let (gradient, weight) = (D::Space::reborrow(gradient), D::Space::reborrow(weight));
            device.run(ConvolveInput::<_, G, W, f32> {
                convolution,
                gradient,
                weight,
                to,
                epilogue,
            })
        },
    )
}
