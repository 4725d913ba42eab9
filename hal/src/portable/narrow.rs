//! The corridor on slices.

use adaloss_core::{
    format::Element,
    policy,
    propagate::{Scaled, sum_at},
    statistics::Statistics,
    unscale::unscale,
};

use super::Portable;
use crate::host::Sink;
use crate::host::{HostError, one, one_mut};
use crate::{
    decide::{Certify, Finish, Note},
    narrow::{Narrow, Propagate, Summarise, Unscale},
    plain::Plain,
    run::{Fitting, Run},
    space::HostSpace,
};

/// Results that are kept at a time; nothing depends on this.
const CHUNK: usize = 64;

impl<F: Element + Plain> Run<Summarise<'_, '_, HostSpace, F>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Summarise<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Summarise { input, to } = operation.into_inner();
        one_mut("the statistics", to)?.merge(&Statistics::of(input));
        Ok(())
    }
}

impl<F: Element + Plain> Run<Narrow<'_, '_, HostSpace, F>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Narrow<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Narrow { input, to, epilogue } = operation.into_inner();
        Sink::<F>::open(epilogue.reborrow())?.put(0, input, to)
    }
}

impl<F: Element + Plain> Run<Propagate<'_, '_, HostSpace, F>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Propagate<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
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
    ) -> Result<(), HostError> {
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
    ) -> Result<(), HostError> {
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
    ) -> Result<(), HostError> {
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
    ) -> Result<(), HostError> {
        let Finish { config, cells } = operation.into_inner();
        for cell in cells.iter_mut() {
            policy::finish(config, cell);
        }
        Ok(())
    }
}
