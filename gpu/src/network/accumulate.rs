//! Sums of f32 tensors.

use adaloss_hal::{
    Fitting, Run,
    network::{Accumulate, Blend},
};
use cudarc::driver::PushKernelArg;

use crate::{Cuda, Elements, GpuError, GpuSpace};

impl Run<Accumulate<'_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Accumulate<'_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let Accumulate { input, to } = operation.into_inner();
        let (first, columns) = (input.address(), input.count());
        let (to, count) = (to.shared().address(), to.shared().count());
        let kernel = &self.kernels.accumulate;
        // SAFETY: the parameters are the entry point's; both are borrowed, and one is rows of the other: the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&first).arg(&columns).arg(&to).arg(&count);
            })
        }
    }
}

impl Run<Blend<'_, '_, GpuSpace>> for Cuda {
    fn execute(&mut self, operation: Fitting<'_, Blend<'_, '_, GpuSpace>>) -> Result<(), GpuError> {
        let Blend { share, input, to, when } = operation.into_inner();
        let (first, count, to) = (input.address(), input.count(), to.shared().address());
        let (share, when) = (*share, when.map_or(0, Elements::address));
        let kernel = &self.kernels.blend;
        // SAFETY: the parameters are the entry point's; all that is named is borrowed, and both tensors have so many elements:
        // the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&share).arg(&first).arg(&count).arg(&to).arg(&when);
            })
        }
    }
}
