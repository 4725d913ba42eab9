//! The corridor, in chunks.

use std::sync::Mutex;

use adaloss_core::{
    format::{Element, Format},
    policy::Cell,
    propagate::{Scaled, sum_at},
    scale::Scale,
    statistics::Statistics,
    unscale::{Unscaled, unscale},
};
use pulp::{Arch, Simd, WithSimd};

use super::{CHUNK, Cpu, Scratch, Sink};
use adaloss_hal::{
    Branch, Fitting, HostError, HostSpace, Narrow, Plain, Propagate, Run, Summarise, Unscale,
    host::{one, one_mut},
};

impl<F: Element + Plain> Run<Summarise<'_, '_, HostSpace, F>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Summarise<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Summarise { input, to, .. } = operation.into_inner();
        let (input, to) = (*input, one_mut("the statistics", to)?);
        let chunk = |nth: usize| {
            let first = nth * CHUNK;
            Statistics::of(&input[first..input.len().min(first + CHUNK)])
        };
        let parts = self.map(input.len().div_ceil(CHUNK), chunk);
        parts.iter().for_each(|part| to.merge(part));
        Ok(())
    }
}

impl<F: Element + Plain> Run<Narrow<'_, '_, HostSpace, F>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Narrow<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Narrow { input, to, epilogue } = operation.into_inner();
        let (input, sink) = (*input, Sink::<F>::open(epilogue.reborrow())?);
        // Longer than where values are computed first: a histogram's counts are merged per chunk.
        let size = 4 * CHUNK;
        self.each_chunk(to, size, |nth, to| {
            let first = nth * size;
            sink.put(first, &input[first..first + to.len()], to);
        });
        Ok(())
    }
}

impl<F: Element + Plain> Run<Propagate<'_, '_, HostSpace, F>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Propagate<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Propagate { branches, to, epilogue } = operation.into_inner();
        let (branches, sink) = (*branches, Sink::<F>::open(epilogue.reborrow())?);
        self.each_chunk(to, CHUNK, |nth, to| {
            let first = nth * CHUNK;
            let mut sums = Scratch::any(to.len());
            let join = Join { branches, first, sink: &sink, sums: &mut sums };
            Arch::new().dispatch(join);
            sink.put(first, &sums, to);
        });
        Ok(())
    }
}

impl<F: Element + Plain> Run<Unscale<'_, '_, HostSpace, F>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unscale<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Unscale { gradient, cell, to, counts } = operation.into_inner();
        let (gradient, counts) = (*gradient, Mutex::new(one_mut("the counts", counts)?));
        let scale = one("the cell of the gradient", cell)?.scale();
        self.each_chunk(to, CHUNK, |nth, to| {
            let gradient = &gradient[nth * CHUNK..][..to.len()];
            let part = Arch::new().dispatch(UnscaleChunk { gradient, scale, to });
            if let Ok(mut counts) = counts.lock() {
                counts.merge(&part);
            }
        });
        Ok(())
    }
}

struct Join<'a, 's, F> {
    branches: &'a [Branch<&'a [F], &'a [Cell]>],
    first: usize,
    sink: &'a Sink<'s, F>,
    sums: &'a mut [f32],
}

impl<F: Element> WithSimd for Join<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (first, length) = (self.first, self.sums.len());
        let parts = self
            .branches
            .iter()
            .map(|branch| (&branch.gradient[first..first + length], branch.cell[0].scale()));
        // Equal to the sink's, and known to the compiler.
        let format = Format { encoding: F::ENCODING, ..self.sink.format() };
        sum_at(format, parts, self.sink.incoming(), self.sums);
    }
}

struct UnscaleChunk<'a, F> {
    gradient: &'a [F],
    scale: Scale,
    to: &'a mut [f32],
}

impl<F: Element> WithSimd for UnscaleChunk<'_, F> {
    type Output = Unscaled;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Unscaled {
        let scaled = Scaled::new(self.gradient, self.scale);
        let counts = unscale(F::ENCODING.into(), scaled, self.to);
        debug_assert!(counts.is_ok(), "the lengths are those of one chunk");
        counts.unwrap_or_default()
    }
}

// What one cell takes is too short to divide, and a model has too few cells.
