//! Dropout.

use adaloss_core::format::Element;
use adaloss_hal::{Fitting, Plain, Run, network::Dropout};
use adaloss_kernels::network::dropout;
use cudarc::driver::PushKernelArg;

use crate::{Cuda, GpuError, GpuSpace, device::of, kernels::Parameter, narrow::named_epilogue};

impl<E: Element + Plain> Run<Dropout<'_, '_, GpuSpace, E>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Dropout<'_, '_, GpuSpace, E>>,
    ) -> Result<(), GpuError> {
        let Dropout { mask, input, to, epilogue } = operation.into_inner();
        let mask = Parameter(dropout::Mask {
            below: mask.share.bits(),
            gain: mask.gain(),
            noise: mask.noise,
        });
        let (first, count, to) = (input.address(), input.count(), to.shared().address());
        let epilogue = named_epilogue(epilogue.reborrow());
        let kernel = of::<E>(&self.kernels.dropout);
        // SAFETY: the parameters are the entry point's; all that is named is borrowed, both tensors have so many elements, and
        // the epilogue is for theirs: the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&mask).arg(&first).arg(&count).arg(&to).arg(&epilogue);
            })
        }
    }
}
