//! Causal attention, forward and back.

use adaloss_core::format::Element;
use adaloss_hal::{
    Fitting, Plain, Run,
    network::{Attend, AttendInput, Attention as Shape},
};
use adaloss_kernels::network::attend::Attention;
use cudarc::driver::PushKernelArg;

use super::operand;
use crate::{
    Cuda, Elements, GpuError, GpuSpace, device::of, kernels::Parameter, narrow::named_epilogue,
};

fn named<W: Element>(
    Shape { tokens, heads, width, .. }: Shape,
    input: Elements<'_, W>,
) -> Parameter<Attention> {
    let Parameter(input) = operand(input);
    Parameter(Attention { tokens, heads, width, input })
}

impl<W: Element + Plain> Run<Attend<'_, '_, GpuSpace, W>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Attend<'_, '_, GpuSpace, W>>,
    ) -> Result<(), GpuError> {
        let Attend { attention, input, to, epilogue } = operation.into_inner();
        let (attention, epilogue) =
            (named(*attention, *input), named_epilogue(epilogue.reborrow()));
        let (to, count) = (to.shared().address(), to.shared().count());
        let kernel = of::<W>(&self.kernels.attend);
        // SAFETY: the parameters are the entry point's; all that is named is borrowed and has its length, and the epilogue is for
        // these elements: the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&attention).arg(&to).arg(&count).arg(&epilogue);
            })
        }
    }
}

impl<G: Element + Plain, W: Element + Plain> Run<AttendInput<'_, '_, GpuSpace, G, W>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, AttendInput<'_, '_, GpuSpace, G, W>>,
    ) -> Result<(), GpuError> {
        let AttendInput { attention, gradient, input, to, epilogue } = operation.into_inner();
        let (attention, epilogue) =
            (named(*attention, *input), named_epilogue(epilogue.reborrow()));
        let (first, gradient_count) = (gradient.address(), gradient.count());
        let (to, count) = (to.shared().address(), to.shared().count());
        let kernel = of::<G>(&self.kernels.attend_input);
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&attention).arg(&first).arg(&gradient_count);
                launch.arg(&to).arg(&count).arg(&epilogue);
            })
        }
    }
}
