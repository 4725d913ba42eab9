//! A table of C's as a device of the HAL: its operations.
//!
//! Shapes and formats are checked in [`Run::run`], once for every device: functions of the table are called with what
//! fits.

use core::array;

use adaloss_core::format::{Element, Encoding, Subnormals};
use adaloss_hal::{
    Branch, Device, Epilogue, Fitting, Matmul, Narrow, Plain, Product, Propagate, Run, Summarise,
    Unscale,
};

use super::{
    ADALOSS_DEVICE_BRANCHES, adaloss_device_branch, adaloss_epilogue, adaloss_product,
    memory::{ElementsMut, Foreign, ForeignSpace, done, function},
};
use crate::{ADALOSS_ERROR_BRANCHES, adaloss_format, code::Refused};

impl Foreign {
    /// Returns the format as this device reads it.
    fn format(&self, encoding: Encoding) -> adaloss_format {
        let subnormals =
            if self.capabilities().subnormals { Subnormals::Gradual } else { Subnormals::Flush };
        adaloss_core::format::Format::new(encoding, subnormals).into()
    }
}

/// Writes the epilogue of an operation that fits for C.
fn named(epilogue: Epilogue<'_, ForeignSpace>) -> adaloss_epilogue {
    let Epilogue { from, to, narrowing, noise, stores, outcome, histogram, when: _ } = epilogue;
    adaloss_epilogue {
        from: from.address(),
        to: to.address(),
        outcome: outcome.address(),
        histogram: histogram.as_ref().map_or(0, ElementsMut::address),
        narrowing: narrowing.into(),
        noise: noise.into(),
        stores: stores.into(),
        measures: histogram.is_some().into(),
        reserved: 0,
    }
}

impl<F: Element + Plain> Run<Summarise<'_, '_, ForeignSpace, F>> for Foreign {
    fn execute(
        &mut self,
        operation: Fitting<'_, Summarise<'_, '_, ForeignSpace, F>>,
    ) -> Result<(), Refused> {
        let Summarise { input, to, .. } = operation.into_inner();
        let (statistics, context) = (function(self.table.statistics)?, self.table.context);
        let (format, count) = (self.format(F::ENCODING), input.count());
        let (input, to) = (input.address(), to.address());
        // SAFETY: the promise given to `Foreign::new`; the addresses name what the header says, since the operation fits.
        done(unsafe { statistics(context, format, input, count, to) })
    }
}

impl<F: Element + Plain> Run<Narrow<'_, '_, ForeignSpace, F>> for Foreign {
    fn execute(
        &mut self,
        operation: Fitting<'_, Narrow<'_, '_, ForeignSpace, F>>,
    ) -> Result<(), Refused> {
        let Narrow { input, to, epilogue } = operation.into_inner();
        let (apply, context) = (function(self.table.apply)?, self.table.context);
        let (epilogue, count) = (named(epilogue.reborrow()), input.count());
        let (input, to) = (input.address(), to.address());
        // SAFETY: as in `Summarise`; the epilogue lives as long as the call, and asks for nothing but what the table's
        // capabilities have, since an operation comes here through `Run::run` alone.
        done(unsafe { apply(context, input, count, to, &epilogue) })
    }
}

impl<F: Element + Plain> Run<Propagate<'_, '_, ForeignSpace, F>> for Foreign {
    fn execute(
        &mut self,
        operation: Fitting<'_, Propagate<'_, '_, ForeignSpace, F>>,
    ) -> Result<(), Refused> {
        let Propagate { branches, to, epilogue } = operation.into_inner();
        let (propagate, context) = (function(self.table.propagate)?, self.table.context);
        let (epilogue, count) = (named(epilogue.reborrow()), to.count());
        if branches.len() > ADALOSS_DEVICE_BRANCHES {
            return Err(Refused(ADALOSS_ERROR_BRANCHES));
        }
        let none = adaloss_device_branch { gradient: 0, cell: 0 };
        let mut named: [_; ADALOSS_DEVICE_BRANCHES] = array::from_fn(|_| none);
        for (named, Branch { gradient, cell }) in named.iter_mut().zip(*branches) {
            (named.gradient, named.cell) = (gradient.address(), cell.address());
        }
        let to = to.address();
        // SAFETY: as in `Narrow`; the array has at least so many branches.
        done(unsafe { propagate(context, named.as_ptr(), branches.len(), count, to, &epilogue) })
    }
}

impl<F: Element + Plain> Run<Unscale<'_, '_, ForeignSpace, F>> for Foreign {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unscale<'_, '_, ForeignSpace, F>>,
    ) -> Result<(), Refused> {
        let Unscale { gradient, cell, to, counts } = operation.into_inner();
        let (unscale, context) = (function(self.table.unscale)?, self.table.context);
        let (format, count) = (self.format(F::ENCODING), gradient.count());
        let (gradient, to) = (gradient.address(), to.address());
        let (cell, counts) = (cell.address(), counts.address());
        // SAFETY: as in `Summarise`.
        done(unsafe { unscale(context, format, gradient, count, cell, to, counts) })
    }
}

impl<A, B, F> Run<Matmul<'_, '_, ForeignSpace, A, B, F>> for Foreign
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, Matmul<'_, '_, ForeignSpace, A, B, F>>,
    ) -> Result<(), Refused> {
        let Matmul { product, a, b, bias, to, epilogue } = operation.into_inner();
        let (matmul, context) = (function(self.table.matmul)?, self.table.context);
        let epilogue = named(epilogue.reborrow());
        let (a, b, to) = (a.address(), b.address(), to.address());
        let (has_bias, bias) = (bias.is_some().into(), bias.map_or(0, |bias| bias.address()));
        let Product { rows, inner, columns, transpose_a, transpose_b } = *product;
        let product = adaloss_product {
            rows,
            inner,
            columns,
            transpose_a: transpose_a.into(),
            transpose_b: transpose_b.into(),
            a: self.format(A::ENCODING),
            b: self.format(B::ENCODING),
            has_bias,
            reserved: 0,
        };
        // SAFETY: as in `Narrow`; the shape lives as long as the call, and the operands, which fit, have its
        // lengths.
        done(unsafe { matmul(context, &product, a, b, bias, to, &epilogue) })
    }
}
