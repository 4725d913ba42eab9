//! Certificates and decisions on the GPU, by core's own code.

use adaloss_core::{
    policy::{Cell, Certificate, Config},
    statistics::{Histogram, Outcome},
};
use adaloss_hal::{Certify, Finish, Fitting, Note, Run};
use adaloss_kernels::policy::{self, Evidence};
use cudarc::driver::PushKernelArg;

use crate::{Cuda, GpuError, GpuSpace, kernels::THREADS};

impl Run<Certify<'_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Certify<'_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let Certify { config, histogram, cell, certificate } = operation.into_inner();
        let evidence = Evidence {
            config: self.config(config)? as *const Config,
            histogram: histogram.address() as *const Histogram,
            cell: cell.shared().address() as *mut Cell,
            certificate: certificate.shared().address() as *mut Certificate,
        };
        let (table, count) = (self.bring(&[evidence])?, 1_usize);
        let kernel = &self.kernels.certify;
        // SAFETY: the parameters are the entry point's; all that is named is borrowed, and is one element: the operation
        // fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&table).arg(&count);
            })
        }
    }
}

impl Run<Note<'_, '_, GpuSpace>> for Cuda {
    fn execute(&mut self, operation: Fitting<'_, Note<'_, '_, GpuSpace>>) -> Result<(), GpuError> {
        let Note { config, outcome, from, cell } = operation.into_inner();
        let note = policy::Note {
            config: self.config(config)? as *const Config,
            outcome: outcome.address() as *const Outcome,
            from: from.address() as *const Cell,
            cell: cell.shared().address() as *mut Cell,
        };
        let (table, count) = (self.bring(&[note])?, 1_usize);
        let kernel = &self.kernels.note;
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&table).arg(&count);
            })
        }
    }
}

impl Run<Finish<'_, '_, GpuSpace>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Finish<'_, '_, GpuSpace>>,
    ) -> Result<(), GpuError> {
        let Finish { config, cells } = operation.into_inner();
        let (count, address) = (cells.shared().count(), cells.shared().address());
        if count == 0 {
            return Ok(());
        }
        let config = self.config(config)?;
        let kernel = &self.kernels.finish;
        // A thread per cell.
        let shape = self.shape_of_parts(kernel, count.div_ceil(THREADS as usize));
        // SAFETY: the parameters are the entry point's; the cells are borrowed, and as many.
        unsafe {
            self.launch(kernel, shape, |launch| {
                launch.arg(&config).arg(&address).arg(&count);
            })
        }
    }
}
