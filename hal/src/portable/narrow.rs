//! The corridor on slices.

use adaloss_core::{
    apply::Apply,
    format::Element,
    policy,
    propagate::{Scaled, sum_at},
    scale::Scale,
    statistics::{Histogram, Outcome, Statistics},
    unscale::unscale,
};

use super::{Portable, PortableError, one, one_mut};
use crate::{
    Certify, Epilogue, Finish, Fitting, HostSpace, Narrow, Note, Plain, Propagate, Run, Summarise,
    Unscale,
};

/// Results that are kept at a time; nothing depends on this.
const CHUNK: usize = 64;

impl<F: Element + Plain> Run<Summarise<'_, '_, HostSpace, F>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Summarise<'_, '_, HostSpace, F>>,
    ) -> Result<(), PortableError> {
        let Summarise { input, to } = operation.into_inner();
        one_mut("the statistics", to)?.merge(&Statistics::of(input));
        Ok(())
    }
}

impl<F: Element + Plain> Run<Narrow<'_, '_, HostSpace, F>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Narrow<'_, '_, HostSpace, F>>,
    ) -> Result<(), PortableError> {
        let Narrow { input, to, epilogue } = operation.into_inner();
        Sink::<F>::open(epilogue.reborrow())?.put(0, input, to)
    }
}

impl<F: Element + Plain> Run<Propagate<'_, '_, HostSpace, F>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Propagate<'_, '_, HostSpace, F>>,
    ) -> Result<(), PortableError> {
        let Propagate { branches, to, epilogue } = operation.into_inner();
        let mut sink = Sink::<F>::open(epilogue.reborrow())?;
        let (format, incoming) = (sink.apply.narrowing.format, sink.incoming);
        let mut sums = [0.0; CHUNK];
        for (nth, to) in to.chunks_mut(CHUNK).enumerate() {
            let chunk = nth * CHUNK..nth * CHUNK + to.len();
            let sums = &mut sums[..to.len()];
            let parts = branches
                .iter()
                .map(|branch| (&branch.gradient[chunk.clone()], branch.cell[0].scale()));
            sum_at(format, parts, incoming, sums);
            sink.put(chunk.start, sums, to)?;
        }
        Ok(())
    }
}

impl<F: Element + Plain> Run<Unscale<'_, '_, HostSpace, F>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unscale<'_, '_, HostSpace, F>>,
    ) -> Result<(), PortableError> {
        let Unscale { gradient, cell, to, counts } = operation.into_inner();
        let counts = one_mut("the counts", counts)?;
        let scale = one("the cell of the gradient", cell)?.scale();
        counts.merge(&unscale(F::ENCODING.into(), Scaled::new(*gradient, scale), to)?);
        Ok(())
    }
}

impl Run<Certify<'_, '_, HostSpace>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Certify<'_, '_, HostSpace>>,
    ) -> Result<(), PortableError> {
        let Certify { config, histogram, cell, certificate } = operation.into_inner();
        let histogram = one("the histogram", histogram)?;
        let cell = one_mut("the cell", cell)?;
        *one_mut("the certificate", certificate)? =
            policy::certify(config, histogram, cell.scale(), cell);
        Ok(())
    }
}

impl Run<Note<'_, '_, HostSpace>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Note<'_, '_, HostSpace>>,
    ) -> Result<(), PortableError> {
        let Note { config, outcome, from, cell } = operation.into_inner();
        let outcome = one("the outcome", outcome)?;
        let incoming = one("the cell that results come from", from)?.scale();
        // The scale to narrow to once more is the caller's to ask for.
        let _ = policy::note(config, outcome, incoming, one_mut("the cell", cell)?);
        Ok(())
    }
}

impl Run<Finish<'_, '_, HostSpace>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Finish<'_, '_, HostSpace>>,
    ) -> Result<(), PortableError> {
        let Finish { config, cells } = operation.into_inner();
        for cell in cells.iter_mut() {
            policy::finish(config, cell);
        }
        Ok(())
    }
}

/// An epilogue at work: takes the f32 results of an operation in parts, in any order.
pub(crate) struct Sink<'a, F> {
    pub(crate) apply: Apply,
    pub(crate) incoming: Scale,
    pub(crate) stores: bool,
    pub(crate) outcome: &'a mut Outcome,
    pub(crate) histogram: Option<&'a mut Histogram>,
    element: core::marker::PhantomData<F>,
}

impl<'a, F: Element> Sink<'a, F> {
    /// Takes the epilogue of an operation that fits.
    pub(crate) fn open(epilogue: Epilogue<'a, HostSpace>) -> Result<Self, PortableError> {
        let Epilogue { from, to, narrowing, noise, stores, outcome, histogram } = epilogue;
        let incoming = one("the cell that results come from", from)?.scale();
        let outgoing = one("the cell that results go to", to)?.scale();
        let histogram = match histogram {
            Some(histogram) => Some(one_mut("a histogram", histogram)?),
            None => None,
        };
        Ok(Self {
            apply: Apply { narrowing, shift: outgoing / incoming, noise },
            incoming,
            stores,
            outcome: one_mut("an outcome", outcome)?,
            histogram,
            element: core::marker::PhantomData,
        })
    }

    /// Takes the results from place `first` of the tensor on.
    pub(super) fn put(
        &mut self,
        first: usize,
        values: &[f32],
        to: &mut [F],
    ) -> Result<(), PortableError> {
        if let Some(histogram) = &mut self.histogram {
            histogram.observe(values, self.incoming);
        }
        if self.stores {
            self.apply.slice(values, to, first as u64, self.outcome)?;
        }
        Ok(())
    }

    /// Takes the results from place `first` of the tensor on, each computed from its place.
    pub(super) fn each(
        &mut self,
        first: usize,
        to: &mut [F],
        mut result: impl FnMut(usize) -> f32,
    ) -> Result<(), PortableError> {
        let mut results = [0.0; CHUNK];
        for (nth, to) in to.chunks_mut(CHUNK).enumerate() {
            let first = first + nth * CHUNK;
            let results = &mut results[..to.len()];
            results.iter_mut().zip(first..).for_each(|(x, place)| *x = result(place));
            self.put(first, results, to)?;
        }
        Ok(())
    }
}
