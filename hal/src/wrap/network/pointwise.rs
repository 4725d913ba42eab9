//! The rectifier, handed on.

use adaloss_core::format::Element;

use crate::{
    Mut, OperationKind, Plain, Ref,
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
    fn relu(&mut self, values: Mut<'_, D, W>) -> Result<(), H::Error> {
        self.run_filling(OperationKind::Relu, None, values, |device, values| device.relu(values))
    }

    fn relu_input(
        &mut self,
        output: Ref<'_, D, W>,
        gradient: Mut<'_, D, G>,
    ) -> Result<(), H::Error> {
        self.run_filling(OperationKind::ReluInput, None, gradient, |device, gradient| {
            device.relu_input(output, gradient)
        })
    }
}
