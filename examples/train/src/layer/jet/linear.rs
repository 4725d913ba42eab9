//! A linear layer for jets: one weight for all streams.

use adaloss_core::format::Element;
use adaloss_hal::{HasMatmul, Memory, Plain};
use anyhow::Result;

use super::{Jet, Stream};
use crate::layer::{
    Activation, Backward, Forward, Gradient, Machine, Parameter, Piece, Tensor, Term,
    linear::{activation, back, bias_gradient, fill, results},
};

/// A linear layer for jets.
pub struct JetLinear<D: Memory, W: Plain> {
    weight: Parameter<D, W>,
    bias: Parameter<D, W>,
    /// Inputs and outputs.
    sizes: [usize; 2],
}

impl<D: Memory<Error: Send + Sync + 'static>, W: Element + Plain> JetLinear<D, W> {
    /// Makes a layer of so many inputs and outputs.
    pub fn new(weight: Parameter<D, W>, bias: Parameter<D, W>, sizes: [usize; 2]) -> Self {
        Self { weight, bias, sizes }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.weight.name
    }

    /// Takes a jet forward.
    pub fn forward(
        &self,
        run: &mut Forward<'_, D>,
        inputs: &Jet<Activation<D, W>>,
    ) -> Result<Jet<Activation<D, W>>>
    where
        D: HasMatmul<W, W, W>,
    {
        inputs.try_map(|stream, input| {
            activation(run, &self.weight, self.bias_of(stream), self.sizes, input)
        })
    }

    /// Returns the results of some streams, in f32.
    pub fn results(
        &self,
        run: &mut Forward<'_, D>,
        inputs: &Jet<Activation<D, W>>,
        streams: &[Stream],
    ) -> Result<Vec<Tensor<D, f32>>>
    where
        D: HasMatmul<W, W, f32>,
    {
        let results = streams.iter().map(|&stream| {
            let bias = self.bias_of(stream);
            results(run, &self.weight, bias, self.sizes, inputs.need(stream)?)
        });
        results.collect()
    }

    /// Takes the gradients of some streams of the results back: fills those of weight and bias, as the next of all jets that go through
    /// the layer.
    ///
    /// Returns the gradients of the inputs; none of the first layer. Cells are named after `pass` and the layer.
    pub fn backward<G>(
        &mut self,
        run: &mut Backward<'_, D>,
        pass: &str,
        gradients: &Jet<Gradient<D, G>>,
        inputs: &Jet<Activation<D, W>>,
        is_first: bool,
    ) -> Result<Option<Jet<Gradient<D, G>>>>
    where
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let Self { weight, bias, sizes } = self;
        let count = gradients.iter().count();
        for (nth, (stream, gradient)) in gradients.iter().enumerate() {
            let term = Term { is_first: nth == 0, is_last: nth + 1 == count };
            fill(run, weight, *sizes, gradient, inputs.need(stream)?, term)?;
        }
        bias_gradient(run, bias, gradients.need(Stream::Value)?)?;
        if is_first {
            return Ok(None);
        }
        let leaving = gradients.try_map(|stream, gradient| {
            let name = format!("{pass}.{}{}", weight.name, stream.suffix());
            back(run, &name, weight, *sizes, gradient, inputs.need(stream)?.shape())
        });
        leaving.map(Some)
    }

    /// Appends weight and bias.
    pub fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        to.extend([&mut self.weight, &mut self.bias].map(Piece::Parameter));
    }

    /// Returns the bias, which is a constant that no derivative has.
    fn bias_of(&self, stream: Stream) -> Option<&Parameter<D, W>> {
        (stream == Stream::Value).then_some(&self.bias)
    }
}
