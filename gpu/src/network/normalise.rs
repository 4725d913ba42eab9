//! Batch and layer normalisation.

use adaloss_core::format::Element;
use adaloss_hal::{
    Fitting, Plain, Run,
    network::{Axis, Moments, Normalisation, Normalise, NormaliseInput, NormaliseSums},
};
use adaloss_kernels::network::normalise::{self, Forward};
use cudarc::driver::PushKernelArg;

use super::operand;
use crate::{
    Cuda, Elements, GpuError, GpuSpace, device::of, kernels::Parameter, narrow::named_epilogue,
};

/// Names what is normalised as kernels do.
fn named<W: Element>(
    Normalisation { rows, columns, axis, epsilon }: Normalisation,
    input: Elements<'_, W>,
) -> normalise::Normalisation {
    let (over_rows, Parameter(input)) = (axis == Axis::Rows, operand(input));
    normalise::Normalisation { rows, columns, over_rows, epsilon, input }
}

/// Names an input and its moments as kernels do.
fn forward<W: Element>(
    normalisation: Normalisation,
    input: Elements<'_, W>,
    moments: Elements<'_, f32>,
) -> Parameter<Forward> {
    let of = named(normalisation, input);
    Parameter(Forward { of, moments: moments.address() as *const f32 })
}

impl<W: Element + Plain> Run<Moments<'_, '_, GpuSpace, W>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Moments<'_, '_, GpuSpace, W>>,
    ) -> Result<(), GpuError> {
        let Moments { normalisation, input, to } = operation.into_inner();
        let of = Parameter(named(*normalisation, *input));
        let (to, count) = (to.shared().address(), to.shared().count());
        let kernel = &self.kernels.moments;
        // SAFETY: the parameters are the entry point's; both are borrowed and have their lengths: the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, 2 * count), |launch| {
                launch.arg(&of).arg(&to).arg(&count);
            })
        }
    }
}

impl<W: Element + Plain> Run<Normalise<'_, '_, GpuSpace, W>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Normalise<'_, '_, GpuSpace, W>>,
    ) -> Result<(), GpuError> {
        let Normalise { normalisation, input, moments, affine, to, epilogue } =
            operation.into_inner();
        let (forward, affine) = (forward(*normalisation, *input, *moments), affine.address());
        let (to, count) = (to.shared().address(), to.shared().count());
        let epilogue = named_epilogue(epilogue.reborrow());
        let kernel = of::<W>(&self.kernels.normalise);
        // SAFETY: the parameters are the entry point's; all that is named is borrowed and has its length, and the epilogue is for
        // these elements: the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&forward).arg(&affine).arg(&to).arg(&count).arg(&epilogue);
            })
        }
    }
}

impl<G: Element + Plain, W: Element + Plain> Run<NormaliseSums<'_, '_, GpuSpace, G, W>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, NormaliseSums<'_, '_, GpuSpace, G, W>>,
    ) -> Result<(), GpuError> {
        let NormaliseSums { normalisation, gradient, input, moments, to } = operation.into_inner();
        let forward = forward(*normalisation, *input, *moments);
        let (gradient, to, count) =
            (operand(*gradient), to.shared().address(), to.shared().count());
        let kernel = &self.kernels.normalise_sums;
        // SAFETY: as for the moments.
        unsafe {
            self.launch(kernel, self.shape(kernel, 2 * count), |launch| {
                launch.arg(&forward).arg(&gradient).arg(&to).arg(&count);
            })
        }
    }
}

impl<G: Element + Plain, W: Element + Plain> Run<NormaliseInput<'_, '_, GpuSpace, G, W>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, NormaliseInput<'_, '_, GpuSpace, G, W>>,
    ) -> Result<(), GpuError> {
        let NormaliseInput { normalisation, gradient, input, moments, affine, sums, to, epilogue } =
            operation.into_inner();
        let forward = forward(*normalisation, *input, *moments);
        let (gradient, count) = (gradient.address(), gradient.count());
        let (affine, sums, to) = (affine.address(), sums.address(), to.shared().address());
        let epilogue = named_epilogue(epilogue.reborrow());
        let kernel = of::<G>(&self.kernels.normalise_input);
        // SAFETY: as for `Normalise`.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&forward).arg(&gradient).arg(&affine).arg(&sums);
                launch.arg(&to).arg(&count).arg(&epilogue);
            })
        }
    }
}
