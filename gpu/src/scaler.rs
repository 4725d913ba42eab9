//! A scaler on the GPU, by core's own code.

use std::ptr;

use adaloss_core::policy::{Cell, Config};
use adaloss_hal::{
    Fitting, Run,
    scaler::{
        Advance, Close, Conclude, Describe, Described, DeviceScaler, Ended, Ending, Evidence, Judge,
    },
};
use adaloss_kernels::scaler::{self, List, Place, Scaler};
use cudarc::driver::PushKernelArg;

use crate::{
    Cuda, Elements, ElementsMut, GpuError, GpuSpace,
    kernels::{Kernel, Kernels, Parameter},
};

/// Returns the address of what is read, as kernels name it.
fn read<T>(elements: Elements<'_, T>) -> *const T {
    elements.address() as *const T
}

/// Returns the address of what is written, as kernels name it.
fn written<T>(elements: &ElementsMut<'_, T>) -> *mut T {
    elements.shared().address() as *mut T
}

impl Cuda {
    /// Names a scaler as kernels do.
    fn scaler(&mut self, of: &DeviceScaler<'_, '_, GpuSpace>) -> Result<Scaler, GpuError> {
        let DeviceScaler { config, state, cells, nth } = of;
        Ok(Scaler {
            config: self.config(config)? as *const Config,
            state: written(state),
            cells: written(cells),
            cell_count: cells.shared().count(),
            nth: *nth,
        })
    }

    /// Names a list as kernels do; what is behind its first item is brought as a table.
    fn list<T: Copy>(&mut self, items: &[T], nothing: T) -> Result<List<T>, GpuError> {
        let (first, others) =
            items.split_first().map_or((nothing, &[][..]), |(of, rest)| (*of, rest));
        let address = if others.is_empty() { 0 } else { self.bring(others)? };
        Ok(List { count: items.len(), first, others: address as *const T })
    }

    /// Launches a kernel of a scaler, which one thread does.
    ///
    /// # Safety
    ///
    /// The parameter is the entry point's, and what it names is what the kernel asks for.
    unsafe fn decide<T: Copy>(
        &self,
        kernel: impl FnOnce(&Kernels) -> &Kernel,
        parameter: T,
    ) -> Result<(), GpuError> {
        let (kernel, parameter) = (kernel(&self.kernels), Parameter(parameter));
        // SAFETY: the caller's promise.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, 1), |launch| {
                launch.arg(&parameter);
            })
        }
    }
}

impl Run<Advance<'_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Advance<'_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let Advance { ending, asked, sources, scaler, outcome, histogram, from, to, when } =
            operation.into_inner();
        let sources: Vec<_> = sources.iter().map(|&source| read(source)).collect();
        let opening = asked.opening;
        let advance = scaler::Advance {
            scaler: self.scaler(scaler)?,
            ending: ending.as_ref().map_or(scaler::Ending::NONE, self::ending),
            place: opening.map(|opening| opening.place).into(),
            elements: opening.map_or(0, |opening| opening.elements),
            stream: opening.map_or(0, |opening| opening.stream),
            purpose: asked.purpose.into(),
            sources: self.list::<*const Cell>(&sources, ptr::null())?,
            outcome: written(outcome),
            histogram: written(histogram),
            from: written(from),
            to: written(to),
            when: written(when),
        };
        // SAFETY: the parameter is the entry point's; all that is named is borrowed and has its length: the operation fits.
        unsafe { self.decide(|kernels| &kernels.advance, advance) }
    }
}

impl Run<Describe<'_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Describe<'_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let Describe { described, scaler } = operation.into_inner();
        let (gradient, weight, fan_in) = match *described {
            Described::Product { gradient, weight, fan_in } => {
                (read(gradient), read(weight), fan_in)
            }
            Described::Cast(gradient) => (read(gradient), ptr::null(), 0),
        };
        let describe = scaler::Describe { scaler: self.scaler(scaler)?, gradient, weight, fan_in };
        // SAFETY: as above.
        unsafe { self.decide(|kernels| &kernels.describe, describe) }
    }
}

