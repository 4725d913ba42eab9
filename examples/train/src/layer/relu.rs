//! The rectifier, in place.

use std::rc::Rc;

use adaloss_core::format::Element;
use adaloss_hal::{Memory, Plain, network};
use anyhow::Result;

use super::{Activation, Backward, Forward, Gradient, Layer, Machine, Piece, own};

/// A rectifier; it rounds nothing and has no cell.
pub struct Relu<D: Memory, W: Plain> {
    output: Option<Activation<D, W>>,
}

impl<D: Memory, W: Plain> Relu<D, W> {
    /// Makes a rectifier.
    pub const fn new() -> Self {
        Self { output: None }
    }
}

impl<D: Memory, W: Plain> Default for Relu<D, W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D, W, G> Layer<D, W, G> for Relu<D, W>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    fn name(&self) -> &str {
        "relu"
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let mut values = own(input)?;
        run.device.run(network::Relu { values: values.view_mut() })?;
        let output = Rc::new(values);
        self.output = run.training.then(|| output.clone());
        Ok(output)
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let output = run.kept(&mut self.output)?;
        gradient
            .carry(|gradient| {
                let mut gradient = own(gradient)?;
                let (output, to) = (output.view(), gradient.view_mut());
                run.device.run(network::ReluInput { output, gradient: to })?;
                Ok(gradient)
            })
            .map(Some)
    }

    fn pieces<'a>(&'a mut self, _: &mut Vec<Piece<'a, D, W>>) {}
}
