//! Convolution and its gradients, handed on.

use adaloss_core::format::Element;

use crate::{
    Epilogue, Mut, OperationKind, Plain, Ref,
    network::{Convolution, Convolve},
    wrap::{Hook, Shape, Wrapped},
};

impl<A, B, F, D, H> Convolve<A, B, F> for Wrapped<D, H>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Convolve<A, B, F>,
    H: Hook<D>,
{
    fn convolve(
        &mut self,
        shape: Convolution,
        input: Ref<'_, D, A>,
        weight: Ref<'_, D, B>,
        to: Mut<'_, D, F>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        let told = Shape::Convolution(shape);
        self.run_narrowing(OperationKind::Convolve, told, to, epilogue, |device, to, epilogue| {
            device.convolve(shape, input, weight, to, epilogue)
        })
    }

    fn convolve_input(
        &mut self,
        shape: Convolution,
        gradient: Ref<'_, D, A>,
        weight: Ref<'_, D, B>,
        to: Mut<'_, D, F>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        let told = Shape::Convolution(shape);
        self.run_narrowing(
            OperationKind::ConvolveInput,
            told,
            to,
            epilogue,
            |device, to, epilogue| device.convolve_input(shape, gradient, weight, to, epilogue),
        )
    }

    fn convolve_weight(
        &mut self,
        shape: Convolution,
        gradient: Ref<'_, D, A>,
        input: Ref<'_, D, B>,
        to: Mut<'_, D, F>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        let told = Shape::Convolution(shape);
        self.run_narrowing(
            OperationKind::ConvolveWeight,
            told,
            to,
            epilogue,
            |device, to, epilogue| device.convolve_weight(shape, gradient, input, to, epilogue),
        )
    }
}
