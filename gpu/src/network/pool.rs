//! Pooling and unpooling.

use adaloss_core::format::Element;
use adaloss_hal::{
    Epilogue, Fitting, Plain, Run,
    network::{
        AveragePool, AveragePoolInput, MaxPool, MaxPoolInput, Pick, Pooling as Shape, Unpool,
    },
};
use adaloss_kernels::network::{
    pool::{Pooling, Sum},
    sliding::Sliding,
};
use cudarc::driver::PushKernelArg;

use crate::{
    Cuda, Elements, ElementsMut, GpuError, GpuSpace, device::of, kernels::Parameter,
    narrow::named_epilogue,
};

/// Names windows along both axes of images as kernels do.
pub(super) fn sliding(
    extent: [usize; 2],
    count: Option<[usize; 2]>,
    size: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> Result<[Sliding; 2], GpuError> {
    // What fits has windows.
    let count = count.unwrap_or_default();
    for axis in 0..2 {
        let padded = extent[axis].saturating_add(padding[axis]);
        GpuError::extents(&[padded, count[axis], size[axis], stride[axis]])?;
    }
    Ok([0, 1].map(|axis| Sliding {
        extent: extent[axis],
        count: count[axis],
        size: size[axis],
        stride: stride[axis],
        padding: padding[axis],
    }))
}

fn named(of: Shape) -> Result<Parameter<Pooling>, GpuError> {
    let Shape { input, channels, window, stride, padding, .. } = of;
    let [rows, columns] = sliding(input, of.output(), window, stride, padding)?;
    Ok(Parameter(Pooling { channels, rows, columns }))
}

impl<E: Element + Plain> Run<MaxPool<'_, '_, GpuSpace, E>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, MaxPool<'_, '_, GpuSpace, E>>,
    ) -> Result<(), GpuError> {
        let MaxPool { pooling, input, to, indices } = operation.into_inner();
        let (pooling, first, input_count) = (named(*pooling)?, input.address(), input.count());
        let (to, count) = (to.shared().address(), to.shared().count());
        let (indices, kernel) = (indices.shared().address(), of::<E>(&self.kernels.max_pool));
        // SAFETY: the parameters are the entry point's; all that is named is borrowed and has its length: the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&pooling).arg(&first).arg(&input_count);
                launch.arg(&to).arg(&indices).arg(&count);
            })
        }
    }
}

impl<E: Element + Plain> Run<Unpool<'_, '_, GpuSpace, E>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unpool<'_, '_, GpuSpace, E>>,
    ) -> Result<(), GpuError> {
        let Unpool { pooling, input, indices, to } = operation.into_inner();
        self.clear(to.reborrow())?;
        let (pooling, first, input_count) = (named(*pooling)?, input.address(), input.count());
        let (to, count) = (to.shared().address(), to.shared().count());
        let (indices, kernel) = (indices.address(), of::<E>(&self.kernels.unpool));
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape(kernel, input_count), |launch| {
                launch.arg(&pooling).arg(&first).arg(&indices).arg(&input_count);
                launch.arg(&to).arg(&count);
            })
        }
    }
}

impl<E: Element + Plain> Run<Pick<'_, '_, GpuSpace, E>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Pick<'_, '_, GpuSpace, E>>,
    ) -> Result<(), GpuError> {
        let Pick { pooling, input, indices, to } = operation.into_inner();
        let (pooling, first, input_count) = (named(*pooling)?, input.address(), input.count());
        let (to, count) = (to.shared().address(), to.shared().count());
        let (indices, kernel) = (indices.address(), of::<E>(&self.kernels.pick));
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&pooling).arg(&first).arg(&input_count);
                launch.arg(&indices).arg(&to).arg(&count);
            })
        }
    }
}

impl<E: Element + Plain> Run<AveragePool<'_, '_, GpuSpace, E>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, AveragePool<'_, '_, GpuSpace, E>>,
    ) -> Result<(), GpuError> {
        let AveragePool { pooling, input, to, epilogue } = operation.into_inner();
        self.pool(*pooling, Sum::Average, *input, None, to, epilogue.reborrow())
    }
}

impl<E: Element + Plain> Run<AveragePoolInput<'_, '_, GpuSpace, E>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, AveragePoolInput<'_, '_, GpuSpace, E>>,
    ) -> Result<(), GpuError> {
        let AveragePoolInput { pooling, gradient, to, epilogue } = operation.into_inner();
        self.pool(*pooling, Sum::AverageInput, *gradient, None, to, epilogue.reborrow())
    }
}

impl<E: Element + Plain> Run<MaxPoolInput<'_, '_, GpuSpace, E>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, MaxPoolInput<'_, '_, GpuSpace, E>>,
    ) -> Result<(), GpuError> {
        let MaxPoolInput { pooling, gradient, indices, to, epilogue } = operation.into_inner();
        self.pool(*pooling, Sum::MaxInput, *gradient, Some(*indices), to, epilogue.reborrow())
    }
}

impl Cuda {
    /// Launches a pooling by sums, of operands that fit.
    fn pool<E: Element>(
        &self,
        shape: Shape,
        sum: Sum,
        input: Elements<'_, E>,
        indices: Option<Elements<'_, u32>>,
        to: &ElementsMut<'_, E>,
        epilogue: Epilogue<'_, GpuSpace>,
    ) -> Result<(), GpuError> {
        let (pooling, sum, first, input_count) =
            (named(shape)?, sum as u32, input.address(), input.count());
        let (to, count) = (to.shared().address(), to.shared().count());
        let (indices, epilogue) = (indices.map_or(0, Elements::address), named_epilogue(epilogue));
        let kernel = of::<E>(&self.kernels.pool);
        // SAFETY: the parameters are the entry point's; all that is named is borrowed and has its length, and the epilogue is for
        // these elements: the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&pooling).arg(&sum).arg(&first).arg(&input_count);
                launch.arg(&indices).arg(&to).arg(&count).arg(&epilogue);
            })
        }
    }
}
