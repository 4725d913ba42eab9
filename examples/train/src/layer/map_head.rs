//! A head over a map: a convolution with a bias, from activations to results in f32 for each pixel.

use adaloss_core::format::{Element, Format, Narrowing};
use adaloss_hal::{
    Memory, Plain,
    network::{Convolution, Convolve},
};
use anyhow::Result;

use super::{
    Activation, Backward, Forward, Gradient, Machine, Parameter, Piece, Tensor,
    convolution::{filter_gradient, input_gradient, of_input, output_of},
    kept,
    linear::bias_gradient,
};

/// A convolution with a bias whose results are f32.
pub struct MapHead<D: Memory, W: Plain> {
    weight: Parameter<D, W>,
    bias: Parameter<D, W>,
    /// For one image of any size.
    shape: Convolution,
    input: Option<Activation<D, W>>,
}

impl<D: Memory, W: Element + Plain> MapHead<D, W> {
    /// Makes a head from its weight and its bias; `shape` is for images of any size.
    pub fn new(weight: Parameter<D, W>, bias: Parameter<D, W>, shape: Convolution) -> Self {
        Self { weight, bias, shape, input: None }
    }

    /// Returns the name of the weight.
    pub fn name(&self) -> &str {
        &self.weight.name
    }

    /// Computes the results of each pixel.
    pub fn forward<G: Element + Plain>(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Tensor<D, f32>>
    where
        D: Machine<W, G>,
    {
        let convolution = of_input(self.shape, input.shape());
        let mut results = Tensor::zeroed(run.device, output_of(convolution, input.shape())?)?;
        let epilogue = run.buffers.forward(Narrowing::to(Format::BINARY32));
        let (weight, to) = (self.weight.narrow()?, results.view_mut());
        let input_view = input.view();
        run.device.run(Convolve::<_, W, W, f32> {
            convolution,
            input: input_view,
            weight,
            bias: Some(self.bias.master.view()),
            to,
            epilogue,
        })?;
        self.input = run.training.then_some(input);
        Ok(results)
    }

    /// Takes the narrowed gradient of the results back.
    pub fn backward<G: Element + Plain>(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: &Gradient<D, G>,
    ) -> Result<Gradient<D, G>>
    where
        D: Machine<W, G>,
    {
        let input = kept(&mut self.input)?;
        let convolution = of_input(self.shape, input.shape());
        bias_gradient(run, &mut self.bias, gradient)?;
        filter_gradient(run, &mut self.weight, gradient, convolution, &input)?;
        let (weight, name) = (self.weight.narrow()?, &self.weight.name);
        input_gradient(run, name, gradient, (convolution, input.shape()), weight)
    }

    /// Appends weight and bias.
    pub fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        to.extend([&mut self.weight, &mut self.bias].map(Piece::Parameter));
    }
}
