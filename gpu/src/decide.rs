//! Decisions on the GPU, by core's own code.

use adaloss_core::{
    policy::{Cell, Certificate, Config},
    statistics::{Histogram, Outcome},
};
use adaloss_hal::Decide;
use adaloss_kernels::policy::{Decision, Note};
use cudarc::driver::PushKernelArg;

use crate::{Cuda, Elements, ElementsMut, GpuError};

impl Decide for Cuda {
    fn decide(
        &mut self,
        config: &Config,
        seen: Elements<'_, Histogram>,
        cell: ElementsMut<'_, Cell>,
        certificate: ElementsMut<'_, Certificate>,
    ) -> Result<(), GpuError> {
        let (histogram, cell) = (seen.one("a histogram")?, cell.shared().one("a cell")?);
        let certificate = certificate.shared().one("a certificate")?;
        let decision = Decision {
            config: self.config(config)? as *const Config,
            histogram: histogram as *const Histogram,
            cell: cell as *mut Cell,
            certificate: certificate as *mut Certificate,
        };
        let (table, count) = (self.bring(&[decision])?, 1_usize);
        let kernel = &self.kernels.decide;
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
}
