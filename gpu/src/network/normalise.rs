//! Batch and layer normalisation.

use adaloss_core::format::Element;
use adaloss_hal::{
    Fitting, Plain, Run,
    network::{Axis, Moments, Normalisation, Normalise, NormaliseInput, NormaliseSums},
};
use adaloss_kernels::{
    block::WARP,
    network::{
        columns::Columns,
        normalise::{self, Forward},
    },
};
use cudarc::driver::PushKernelArg;

use super::operand;
use crate::{
    Cuda, Elements, GpuError, GpuSpace,
    device::of,
    kernels::{Parameter, THREADS},
    narrow::named_epilogue,
};

/// Names what is normalised as kernels do.
fn named<W: Element>(
    Normalisation { rows, columns, axis, centred, epsilon }: Normalisation,
    input: Elements<'_, W>,
) -> normalise::Normalisation {
    let (over_rows, Parameter(input)) = (axis == Axis::Rows, operand(input));
    normalise::Normalisation { rows, columns, over_rows, centred, epsilon, input }
}

/// Returns the extents of what is normalised, and for how many blocks there is work: a tile of columns each, or a row for each
/// warp.
fn extents(Normalisation { rows, columns, axis, .. }: Normalisation) -> (Columns, usize) {
    let extents = Columns { rows, columns };
    let warps = (THREADS / WARP) as usize;
    let blocks = if axis == Axis::Rows { extents.blocks() } else { rows.div_ceil(warps) };
    (extents, blocks)
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
        let (parts, of) = (self.sums()?, Parameter(named(*normalisation, *input)));
        let (to, count) = (to.shared().address(), to.shared().count());
        let (extents, blocks) = extents(*normalisation);
        let kernel = &self.kernels.moments;
        // SAFETY: the parameters are the entry points'; both are borrowed and have their lengths: the operation fits. The second
        // launch waits for the first, and the parts of two sums have their room.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, blocks), |launch| {
                launch.arg(&of).arg(&parts).arg(&to).arg(&count);
            })?;
            if normalisation.axis == Axis::Rows && extents.parts() > 1 {
                let kernel = &self.kernels.moments_of_parts;
                let shape = self.shape_of_parts(kernel, extents.last_blocks());
                self.launch(kernel, shape, |launch| {
                    launch.arg(&of).arg(&parts).arg(&to).arg(&count);
                })?;
            }
        }
        Ok(())
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
        let (parts, forward) = (self.sums()?, forward(*normalisation, *input, *moments));
        let (gradient, to, count) =
            (operand(*gradient), to.shared().address(), to.shared().count());
        let Normalisation { rows, columns, .. } = *normalisation;
        let extents = Columns { rows, columns };
        let kernel = &self.kernels.normalise_sums;
        // SAFETY: as for the moments.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, extents.blocks()), |launch| {
                launch.arg(&forward).arg(&gradient).arg(&parts).arg(&to).arg(&count);
            })?;
            if extents.parts() > 1 {
                let kernel = &self.kernels.sums_of_parts;
                let shape = self.shape_of_parts(kernel, extents.last_blocks());
                let of = Parameter(extents);
                self.launch(kernel, shape, |launch| {
                    launch.arg(&of).arg(&parts).arg(&to).arg(&count);
                })?;
            }
        }
        Ok(())
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
        let shape = match normalisation.axis {
            Axis::Rows => self.shape(kernel, count),
            Axis::Columns => self.shape_of_parts(kernel, extents(*normalisation).1),
        };
        // SAFETY: as for `Normalise`.
        unsafe {
            self.launch(kernel, shape, |launch| {
                launch.arg(&forward).arg(&gradient).arg(&affine).arg(&sums);
                launch.arg(&to).arg(&count).arg(&epilogue);
            })
        }
    }
}
