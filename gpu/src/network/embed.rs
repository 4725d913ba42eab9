//! Embedding of tokens.

use adaloss_core::format::Element;
use adaloss_hal::{
    AddressSpace, Fitting, Plain, Run,
    network::{Embed, EmbedTable},
};
use adaloss_kernels::{block::WARP, network::embed::LINKED};
use cudarc::driver::PushKernelArg;

use super::operand;
use crate::{
    Cuda, GpuError, GpuSpace,
    device::{SUMS, of},
    kernels::THREADS,
};

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
        let (links, width, gradient) = (self.sums()?, *width, operand(*gradient));
        let (address, count) = (to.shared().address(), to.shared().count());
        self.clear(GpuSpace::reborrow_mut(to))?;
        for first in (0..token_count).step_by(LINKED) {
            let linked = LINKED.min(token_count - first);
            let of_links = tokens + (size_of::<u32>() * first) as u64;
            let kernel = &self.kernels.embed_links;
            let shape = self.shape_of_parts(kernel, linked.div_ceil((THREADS / WARP) as usize));
            // SAFETY: the parameters are the entry points'; all that is named is borrowed, there is a row for each token, and
            // room for so many links: the operation fits. Each launch waits for the one before it.
            unsafe {
                self.launch(kernel, shape, |launch| {
                    launch.arg(&of_links).arg(&linked).arg(&links);
                })?;
                let kernel = &self.kernels.embed_table;
                self.launch(kernel, self.shape(kernel, linked * width), |launch| {
                    launch.arg(&width).arg(&tokens).arg(&token_count).arg(&first).arg(&links);
                    launch.arg(&gradient).arg(&address).arg(&count);
                })?;
            }
        }
        Ok(())
    }
}

// Links are kept where the parts of sums are.
const _: () = assert!(LINKED * size_of::<u32>() <= SUMS * size_of::<f64>());
