//! Convolution and its two gradients, without a lowered copy of the images.
//!
//! A sum runs over a window of the source, which is a few runs of neighbouring elements.  The
//! kernel reads them where they lie in a widened part of the source (`window`): this is the matrix
//! product that lowering leads to, without the matrix.  The backward pass to the input is a convolution
//! again (`walk`); the gradient of the weight is a sum of outer products over the pixels.

mod bands;
mod sweep;
mod walk;
mod weight;
mod window;

use adaloss_core::format::Element;

use self::{sweep::Sweep, weight::WeightSums, window::Images};
use super::{Cpu, Sink};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Plain, Run,
    network::{Convolution, Convolve, ConvolveInput, ConvolveWeight},
};

impl<A, B, F> Run<Convolve<'_, '_, HostSpace, A, B, F>> for Cpu
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, Convolve<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let Convolve { convolution, input, weight, bias, to, epilogue } = operation.into_inner();
        let (shape, output) = (*convolution, extent(*convolution));
        let sink = Sink::<F>::open(epilogue.reborrow())?;
        let source = Images { elements: input, extent: shape.input, channels: shape.channels };
        Sweep::forward(shape, output).run(self, source, weight, *bias, to, &sink)
    }
}

impl<A, B, F> Run<ConvolveInput<'_, '_, HostSpace, A, B, F>> for Cpu
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, ConvolveInput<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let ConvolveInput { convolution, gradient, weight, to, epilogue } = operation.into_inner();
        let (shape, output) = (*convolution, extent(*convolution));
        let sink = Sink::<F>::open(epilogue.reborrow())?;
        let source = Images { elements: gradient, extent: output, channels: shape.filters };
        Sweep::back(shape, output).run(self, source, weight, None, to, &sink)
    }
}

impl<A, B, F> Run<ConvolveWeight<'_, '_, HostSpace, A, B, F>> for Cpu
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, ConvolveWeight<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let ConvolveWeight { convolution, gradient, input, to, epilogue } = operation.into_inner();
        let (shape, output) = (*convolution, extent(*convolution));
        let sink = Sink::<F>::open(epilogue.reborrow())?;
        let input = Images { elements: input, extent: shape.input, channels: shape.channels };
        WeightSums::new(shape, output).run(self, gradient, input, to, &sink)
    }
}

/// Returns height and width of the output of a convolution that there is.
fn extent(convolution: Convolution) -> [usize; 2] {
    convolution.output().unwrap_or_default()
}
