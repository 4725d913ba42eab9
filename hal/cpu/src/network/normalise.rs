//! Batch and layer normalisation: which of the two it is.

use adaloss_core::format::Element;

use super::{Cpu, Sink, batch, batch::Batch, layer, layer::Layer};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Plain, Run,
    network::{Axis, Moments, Normalise, NormaliseInput, NormaliseSums},
};

impl<W: Element + Plain> Run<Moments<'_, '_, HostSpace, W>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Moments<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Moments { normalisation, input, to } = operation.into_inner();
        let shape = *normalisation;
        let (means, variances) = to.split_at_mut(shape.groups());
        match shape.axis {
            Axis::Rows => batch::moments(self, shape, input, means, variances),
            Axis::Columns => layer::moments(self, shape, input, means, variances),
        }
        Ok(())
    }
}

impl<W: Element + Plain> Run<Normalise<'_, '_, HostSpace, W>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Normalise<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Normalise { normalisation, input, moments, affine, to, epilogue } =
            operation.into_inner();
        let shape = *normalisation;
        let sink = Sink::open(epilogue.reborrow())?;
        match shape.axis {
            Axis::Rows => Batch::new(shape, moments).normalise(self, input, affine, to, &sink),
            Axis::Columns => Layer::new(shape, moments).normalise(self, input, affine, to, &sink),
        }
        Ok(())
    }
}

impl<G, W> Run<NormaliseSums<'_, '_, HostSpace, G, W>> for Cpu
where
    G: Element + Plain,
    W: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, NormaliseSums<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let NormaliseSums { normalisation, gradient, input, moments, to } = operation.into_inner();
        let shape = *normalisation;
        let sums = match shape.axis {
            Axis::Rows => Batch::new(shape, moments).sums(self, gradient, input),
            Axis::Columns => Layer::new(shape, moments).sums(self, gradient, input),
        };
        to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum as f32);
        Ok(())
    }
}

impl<G, W> Run<NormaliseInput<'_, '_, HostSpace, G, W>> for Cpu
where
    G: Element + Plain,
    W: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, NormaliseInput<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let NormaliseInput { normalisation, gradient, input, moments, affine, sums, to, epilogue } =
            operation.into_inner();
        let shape = *normalisation;
        let sink = Sink::open(epilogue.reborrow())?;
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
