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
    Cuda, Elements, ElementsMut, GpuError, GpuSpace, device::of, kernels::Parameter, matmul::start,
    narrow::named_epilogue,
};

/// Names a convolution as kernels do, and what its sums start at.
fn named(of: Shape, bias: Option<Elements<'_, f32>>) -> Result<Convolution, GpuError> {
    let Shape { batch, input, channels, filters, kernel, stride, padding, dilation, groups } = of;
    let [rows, columns] = sliding(input, of.output(), kernel, stride, padding)?;
    // What fits has a group.
    let groups = groups.max(1);
    let named = Convolution {
        batch,
        rows,
        columns,
        dilation,
        channels,
        filters,
        groups,
        channels_of_group: channels / groups,
        filters_of_group: filters / groups,
        bias: start(bias),
    };
    GpuError::extents(&named.counts())?;
    Ok(named)
}

/// Runs one direction of a convolution: an operation, its operands, and what it computes.
macro_rules! convolves {
    ($operation:ident, $a:ident, $b:ident $($bias:ident)?, $direction:ident) => {
        impl<A, B, F> Run<$operation<'_, '_, GpuSpace, A, B, F>> for Cuda
        where
            A: Element + Plain,
            B: Element + Plain,
            F: Element + Plain,
        {
            fn execute(
                &mut self,
                operation: Fitting<'_, $operation<'_, '_, GpuSpace, A, B, F>>,
            ) -> Result<(), GpuError> {
                let $operation { convolution, $a, $b, $($bias,)? to, epilogue } =
                    operation.into_inner();
                let (operands, bias) = ([operand(*$a), operand(*$b)], None$(.or(*$bias))?);
                let direction = Direction::$direction;
                self.convolve(*convolution, direction, operands, bias, to, epilogue.reborrow())
            }
        }
    };
}
convolves!(Convolve, input, weight bias, Output);
convolves!(ConvolveInput, gradient, weight, Input);
convolves!(ConvolveWeight, gradient, input, Weight);

impl Cuda {
    /// Launches a convolution of operands that fit.
    fn convolve<F: Element>(
        &self,
        shape: Shape,
        direction: Direction,
        [a, b]: [Parameter<Operand>; 2],
        bias: Option<Elements<'_, f32>>,
        to: &ElementsMut<'_, F>,
        epilogue: Epilogue<'_, GpuSpace>,
    ) -> Result<(), GpuError> {
        let convolution = named(shape, bias)?;
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
