//! Normalisation and its gradients, handed on.

use adaloss_core::format::Element;

use crate::{
    Epilogue, Mut, OperationKind, Plain, Ref,
    network::{Normalisation, Normalise, NormalisedOn},
    wrap::{Hook, Shape, Wrapped},
};

impl<W, G, D, H> Normalise<W, G> for Wrapped<D, H>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Normalise<W, G>,
    H: Hook<D>,
{
    fn moments(
        &mut self,
        shape: Normalisation,
        input: Ref<'_, D, W>,
        to: Mut<'_, D, f32>,
    ) -> Result<(), H::Error> {
        self.run_filling(OperationKind::Moments, Shape::Normalisation(shape), to, |device, to| {
            device.moments(shape, input, to)
        })
    }

    fn normalise(
        &mut self,
        shape: Normalisation,
        input: Ref<'_, D, W>,
        moments: Ref<'_, D, f32>,
        affine: Ref<'_, D, f32>,
        to: Mut<'_, D, W>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        let told = Shape::Normalisation(shape);
        self.run_narrowing(OperationKind::Normalise, told, to, epilogue, |device, to, epilogue| {
            device.normalise(shape, input, moments, affine, to, epilogue)
        })
    }

    fn normalise_sums(
        &mut self,
        shape: Normalisation,
        gradient: Ref<'_, D, G>,
        input: Ref<'_, D, W>,
        moments: Ref<'_, D, f32>,
        to: Mut<'_, D, f32>,
    ) -> Result<(), H::Error> {
        self.run_filling(
            OperationKind::NormaliseSums,
            Shape::Normalisation(shape),
            to,
            |device, to| device.normalise_sums(shape, gradient, input, moments, to),
        )
    }

    fn normalise_input(
        &mut self,
        shape: Normalisation,
        gradient: Ref<'_, D, G>,
        forward: NormalisedOn<'_, D, W>,
        to: Mut<'_, D, G>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        let told = Shape::Normalisation(shape);
        self.run_narrowing(
            OperationKind::NormaliseInput,
            told,
            to,
            epilogue,
            |device, to, epilogue| device.normalise_input(shape, gradient, forward, to, epilogue),
        )
    }
}
