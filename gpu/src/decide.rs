//! Certificates and decisions on the GPU, by core's own code.

use adaloss_core::{
    policy::{Cell, Certificate, Config},
    statistics::{Histogram, Outcome},
};
use adaloss_hal::Decide;
use adaloss_kernels::policy::{Evidence, Note};
use cudarc::driver::PushKernelArg;

use crate::{Cuda, Elements, ElementsMut, GpuError, kernels::THREADS};

impl Decide for Cuda {
    fn certify(
        &mut self,
        config: &Config,
        seen: Elements<'_, Histogram>,
        cell: ElementsMut<'_, Cell>,
        certificate: ElementsMut<'_, Certificate>,
    ) -> Result<(), GpuError> {
        let (histogram, cell) = (seen.one("a histogram")?, cell.shared().one("a cell")?);
        let certificate = certificate.shared().one("a certificate")?;
        let evidence = Evidence {
            config: self.config(config)? as *const Config,
            histogram: histogram as *const Histogram,
            cell: cell as *mut Cell,
            certificate: certificate as *mut Certificate,
        };
        let (table, count) = (self.bring(&[evidence])?, 1_usize);
        let kernel = &self.kernels.certify;
        // SAFETY: the parameters are the entry point's; all that is named is borrowed.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&table).arg(&count);
            })
        }
    }

    fn note(
        &mut self,
        config: &Config,
        outcome: Elements<'_, Outcome>,
        from: Elements<'_, Cell>,
        cell: ElementsMut<'_, Cell>,
    ) -> Result<(), GpuError> {
        let (outcome, cell) = (outcome.one("an outcome")?, cell.shared().one("a cell")?);
        let from = from.one("the cell that results come from")?;
        let note = Note {
            config: self.config(config)? as *const Config,
            outcome: outcome as *const Outcome,
            from: from as *const Cell,
            cell: cell as *mut Cell,
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
    fn finish(&mut self, config: &Config, cells: ElementsMut<'_, Cell>) -> Result<(), GpuError> {
        let (count, address) = (cells.shared().count(), cells.shared().address());
        if count == 0 {
            return Ok(());
        }
        let config = self.config(config)?;
        let kernel = &self.kernels.finish;
        // A thread per cell.
        let shape = self.shape_of_parts(kernel, count.div_ceil(THREADS as usize));
        // SAFETY: as above, and so many cells are there.
        unsafe {
            self.launch(kernel, shape, |launch| {
                launch.arg(&config).arg(&address).arg(&count);
            })
        }
    }
}
