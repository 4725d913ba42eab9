//! The rectifier, forward and back.

use adaloss_core::format::Element;
use adaloss_hal::{
    Fitting, Plain, Run,
    network::{Relu, ReluInput},
};
use adaloss_kernels::network::operand::Operand;
use cudarc::driver::PushKernelArg;

use crate::{Cuda, Elements, GpuError, GpuSpace, device::of, kernels::Parameter};

/// Names what is read as kernels do that are told its encoding.
pub(crate) fn operand<F: Element>(elements: Elements<'_, F>) -> Parameter<Operand> {
    Parameter(Operand::new(elements.address() as *const F))
}

impl<W: Element + Plain> Run<Relu<'_, GpuSpace, W>> for Cuda {
    fn execute(&mut self, operation: Fitting<'_, Relu<'_, GpuSpace, W>>) -> Result<(), GpuError> {
        let values = operation.into_inner().values.shared();
        let (first, count, kernel) =
            (values.address(), values.count(), of::<W>(&self.kernels.relu));
        // SAFETY: the parameters are the entry point's; the values are borrowed.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&first).arg(&count);
            })
        }
    }
}

impl<W: Element + Plain, G: Element + Plain> Run<ReluInput<'_, '_, GpuSpace, W, G>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, ReluInput<'_, '_, GpuSpace, W, G>>,
    ) -> Result<(), GpuError> {
        let ReluInput { output, gradient } = operation.into_inner();
        let (count, output) = (output.count(), operand(*output));
        let (gradient, kernel) = (gradient.shared().address(), of::<G>(&self.kernels.relu_input));
        // SAFETY: the parameters are the entry point's; both tensors are borrowed and have so many elements: the operation
        // fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&output).arg(&gradient).arg(&count);
            })
        }
    }
}
