//! Normalisation and its gradients, handed on.

use adaloss_core::format::Element;

use crate::{
    Epilogue, Operation, Plain,
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
        input: D::Ref<'_, W>,
        to: D::Mut<'_, f32>,
    ) -> Result<(), H::Error> {
        self.run_filling(Operation::Moments, Shape::Normalisation(shape), to, |device, to| {
            device.moments(shape, input, to)
        })
    }

    fn normalise(
        &mut self,
        shape: Normalisation,
        input: D::Ref<'_, W>,
        moments: D::Ref<'_, f32>,
        affine: D::Ref<'_, f32>,
        to: D::Mut<'_, W>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), H::Error> {
        let told = Shape::Normalisation(shape);
        self.run_narrowing(Operation::Normalise, told, to, epilogue, |device, to, epilogue| {
            device.normalise(shape, input, moments, affine, to, epilogue)
        })
    }

    fn normalise_sums(
        &mut self,
        shape: Normalisation,
        gradient: D::Ref<'_, G>,
        input: D::Ref<'_, W>,
        moments: D::Ref<'_, f32>,
        to: D::Mut<'_, f32>,
    ) -> Result<(), H::Error> {
        self.run_filling(Operation::NormaliseSums, Shape::Normalisation(shape), to, |device, to| {
            device.normalise_sums(shape, gradient, input, moments, to)
        })
    }

    fn normalise_input(
        &mut self,
        shape: Normalisation,
        gradient: D::Ref<'_, G>,
        forward: NormalisedOn<'_, D, W>,
        to: D::Mut<'_, G>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), H::Error> {
        let told = Shape::Normalisation(shape);
        self.run_narrowing(Operation::NormaliseInput, told, to, epilogue, |device, to, epilogue| {
            device.normalise_input(shape, gradient, forward, to, epilogue)
        })
    }
}
