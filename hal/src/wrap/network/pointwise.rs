//! The rectifier, handed on.

use adaloss_core::format::Element;

use crate::{
    Operation, Plain,
    network::Pointwise,
    wrap::{Hook, Wrapped},
};

impl<W, G, D, H> Pointwise<W, G> for Wrapped<D, H>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Pointwise<W, G>,
    H: Hook<D>,
{
    fn relu(&mut self, values: D::Mut<'_, W>) -> Result<(), H::Error> {
        self.run_filling(Operation::Relu, None, values, |device, values| device.relu(values))
    }

    fn relu_input(
        &mut self,
        output: D::Ref<'_, W>,
        gradient: D::Mut<'_, G>,
    ) -> Result<(), H::Error> {
        self.run_filling(Operation::ReluInput, None, gradient, |device, gradient| {
            device.relu_input(output, gradient)
        })
    }
}
