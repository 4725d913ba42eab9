//! A table of C's as a device of the HAL: its operations.
//!
//! Shapes and formats are checked here or in [`Run::run`], once for every device: functions of the table are called
//! with what fits.

use core::array;

use adaloss_core::{
    format::{Element, Encoding, Rounding, Subnormals},
    policy::Cell,
    statistics::Statistics,
    unscale::Unscaled,
};
use adaloss_hal::{
    Branch, Certify, Device, Epilogue, Finish, Fitting, Matmul, Narrow, Note, Plain, Product, Run,
};

use super::{
    ADALOSS_DEVICE_BRANCHES, adaloss_device_branch, adaloss_epilogue, adaloss_product,
    memory::{Elements, ElementsMut, Foreign, ForeignSpace, done, function},
};
use crate::{
    ADALOSS_ERROR_BRANCHES, ADALOSS_ERROR_FORMAT, adaloss_config, adaloss_format, code::Refused,
};

impl Foreign {
    /// Returns the format as this device reads it.
    fn format(&self, encoding: Encoding) -> adaloss_format {
        let subnormals =
            if self.capabilities().subnormals { Subnormals::Gradual } else { Subnormals::Flush };
        adaloss_core::format::Format::new(encoding, subnormals).into()
    }

    /// Writes an epilogue for C; refuses one that is not for `F`, or not one this device has.
    fn epilogue<F: Element>(
        &self,
        epilogue: Epilogue<'_, ForeignSpace>,
    ) -> Result<adaloss_epilogue, Refused> {
        let Epilogue { from, to, narrowing, noise, stores, outcome, histogram } = epilogue;
        let has = self.capabilities();
        let is_known = narrowing.format.encoding == F::ENCODING
            && (has.subnormals || narrowing.format.subnormals == Subnormals::Flush)
            && (has.stochastic_rounding || narrowing.rounding != Rounding::Stochastic);
        if !is_known {
            return Err(Refused(ADALOSS_ERROR_FORMAT));
        }
        let measured = histogram.as_ref().map(|histogram| histogram.address_of(1)).transpose()?;
        Ok(adaloss_epilogue {
            from: from.address_of(1)?,
            to: to.address_of(1)?,
            outcome: outcome.address_of(1)?,
            histogram: measured.unwrap_or(0),
            narrowing: narrowing.into(),
            noise: noise.into(),
            stores: stores.into(),
            measures: measured.is_some().into(),
            reserved: 0,
        })
    }
}

impl<F: Element + Plain> Narrow<F> for Foreign {
    fn statistics(
        &mut self,
        values: Elements<'_, F>,
        to: ElementsMut<'_, Statistics>,
    ) -> Result<(), Refused> {
        let (statistics, context) = (function(self.table.statistics)?, self.table.context);
        let (format, count) = (self.format(F::ENCODING), values.count());
        let (values, to) = (values.address_of(count)?, to.address_of(1)?);
        // SAFETY: the promise given to `Foreign::new`; the addresses name what the header says.
        done(unsafe { statistics(context, format, values, count, to) })
    }

    fn apply(
        &mut self,
        values: Elements<'_, f32>,
        to: ElementsMut<'_, F>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Refused> {
        let (apply, context) = (function(self.table.apply)?, self.table.context);
        let (epilogue, count) = (self.epilogue::<F>(epilogue)?, values.count());
        let (values, to) = (values.address_of(count)?, to.address_of(count)?);
        // SAFETY: as in `statistics`; the epilogue lives as long as the call.
        done(unsafe { apply(context, values, count, to, &epilogue) })
    }

