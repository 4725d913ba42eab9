//! The corridor as launches.

use adaloss_core::{
    format::{Element, Narrowing, Noise},
    policy::Cell,
    unscale::Unscaled,
};
use adaloss_hal::{Branch, Epilogue, Fitting, Narrow, Plain, Propagate, Run, Summarise, Unscale};
use adaloss_kernels::{
    epilogue, propagate,
    unscale::{Gradient, Into},
};
use cudarc::driver::PushKernelArg;

use crate::{Cuda, Elements, ElementsMut, GpuError, GpuSpace, device::of, kernels::Parameter};

/// Elements that are read flush nothing: the GPU has subnormals.
pub(crate) const GRADUAL: u32 = 0;

/// Names the memory of the epilogue of an operation that fits as kernels do.
pub(crate) fn named_epilogue(of: Epilogue<'_, GpuSpace>) -> Parameter<epilogue::Epilogue> {
    let Epilogue { from, to, narrowing, noise, stores, when, outcome, histogram } = of;
    Parameter(epilogue::Epilogue {
        from: from.address() as *const Cell,
        to: to.address() as *const Cell,
        narrowing,
        noise,
        stores,
        when: when.map_or(0, Elements::address) as *const u32,
        outcome: outcome.shared().address() as *mut _,
        histogram: histogram.map_or(0, |histogram| histogram.shared().address()) as *mut _,
    })
}

impl Cuda {
    /// Widens elements to f32, which is exact: a conversion by itself, without a scale and without counts.
    ///
    /// # Errors
    ///
    /// The lengths differ, or the driver refuses.
    pub fn widen<F: Element + Plain>(
        &mut self,
        from: Elements<'_, F>,
        to: ElementsMut<'_, f32>,
    ) -> Result<(), GpuError> {
        let (first, count) = (from.address(), from.count());
        GpuError::length("the widened tensor", count, to.shared().count())?;
        let (kernel, to) = (of::<F>(&self.kernels.widen), to.shared().address());
        // SAFETY: the parameters are the entry point's; both tensors are borrowed, and have their lengths.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&GRADUAL).arg(&first).arg(&count).arg(&to);
            })
        }
    }

    /// Narrows f32 values, each rounded once: a conversion by itself, without a scale and without counts.
    ///
    /// What becomes of values beyond the format, of NaN and of subnormals, `narrowing` says. Stochastic rounding takes
    /// the words of `noise`, by the places of the elements.
    ///
    /// # Errors
    ///
    /// The lengths differ, `narrowing` is to another encoding than that of the elements, or the driver refuses.
    pub fn narrow<F: Element + Plain>(
        &mut self,
        from: Elements<'_, f32>,
        to: ElementsMut<'_, F>,
        narrowing: Narrowing,
        noise: Noise,
    ) -> Result<(), GpuError> {
        let (first, count) = (from.address(), from.count());
        GpuError::length("the narrowed tensor", count, to.shared().count())?;
        let (asked, given) = (narrowing.format.encoding, F::ENCODING);
        if asked != given {
            return Err(GpuError::Encoding { asked, given });
        }
        let (kernel, to) = (of::<F>(&self.kernels.narrow), to.shared().address());
        let (narrowing, noise) = (Parameter(narrowing), Parameter(noise));
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&first).arg(&count).arg(&to).arg(&narrowing).arg(&noise);
            })
        }
    }
}

impl<F: Element + Plain> Run<Summarise<'_, '_, GpuSpace, F>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Summarise<'_, '_, GpuSpace, F>>,
    ) -> Result<(), GpuError> {
        let Summarise { input, to, when } = operation.into_inner();
        let (first, count, to) = (input.address(), input.count(), to.shared().address());
        let when = when.map_or(0, Elements::address);
        let kernel = of::<F>(&self.kernels.statistics);
        // SAFETY: the parameters are the entry point's; both are borrowed, and the statistics are one element: the operation
        // fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&GRADUAL).arg(&first).arg(&count).arg(&to).arg(&when);
            })
        }
    }
}

impl<F: Element + Plain> Run<Narrow<'_, '_, GpuSpace, F>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Narrow<'_, '_, GpuSpace, F>>,
    ) -> Result<(), GpuError> {
        let Narrow { input, to, epilogue } = operation.into_inner();
        let (first, count, to) = (input.address(), input.count(), to.shared().address());
        let epilogue = named_epilogue(epilogue.reborrow());
        let kernel = of::<F>(&self.kernels.apply);
        // SAFETY: the parameters are the entry point's; all that is named is borrowed, both tensors have so many elements, and
        // the epilogue is for theirs: the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&first).arg(&count).arg(&to).arg(&epilogue);
            })
        }
    }
}

impl<F: Element + Plain> Run<Propagate<'_, '_, GpuSpace, F>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Propagate<'_, '_, GpuSpace, F>>,
    ) -> Result<(), GpuError> {
        let Propagate { branches, to, epilogue } = operation.into_inner();
        let (count, branch_count) = (to.shared().count(), branches.len() as u32);
        if branches.len() > Self::MOST_BRANCHES {
            return Err(GpuError::Branches { count: branches.len() });
        }
        let named = branches.iter().map(|Branch { gradient, cell }| propagate::Branch {
            gradient: gradient.address() as *const F,
            cell: cell.address() as *const Cell,
        });
        let (epilogue, to) = (named_epilogue(epilogue.reborrow()), to.shared().address());
        let table = self.bring(&named.collect::<Vec<_>>())?;
        let kernel = of::<F>(&self.kernels.propagate);
        // SAFETY: as in `Narrow`; each branch has as many elements, and one cell.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&table).arg(&branch_count).arg(&count).arg(&to).arg(&epilogue);
            })
        }
    }
}

impl<F: Element + Plain> Run<Unscale<'_, '_, GpuSpace, F>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unscale<'_, '_, GpuSpace, F>>,
    ) -> Result<(), GpuError> {
        let Unscale { gradient, cell, to, counts } = operation.into_inner();
        let count = gradient.count();
        let gradient = Gradient {
            from: gradient.address() as *const F,
            to: to.shared().address() as *mut f32,
            count,
            cell: cell.address() as *const Cell,
            met: counts.shared().address() as *mut Unscaled,
        };
        let (gradient, how, bad) = (Parameter(gradient), Into::Place as u32, 0_u64);
        let kernel = of::<F>(&self.kernels.unscale);
        // SAFETY: the parameters are the entry point's; all that is named is borrowed, both tensors have so many elements, cell
        // and counts are one each: the operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&GRADUAL).arg(&gradient).arg(&how).arg(&bad);
            })
        }
    }
}
