//! Embedding of tokens.

use adaloss_core::format::Element;
use adaloss_hal::{
    Fitting, Plain, Run,
    network::{Embed, EmbedTable},
};
use cudarc::driver::PushKernelArg;

use super::operand;
use crate::{Cuda, GpuError, GpuSpace, device::of};

impl<W: Element + Plain> Run<Embed<'_, '_, GpuSpace, W>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Embed<'_, '_, GpuSpace, W>>,
    ) -> Result<(), GpuError> {
        let Embed { width, tokens, table, to } = operation.into_inner();
        let (tokens, token_count) = (tokens.address(), tokens.count());
        let (table, table_count) = (table.address(), table.count());
        let (to, count) = (to.shared().address(), to.shared().count());
        let kernel = of::<W>(&self.kernels.embed);
        // SAFETY: the parameters are the entry point's; all that is named is borrowed, and there is a row for each token: the
        // operation fits.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&*width).arg(&tokens).arg(&token_count);
                launch.arg(&table).arg(&table_count).arg(&to).arg(&count);
            })
        }
    }
}

impl<G: Element + Plain> Run<EmbedTable<'_, '_, GpuSpace, G>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, EmbedTable<'_, '_, GpuSpace, G>>,
    ) -> Result<(), GpuError> {
        let EmbedTable { width, tokens, gradient, to } = operation.into_inner();
        let (tokens, token_count) = (tokens.address(), tokens.count());
        let (to, count, gradient) =
            (to.shared().address(), to.shared().count(), operand(*gradient));
        let kernel = &self.kernels.embed_table;
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape(kernel, count), |launch| {
                launch.arg(&*width).arg(&tokens).arg(&token_count);
                launch.arg(&gradient).arg(&to).arg(&count);
            })
        }
    }
}
