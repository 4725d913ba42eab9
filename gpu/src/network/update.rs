//! Optimizers.

use adaloss_hal::{
    Fitting, Run,
    network::{AdamW, AdamWStep, Sgd, SgdStep, SquareNorm},
};
use adaloss_kernels::{
    network::update::{self, Step},
    sums::parts_of_elements,
};
use cudarc::driver::PushKernelArg;

use crate::{Cuda, Elements, ElementsMut, GpuError, GpuSpace, kernels::Parameter};

impl Run<SquareNorm<'_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, SquareNorm<'_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let SquareNorm { gradient, to } = operation.into_inner();
        let (first, count, sums) = (gradient.address(), gradient.count(), self.sums()?);
        let (kernel, parts) = (&self.kernels.square_norm, parts_of_elements(count));
        // SAFETY: the parameters are the entry point's; all that is named is borrowed, and the sum is one element: the
        // operation fits. The second launch waits for the first, whose parts have their room.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, parts), |launch| {
                launch.arg(&first).arg(&count).arg(&sums);
            })?;
            self.add_sums(sums, parts, 1, to.shared().address())
        }
    }
}

/// Names what an optimizer's step is given.
fn step(
    gradient: Elements<'_, f32>,
    square_norm: Elements<'_, f64>,
    weight: &ElementsMut<'_, f32>,
    max_norm: Option<f32>,
    when: Option<Elements<'_, u32>>,
) -> Parameter<Step> {
    Parameter(Step {
        count: gradient.count(),
        gradient: gradient.address() as *const f32,
        weight: weight.shared().address() as *mut f32,
        square_norm: square_norm.address() as *const f64,
        // No norm is greater.
        max_norm: max_norm.unwrap_or(f32::NAN),
        when: when.map_or(0, Elements::address) as *const u32,
    })
}

impl Run<SgdStep<'_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, SgdStep<'_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let SgdStep { sgd, gradient, square_norm, weight, momentum, when } = operation.into_inner();
        let Sgd { learning_rate, momentum: share, weight_decay, max_norm } = *sgd;
        let sgd = Parameter(crate::Sgd { learning_rate, momentum: share, weight_decay });
        let (step, count) =
            (step(*gradient, *square_norm, weight, max_norm, *when), gradient.count());
        let (kernel, momentum) = (&self.kernels.sgd_step, momentum.shared().address());
        // SAFETY: the parameters are the entry point's; all that is named is borrowed and has its length: the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&sgd).arg(&step).arg(&momentum);
            })
        }
    }
}

impl Run<AdamWStep<'_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, AdamWStep<'_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let AdamWStep { adamw, gradient, square_norm, update, weight, moments, when } =
            operation.into_inner();
        let AdamW { learning_rate, betas, epsilon, weight_decay, max_norm } = *adamw;
        let adamw = Parameter(update::AdamW { learning_rate, betas, epsilon, weight_decay });
        let (step, count) =
            (step(*gradient, *square_norm, weight, max_norm, *when), gradient.count());
        let (kernel, update) = (&self.kernels.adamw_step, update.address());
        let moments = moments.shared().address();
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&adamw).arg(&step).arg(&update).arg(&moments);
            })
        }
    }
}
