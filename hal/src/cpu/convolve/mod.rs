//! Convolution and its two gradients, without a lowered copy of the images.
//!
//! A sum runs over a window of the source, which is a few runs of neighbouring elements.  The
//! kernel reads them where they lie in a widened part of the source (`window`): this is the matrix
//! product that lowering leads to, without the matrix.  The way back to the input is a convolution
//! again (`walk`); the gradient of the weight is a sum of outer products over the pixels.

mod bands;
mod sweep;
mod walk;
mod weight;
mod window;

use adaloss_core::format::Element;

use self::{sweep::Sweep, weight::WeightSums, window::Images};
use super::{Cpu, Sink};
use crate::{
    Epilogue, Plain,
    network::{Convolution, Convolve},
    portable::{PortableError, same_length},
};

impl<A, B, F> Convolve<A, B, F> for Cpu
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn convolve(
        &mut self,
        shape: Convolution,
        input: &[A],
        weight: &[B],
        to: &mut [F],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        let output = check(shape, input.len(), weight.len(), to.len())?;
        let sink = Sink::<F>::open(epilogue)?;
        let source = Images { elements: input, extent: shape.input, channels: shape.channels };
        Sweep::forward(shape, output).run(self, source, weight, to, &sink)
    }

    fn convolve_input(
        &mut self,
        shape: Convolution,
        gradient: &[A],
        weight: &[B],
        to: &mut [F],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        let output = check(shape, to.len(), weight.len(), gradient.len())?;
        let sink = Sink::<F>::open(epilogue)?;
        let source = Images { elements: gradient, extent: output, channels: shape.filters };
        Sweep::back(shape, output).run(self, source, weight, to, &sink)
    }

    fn convolve_weight(
        &mut self,
        shape: Convolution,
        gradient: &[A],
        input: &[B],
        to: &mut [F],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        let output = check(shape, input.len(), to.len(), gradient.len())?;
        let sink = Sink::<F>::open(epilogue)?;
        let input = Images { elements: input, extent: shape.input, channels: shape.channels };
        WeightSums::new(shape, output).run(self, gradient, input, to, &sink)
    }
}

/// Returns height and width of the output, where there is such a convolution and input, weight and
/// output have its elements.
fn check(
    shape: Convolution,
    input: usize,
    weight: usize,
    output: usize,
) -> Result<[usize; 2], PortableError> {
    let expected = shape.lengths();
    same_length("the input of a convolution", expected[0], input)?;
    same_length("the weight of a convolution", expected[1], weight)?;
    same_length("the output of a convolution", expected[2], output)?;
    let wrong = PortableError::Length {
        what: "the output of a convolution",
        expected: usize::MAX,
        found: output,
    };
    shape.output().ok_or(wrong)
}
