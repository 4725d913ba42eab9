//! Causal attention, forward and back.

use std::ptr;

use adaloss_core::format::Element;
use adaloss_hal::{
    Epilogue, Fitting, Plain, Run,
    network::{Attend, AttendInput, Attention as Shape},
};
use adaloss_kernels::network::{attend::Attention, operand::Operand};
use cudarc::driver::PushKernelArg;

use super::operand;
use crate::{
    Cuda, Elements, GpuError, GpuSpace, device::of, kernels::Parameter, narrow::named_epilogue,
};

fn named<W: Element>(shape: Shape, input: Elements<'_, W>) -> Attention {
    let Shape { batch, tokens, heads, width } = shape;
    let Parameter(input) = operand(input);
    Attention { batch, tokens, heads, width, input }
}

/// Returns the address of an epilogue's predicate, or NULL.
fn when(of: &Epilogue<'_, GpuSpace>) -> u64 {
    of.when.map_or(0, Elements::address)
}

impl Cuda {
    /// Launches the totals of queries; returns their address.
    ///
    /// # Safety
    ///
    /// Input, gradient and predicate are there, or the last two are NULL; they have the lengths of the attention.
    unsafe fn totals(
        &mut self,
        attention: &Attention,
        gradient: Operand,
        when: u64,
    ) -> Result<u64, GpuError> {
        let [to, _] = self.room(attention.total_count())?;
        let kernel = &self.kernels.attend_totals;
        let (tiles, named) = (attention.tiles(), Parameter(*attention));
        let gradient = Parameter(gradient);
        // SAFETY: the parameters are the entry point's; what they name is there by the caller's promise, and so much room.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                launch.arg(&named).arg(&gradient).arg(&to).arg(&when);
            })
        }?;
        Ok(to)
    }
}

impl<W: Element + Plain> Run<Attend<'_, '_, GpuSpace, W>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Attend<'_, '_, GpuSpace, W>>,
    ) -> Result<(), GpuError> {
        let Attend { attention, input, to, epilogue } = operation.into_inner();
        let (to, count) = (to.shared().address(), to.shared().count());
        if count == 0 {
            // Without features there may be any number of tokens.
            return Ok(());
        }
        let (of_tokens, when) = (named(*attention, *input), when(epilogue));
        let epilogue = named_epilogue(epilogue.reborrow());
        // SAFETY: the parameters are the entry point's; all that is named is borrowed and has its length, and the epilogue is for
        // these elements: the operation fits.
        unsafe {
            let nothing = Operand::new(ptr::null::<W>());
            let totals = self.totals(&of_tokens, nothing, when)?;
            let kernel = of::<W>(&self.kernels.attend);
            let (pieces, of_tokens) = (of_tokens.pieces(), Parameter(of_tokens));
            self.launch(kernel, self.shape_of_parts(kernel, pieces), |launch| {
                launch.arg(&of_tokens).arg(&totals).arg(&to).arg(&count).arg(&epilogue);
            })
        }
    }
}

impl<G: Element + Plain, W: Element + Plain> Run<AttendInput<'_, '_, GpuSpace, G, W>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, AttendInput<'_, '_, GpuSpace, G, W>>,
    ) -> Result<(), GpuError> {
        let AttendInput { attention, gradient, input, to, epilogue } = operation.into_inner();
        let (to, count) = (to.shared().address(), to.shared().count());
        if count == 0 {
            return Ok(());
        }
        let (of_tokens, when) = (named(*attention, *input), when(epilogue));
        let (epilogue, first) = (named_epilogue(epilogue.reborrow()), gradient.address());
        // SAFETY: as above.
        unsafe {
            let Parameter(gradient) = operand(*gradient);
            let totals = self.totals(&of_tokens, gradient, when)?;
            let kernel = of::<G>(&self.kernels.attend_input);
            let (pieces, of_tokens) = (3 * of_tokens.pieces(), Parameter(of_tokens));
            self.launch(kernel, self.shape_of_parts(kernel, pieces), |launch| {
                launch.arg(&of_tokens).arg(&first).arg(&totals);
                launch.arg(&to).arg(&count).arg(&epilogue);
            })
        }
    }
}
