//! Convolution, forward and back.

use adaloss_core::format::Element;
use adaloss_hal::{
    Epilogue, Fitting, Plain, Run,
    network::{Convolution as Shape, Convolve, ConvolveInput, ConvolveWeight},
};
use adaloss_kernels::network::{
    convolve::{Convolution, Direction},
    operand::Operand,
};
use cudarc::driver::PushKernelArg;

use super::{operand, pool::sliding};
use crate::{
    Cuda, ElementsMut, GpuError, GpuSpace, device::of, kernels::Parameter, narrow::named_epilogue,
};

fn named(of: Shape) -> Result<Convolution, GpuError> {
    let Shape { batch, input, channels, filters, kernel, stride, padding, groups } = of;
    let [rows, columns] = sliding(input, of.output(), kernel, stride, padding)?;
    // What fits has a group.
    let groups = groups.max(1);
    let named = Convolution {
        batch,
        rows,
        columns,
        channels,
        filters,
        groups,
        channels_of_group: channels / groups,
        filters_of_group: filters / groups,
    };
    GpuError::extents(&named.counts())?;
    Ok(named)
}

impl<A, B, F> Run<Convolve<'_, '_, GpuSpace, A, B, F>> for Cuda
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, Convolve<'_, '_, GpuSpace, A, B, F>>,
    ) -> Result<(), GpuError> {
        let Convolve { convolution, input, weight, to, epilogue } = operation.into_inner();
        let operands = [operand(*input), operand(*weight)];
        self.convolve(*convolution, Direction::Output, operands, to, epilogue.reborrow())
    }
}

impl<A, B, F> Run<ConvolveInput<'_, '_, GpuSpace, A, B, F>> for Cuda
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, ConvolveInput<'_, '_, GpuSpace, A, B, F>>,
    ) -> Result<(), GpuError> {
        let ConvolveInput { convolution, gradient, weight, to, epilogue } = operation.into_inner();
        let operands = [operand(*gradient), operand(*weight)];
        self.convolve(*convolution, Direction::Input, operands, to, epilogue.reborrow())
    }
}

impl<A, B, F> Run<ConvolveWeight<'_, '_, GpuSpace, A, B, F>> for Cuda
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, ConvolveWeight<'_, '_, GpuSpace, A, B, F>>,
    ) -> Result<(), GpuError> {
        let ConvolveWeight { convolution, gradient, input, to, epilogue } = operation.into_inner();
        let operands = [operand(*gradient), operand(*input)];
        self.convolve(*convolution, Direction::Weight, operands, to, epilogue.reborrow())
    }
}

impl Cuda {
    /// Launches a convolution of operands that fit.
    fn convolve<F: Element>(
        &self,
        shape: Shape,
        direction: Direction,
        [a, b]: [Parameter<Operand>; 2],
        to: &ElementsMut<'_, F>,
        epilogue: Epilogue<'_, GpuSpace>,
    ) -> Result<(), GpuError> {
        let convolution = named(shape)?;
        let tiles = convolution.tiles(direction);
        let (convolution, direction) = (Parameter(convolution), direction as u32);
        let (to, count) = (to.shared().address(), to.shared().count());
        let (epilogue, kernel) = (named_epilogue(epilogue), of::<F>(&self.kernels.convolve));
        // SAFETY: the parameters are the entry point's; all that is named is borrowed and has its length, and the epilogue is for
        // these elements: the operation fits.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                launch.arg(&convolution).arg(&direction).arg(&a).arg(&b);
                launch.arg(&to).arg(&count).arg(&epilogue);
            })
        }
    }
}
