//! The loss and its gradient.

use adaloss_hal::{Fitting, Run, network::SoftmaxCrossEntropy};
use adaloss_kernels::network::loss::Loss;
use cudarc::driver::PushKernelArg;

use crate::{Cuda, Elements, GpuError, GpuSpace, kernels::Parameter};

impl Run<SoftmaxCrossEntropy<'_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, SoftmaxCrossEntropy<'_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let SoftmaxCrossEntropy { classes, logits, labels, weights, gradient, sum } =
            operation.into_inner();
        let (rows, sums, sum) = (labels.count(), self.sums()?, sum.shared().address());
        let loss = Loss {
            rows,
            classes: *classes,
            logits: logits.address() as *const f32,
            labels: labels.address() as *const u32,
            weights: weights.map_or(0, Elements::address) as *const f32,
            gradient: gradient.shared().address() as *mut f32,
            sum: sum as *mut _,
            parts: sums as *mut f64,
        };
        let (parts, loss) = (loss.parts(), Parameter(loss));
        // SAFETY: the parameters are the entry points'; all that is named is borrowed and has its length: the operation fits.
        // Each launch waits for the one before it, and the parts of two sums have their room.
        unsafe {
            for kernel in [&self.kernels.loss_weights, &self.kernels.softmax_cross_entropy] {
                let shape = self.shape_of_parts(kernel, parts);
                self.launch(kernel, shape, |launch| {
                    launch.arg(&loss);
                })?;
            }
            // Loss and weight are the first two fields of the sum.
            self.add_sums(sums, parts, 2, sum)
        }
    }
}

impl Cuda {
    /// Adds to numbers the sums that are there in so many parts each.
    ///
    /// # Safety
    ///
    /// The parts are at the address, and so many numbers at `to`, which nothing else names.
    pub(super) unsafe fn add_sums(
        &self,
        sums: u64,
        parts: usize,
        count: usize,
        to: u64,
    ) -> Result<(), GpuError> {
        let kernel = &self.kernels.add_sums;
        // SAFETY: the parameters are the entry point's; the rest is the caller's promise.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, 1), |launch| {
                launch.arg(&sums).arg(&parts).arg(&count).arg(&to);
            })
        }
    }
}
