//! The corridor on slices.

use adaloss_core::{
    apply::{Apply, ApplyError},
    format::Element,
    policy::{self, Cell},
    propagate::{Scaled, sum_at},
    scale::Scale,
    statistics::{Histogram, Outcome, Statistics},
    unscale::{Unscaled, unscale},
};

use super::{Portable, PortableError, one, one_mut, same_length};
use crate::{Branch, Certify, Epilogue, Finish, Fitting, HostSpace, Narrow, Note, Plain, Run};

/// Results that are kept at a time; nothing depends on this.
const CHUNK: usize = 64;

impl<F: Element + Plain> Narrow<F> for Portable {
    fn statistics(&mut self, values: &[F], to: &mut [Statistics]) -> Result<(), PortableError> {
        one_mut("statistics", to)?.merge(&Statistics::of(values));
        Ok(())
    }

    fn apply(
        &mut self,
        values: &[f32],
        to: &mut [F],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        same_length("the narrowed tensor", values.len(), to.len())?;
        Sink::<F>::open(epilogue)?.put(0, values, to)
    }

    fn propagate(
        &mut self,
        branches: &[Branch<&[F], &[Cell]>],
        to: &mut [F],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        if branches.is_empty() {
            return Err(PortableError::Branches);
        }
        for branch in branches {
            same_length("a branch of a join", to.len(), branch.gradient.len())?;
            one("the cell of a branch", branch.cell)?;
        }
        let mut sink = Sink::<F>::open(epilogue)?;
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

    fn unscale(
        &mut self,
        gradient: &[F],
        cell: &[Cell],
        to: &mut [f32],
        met: &mut [Unscaled],
    ) -> Result<(), PortableError> {
        same_length("the unscaled tensor", gradient.len(), to.len())?;
        let met = one_mut("what unscaling met", met)?;
        let scale = one("the cell of a gradient", cell)?.scale();
        met.merge(&unscale(F::ENCODING.into(), Scaled::new(gradient, scale), to)?);
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
    /// Checks an epilogue, so that nothing has been written when it is wrong.
    pub(crate) fn open(epilogue: Epilogue<'a, HostSpace>) -> Result<Self, PortableError> {
        let Epilogue { from, to, narrowing, noise, stores, outcome, histogram } = epilogue;
        let asked = narrowing.format.encoding;
        if asked != F::ENCODING {
            return Err(ApplyError::Encoding { asked, given: F::ENCODING }.into());
        }
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
