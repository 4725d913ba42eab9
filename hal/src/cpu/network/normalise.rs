//! Batch and layer normalisation: the checks, and which of the two it is.

use adaloss_core::format::Element;

use super::{Cpu, Sink, batch, batch::Batch, layer, layer::Layer};
use crate::{
    Epilogue, Plain,
    network::{Axis, Normalisation, Normalise, Normalised},
    portable::{PortableError, same_length},
};

impl<W: Element + Plain, G: Element + Plain> Normalise<W, G> for Cpu {
    fn moments(
        &mut self,
        shape: Normalisation,
        input: &[W],
        to: &mut [f32],
    ) -> Result<(), PortableError> {
        check(shape, input.len(), to.len())?;
        let (means, variances) = to.split_at_mut(shape.groups());
        match shape.axis {
            Axis::Rows => batch::moments(self, shape, input, means, variances),
            Axis::Columns => layer::moments(self, shape, input, means, variances),
        }
        Ok(())
    }

    fn normalise(
        &mut self,
        shape: Normalisation,
        input: &[W],
        moments: &[f32],
        affine: &[f32],
        to: &mut [W],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        check(shape, input.len(), moments.len())?;
        same_length("the affine parameters", shape.affine(), affine.len())?;
        same_length("the output of a normalisation", shape.elements(), to.len())?;
        let sink = Sink::open(epilogue)?;
        match shape.axis {
            Axis::Rows => Batch::new(shape, moments).normalise(self, input, affine, to, &sink),
            Axis::Columns => Layer::new(shape, moments).normalise(self, input, affine, to, &sink),
        }
        Ok(())
    }

    fn normalise_sums(
        &mut self,
        shape: Normalisation,
        gradient: &[G],
        input: &[W],
        moments: &[f32],
        to: &mut [f32],
    ) -> Result<(), PortableError> {
        check(shape, input.len(), moments.len())?;
        same_length("the gradient of a normalisation", shape.elements(), gradient.len())?;
        same_length("the sums of a normalisation", shape.affine(), to.len())?;
        let sums = match shape.axis {
            Axis::Rows => Batch::new(shape, moments).sums(self, gradient, input),
            Axis::Columns => Layer::new(shape, moments).sums(self, gradient, input),
        };
        to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum as f32);
        Ok(())
    }

    fn normalise_input(
        &mut self,
        shape: Normalisation,
        gradient: &[G],
        forward: Normalised<&[W], &[f32]>,
        to: &mut [G],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        let Normalised { input, moments, affine, sums } = forward;
        check(shape, input.len(), moments.len())?;
        same_length("the gradient of a normalisation", shape.elements(), gradient.len())?;
        same_length("the affine parameters", shape.affine(), affine.len())?;
        same_length("the sums of a normalisation", shape.affine(), sums.len())?;
        same_length("the input gradient of a normalisation", shape.elements(), to.len())?;
        let sink = Sink::open(epilogue)?;
        match shape.axis {
            Axis::Rows => {
                Batch::new(shape, moments).input(self, [affine, sums], gradient, input, to, &sink);
            }
            Axis::Columns => {
                Layer::new(shape, moments).input(self, affine, gradient, input, to, &sink);
            }
        }
        Ok(())
    }
}

/// Checks the elements of an input and of its moments.
fn check(shape: Normalisation, input: usize, moments: usize) -> Result<(), PortableError> {
    same_length("the input of a normalisation", shape.elements(), input)?;
    same_length("the moments of a normalisation", shape.moments(), moments)
}
