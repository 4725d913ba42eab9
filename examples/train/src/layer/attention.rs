//! Causal self-attention.

use adaloss_core::format::Element;
use adaloss_hal::{
    AddressSpace, Memory, Plain,
    network::{Attend, AttendInput, Attention},
};
use anyhow::Result;

use super::{Activation, Backward, Forward, Gradient, Layer, Machine, Piece, Shape, kept};

/// The attention itself, between the linear layers that make queries, keys and values and that mix
/// the heads.
pub struct SelfAttention<D: Memory, W: Plain> {
    name: String,
    heads: usize,
    input: Option<Activation<D, W>>,
}

impl<D: Memory, W: Plain> SelfAttention<D, W> {
    /// Makes the layer; its cell bears the name.
    pub fn new(name: String, heads: usize) -> Self {
        Self { name, heads, input: None }
    }

    fn shape_of(&self, input: Shape) -> Attention {
        Attention {
            batch: input.samples,
            tokens: input.height,
            heads: self.heads,
            width: input.channels / 3 / self.heads,
        }
    }
}

impl<D, W, G> Layer<D, W, G> for SelfAttention<D, W>
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
        let attention = self.shape_of(input.shape());
        let leaving = input.shape().with_channels(attention.heads * attention.width);
        let output = run.activation(leaving, |device, to, epilogue| {
            device.run(Attend::<_, W> { attention, input: input.view(), to, epilogue })
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
        let attention = self.shape_of(input.shape());
        run.layer(&self.name, &gradient, input.shape(), |device, gradient, to, epilogue| {
            let (gradient, input) = (D::Space::reborrow(gradient), input.view());
            device.run(AttendInput::<_, G, W> { attention, gradient, input, to, epilogue })
        })
        .map(Some)
    }

    fn pieces<'a>(&'a mut self, _: &mut Vec<Piece<'a, D, W>>) {}
}
