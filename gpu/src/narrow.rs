//! The corridor as launches: shapes and formats are checked here, where nothing has been written.

use adaloss_core::{
    format::{Element, Narrowing, Noise},
    policy::Cell,
    statistics::Statistics,
    unscale::Unscaled,
};
use adaloss_hal::{Branch, Epilogue, Narrow, Plain};
use adaloss_kernels::{
    epilogue, propagate,
    unscale::{Gradient, Into},
};
use cudarc::driver::PushKernelArg;

use crate::{Cuda, Elements, ElementsMut, GpuError, GpuSpace, device::of, kernels::Parameter};

/// Elements that are read flush nothing: the GPU has subnormals.
pub(crate) const GRADUAL: u32 = 0;

/// Refuses to narrow to another encoding than that of the elements.
fn same_encoding<F: Element>(narrowing: Narrowing) -> Result<(), GpuError> {
    let (asked, given) = (narrowing.format.encoding, F::ENCODING);
    if asked == given { Ok(()) } else { Err(GpuError::Encoding { asked, given }) }
}

/// Checks an epilogue, and names its memory as kernels do.
pub(crate) fn checked<F: Element>(
    of: Epilogue<'_, GpuSpace>,
) -> Result<Parameter<epilogue::Epilogue>, GpuError> {
    let Epilogue { from, to, narrowing, noise, stores, outcome, histogram } = of;
    same_encoding::<F>(narrowing)?;
    let histogram = histogram.map(|histogram| histogram.shared().one("a histogram")).transpose()?;
    Ok(Parameter(epilogue::Epilogue {
        from: from.one("the cell that results come from")? as *const Cell,
        to: to.one("the cell that results go to")? as *const Cell,
        narrowing,
        noise,
        stores,
        outcome: outcome.shared().one("an outcome")? as *mut _,
        histogram: histogram.unwrap_or(0) as *mut _,
    }))
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
        same_encoding::<F>(narrowing)?;
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

impl<F: Element + Plain> Narrow<F> for Cuda {
    fn statistics(
        &mut self,
        values: Elements<'_, F>,
        to: ElementsMut<'_, Statistics>,
    ) -> Result<(), GpuError> {
        let (first, count) = (values.address(), values.count());
        let to = to.shared().one("statistics")?;
        let kernel = of::<F>(&self.kernels.statistics);
        // SAFETY: the parameters are the entry point's; both are named by whoever called.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&GRADUAL).arg(&first).arg(&count).arg(&to);
            })
        }
    }

    fn apply(
        &mut self,
        values: Elements<'_, f32>,
        to: ElementsMut<'_, F>,
        epilogue: Epilogue<'_, GpuSpace>,
    ) -> Result<(), GpuError> {
        let (first, count) = (values.address(), values.count());
        GpuError::length("the narrowed tensor", count, to.shared().count())?;
        let (epilogue, to) = (checked::<F>(epilogue)?, to.shared().address());
        let kernel = of::<F>(&self.kernels.apply);
        // SAFETY: as above, and what the epilogue names is borrowed by it.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&first).arg(&count).arg(&to).arg(&epilogue);
            })
        }
    }

    fn propagate(
        &mut self,
        branches: &[Branch<Elements<'_, F>, Elements<'_, Cell>>],
        to: ElementsMut<'_, F>,
        epilogue: Epilogue<'_, GpuSpace>,
    ) -> Result<(), GpuError> {
        let (count, branch_count) = (to.shared().count(), branches.len() as u32);
        if !(1..=Self::MOST_BRANCHES).contains(&branches.len()) {
            return Err(GpuError::Branches { count: branches.len() });
        }
        let named = branches.iter().map(|Branch { gradient, cell }| {
            GpuError::length("a branch of a join", count, gradient.count())?;
            let cell = cell.one("the cell of a branch")? as *const Cell;
            Ok(propagate::Branch { gradient: gradient.address() as *const F, cell })
        });
        let named = named.collect::<Result<Vec<_>, GpuError>>()?;
        let (epilogue, to) = (checked::<F>(epilogue)?, to.shared().address());
        let table = self.bring(&named)?;
        let kernel = of::<F>(&self.kernels.propagate);
        // SAFETY: as above; the branches have their lengths.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&table).arg(&branch_count).arg(&count).arg(&to).arg(&epilogue);
            })
        }
    }

    fn unscale(
        &mut self,
        gradient: Elements<'_, F>,
        cell: Elements<'_, Cell>,
        to: ElementsMut<'_, f32>,
        met: ElementsMut<'_, Unscaled>,
    ) -> Result<(), GpuError> {
        let count = gradient.count();
        GpuError::length("the unscaled tensor", count, to.shared().count())?;
        let gradient = Gradient {
            from: gradient.address() as *const F,
            to: to.shared().address() as *mut f32,
            count,
            cell: cell.one("the cell of a gradient")? as *const Cell,
            met: met.shared().one("what unscaling met")? as *mut Unscaled,
        };
        let (gradient, how, bad) = (Parameter(gradient), Into::Place as u32, 0_u64);
        let kernel = of::<F>(&self.kernels.unscale);
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&GRADUAL).arg(&gradient).arg(&how).arg(&bad);
            })
        }
    }
}
