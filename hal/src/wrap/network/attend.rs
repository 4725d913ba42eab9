//! Causal self-attention, handed on.

use adaloss_core::format::Element;

use crate::{
    Epilogue, Operation, Plain,
    network::{Attend, Attention},
    wrap::{Hook, Shape, Wrapped},
};

impl<W, G, D, H> Attend<W, G> for Wrapped<D, H>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Attend<W, G>,
    H: Hook<D>,
{
    fn attend(
        &mut self,
        shape: Attention,
        input: D::Ref<'_, W>,
        to: D::Mut<'_, W>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), H::Error> {
        let told = Shape::Attention(shape);
        self.run_narrowing(Operation::Attend, told, to, epilogue, |device, to, epilogue| {
            device.attend(shape, input, to, epilogue)
        })
    }

    fn attend_input(
        &mut self,
        shape: Attention,
        gradient: D::Ref<'_, G>,
        input: D::Ref<'_, W>,
        to: D::Mut<'_, G>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), H::Error> {
        let told = Shape::Attention(shape);
        self.run_narrowing(Operation::AttendInput, told, to, epilogue, |device, to, epilogue| {
            device.attend_input(shape, gradient, input, to, epilogue)
        })
    }
}