impl Run<Close<'_, '_, GpuSpace>> for Cuda {
    fn execute(&mut self, operation: Fitting<'_, Close<'_, '_, GpuSpace>>) -> Result<(), GpuError> {
        let Close { origins, scaler, outcome, histogram, scale, serial, line } =
            operation.into_inner();
        let origins: Vec<_> = origins.iter().map(|&origin| Place::from(origin)).collect();
        let close = scaler::Close {
            scaler: self.scaler(scaler)?,
            origins: self.list(&origins, Place::Unknown)?,
            outcome: written(outcome),
            histogram: read(*histogram),
            scale: written(scale),
            serial: *serial,
            line: written(line),
        };
        // SAFETY: as above.
        unsafe { self.decide(|kernels| &kernels.close, close) }
    }
}

impl Run<Judge<'_, '_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Judge<'_, '_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let Judge { ended, evidence, scaler, other } = operation.into_inner();
        let evidence: Vec<_> = evidence.iter().map(self::evidence).collect();
        let nothing = scaler::Evidence::WeightSquares { id: 0, sum: ptr::null() };
        let (ending, outcome, histogram) = match ended {
            Some(Ended { ending, outcome, histogram }) => {
                (self::ending(ending), written(outcome), read(*histogram))
            }
            None => (scaler::Ending::NONE, ptr::null_mut(), ptr::null()),
        };
        let judge = scaler::Judge {
            scaler: self.scaler(scaler)?,
            other: other.map_or(ptr::null(), read),
            ending,
            outcome,
            histogram,
            evidence: self.list(&evidence, nothing)?,
        };
        // SAFETY: as above.
        unsafe { self.decide(|kernels| &kernels.judge, judge) }
    }
}

/// Names the end of a visit as kernels do.
fn ending(of: &Ending<'_, GpuSpace>) -> scaler::Ending {
    let Ending { origins, serial, line } = of;
    scaler::Ending { origins: origins.map(Place::from), serial: *serial, line: written(line) }
}

/// Names evidence as kernels do.
fn evidence(of: &Evidence<'_, '_, GpuSpace>) -> scaler::Evidence {
    match of {
        Evidence::Gradient { id, origin, elements, outcome } => scaler::Evidence::Gradient {
            id: *id,
            origin: (*origin).into(),
            elements: *elements,
            outcome: written(outcome),
        },
        Evidence::Unscaled { id, origin, elements, counts } => scaler::Evidence::Unscaled {
            id: *id,
            origin: (*origin).into(),
            elements: *elements,
            counts: written(counts),
        },
        Evidence::Loss { rows, sum, serial, line } => scaler::Evidence::Loss {
            rows: *rows,
            sum: read(*sum),
            serial: *serial,
            line: written(line),
        },
        Evidence::Squares { id, is_gradient, sum } => {
            scaler::Evidence::Squares { id: *id, is_gradient: *is_gradient, sum: read(*sum) }
        }
        Evidence::Weight { id, elements, saturates, outcome } => scaler::Evidence::Weight {
            id: *id,
            elements: *elements,
            saturates: *saturates,
            outcome: read(*outcome),
        },
        Evidence::WeightSquares { id, sum } => {
            scaler::Evidence::WeightSquares { id: *id, sum: read(*sum) }
        }
    }
}

impl Run<Conclude<'_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Conclude<'_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let Conclude { scaler, requires, applies, updates, square_norm, serial, line } =
            operation.into_inner();
        let conclude = scaler::Conclude {
            scaler: self.scaler(scaler)?,
            requires: requires.map_or(ptr::null(), read),
            applies: written(applies),
            updates: written(updates),
            square_norm: written(square_norm),
            serial: *serial,
            line: written(line),
        };
        // SAFETY: as above.
        unsafe { self.decide(|kernels| &kernels.conclude, conclude) }
    }
}
