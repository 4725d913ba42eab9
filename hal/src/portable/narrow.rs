//! The corridor on slices.

use adaloss_core::{
    format::Element,
    propagate::{Scaled, sum_at},
    statistics::Statistics,
    unscale::unscale,
};

use super::Portable;
use crate::host::Sink;
use crate::host::{HostError, one, one_mut};
use crate::{
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
        let Summarise { input, to, .. } = operation.into_inner();
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
