//! Causal self-attention, handed on.

use adaloss_core::format::Element;

use crate::{
    Epilogue, Mut, OperationKind, Plain, Ref,
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
        input: Ref<'_, D, W>,
        to: Mut<'_, D, W>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        let told = Shape::Attention(shape);
        self.run_narrowing(OperationKind::Attend, told, to, epilogue, |device, to, epilogue| {
            device.attend(shape, input, to, epilogue)
        })
    }

    fn attend_input(
        &mut self,
        shape: Attention,
        gradient: Ref<'_, D, G>,
        input: Ref<'_, D, W>,
        to: Mut<'_, D, G>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        let told = Shape::Attention(shape);
        self.run_narrowing(
            OperationKind::AttendInput,
            told,
            to,
            epilogue,
            |device, to, epilogue| device.attend_input(shape, gradient, input, to, epilogue),
        )
    }
}