    fn propagate(
        &mut self,
        branches: &[Branch<Elements<'_, F>, Elements<'_, Cell>>],
        to: ElementsMut<'_, F>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Refused> {
        let (propagate, context) = (function(self.table.propagate)?, self.table.context);
        let (epilogue, count) = (self.epilogue::<F>(epilogue)?, to.count());
        if !(1..=ADALOSS_DEVICE_BRANCHES).contains(&branches.len()) {
            return Err(Refused(ADALOSS_ERROR_BRANCHES));
        }
        let none = adaloss_device_branch { gradient: 0, cell: 0 };
        let mut named: [_; ADALOSS_DEVICE_BRANCHES] = array::from_fn(|_| none);
        for (named, Branch { gradient, cell }) in named.iter_mut().zip(branches) {
            (named.gradient, named.cell) = (gradient.address_of(count)?, cell.address_of(1)?);
        }
        let to = to.address_of(count)?;
        // SAFETY: as in `apply`; the array has at least so many branches.
        done(unsafe { propagate(context, named.as_ptr(), branches.len(), count, to, &epilogue) })
    }

    fn unscale(
        &mut self,
        gradient: Elements<'_, F>,
        cell: Elements<'_, Cell>,
        to: ElementsMut<'_, f32>,
        met: ElementsMut<'_, Unscaled>,
    ) -> Result<(), Refused> {
        let (unscale, context) = (function(self.table.unscale)?, self.table.context);
        let (format, count) = (self.format(F::ENCODING), gradient.count());
        let (gradient, to) = (gradient.address_of(count)?, to.address_of(count)?);
        let (cell, met) = (cell.address_of(1)?, met.address_of(1)?);
        // SAFETY: as in `statistics`.
        done(unsafe { unscale(context, format, gradient, count, cell, to, met) })
    }
}

impl Run<Certify<'_, '_, ForeignSpace>> for Foreign {
    fn execute(
        &mut self,
        operation: Fitting<'_, Certify<'_, '_, ForeignSpace>>,
    ) -> Result<(), Refused> {
        let Certify { config, histogram, cell, certificate } = operation.into_inner();
        let (certify, context) = (function(self.table.certify)?, self.table.context);
        let config = adaloss_config::from(**config);
        let (histogram, cell) = (histogram.address(), cell.address());
        let certificate = certificate.address();
        // SAFETY: the promise given to `Foreign::new`; the addresses name one element each, since the operation fits, and
        // the configuration lives as long as the call.
        done(unsafe { certify(context, &config, histogram, cell, certificate) })
    }
}

impl Run<Note<'_, '_, ForeignSpace>> for Foreign {
    fn execute(
        &mut self,
        operation: Fitting<'_, Note<'_, '_, ForeignSpace>>,
    ) -> Result<(), Refused> {
        let Note { config, outcome, from, cell } = operation.into_inner();
        let (note, context) = (function(self.table.note)?, self.table.context);
        let config = adaloss_config::from(**config);
        let (outcome, from, cell) = (outcome.address(), from.address(), cell.address());
        // SAFETY: as in `Certify`.
        done(unsafe { note(context, &config, outcome, from, cell) })
    }
}

impl Run<Finish<'_, '_, ForeignSpace>> for Foreign {
    fn execute(
        &mut self,
        operation: Fitting<'_, Finish<'_, '_, ForeignSpace>>,
    ) -> Result<(), Refused> {
        let Finish { config, cells } = operation.into_inner();
        let (finish, context) = (function(self.table.finish)?, self.table.context);
        let config = adaloss_config::from(**config);
        let (cells, count) = (cells.address(), cells.count());
        // SAFETY: as in `Certify`; there are so many cells.
        done(unsafe { finish(context, &config, cells, count) })
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
        let Matmul { product, a, b, to, epilogue } = operation.into_inner();
        let (matmul, context) = (function(self.table.matmul)?, self.table.context);
        let epilogue = self.epilogue::<F>(epilogue.reborrow())?;
        let (a, b, to) = (a.address(), b.address(), to.address());
        let Product { rows, inner, columns, transpose_a, transpose_b } = *product;
        let product = adaloss_product {
            rows,
            inner,
            columns,
            transpose_a: transpose_a.into(),
            transpose_b: transpose_b.into(),
            a: self.format(A::ENCODING),
            b: self.format(B::ENCODING),
            reserved: 0,
        };
        // SAFETY: as in `Narrow::apply`; the shape lives as long as the call, and the operands, which fit, have its
        // lengths.
        done(unsafe { matmul(context, &product, a, b, to, &epilogue) })
    }
}
