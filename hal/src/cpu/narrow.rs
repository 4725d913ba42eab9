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
use crate::{
    Branch, Certify, Epilogue, Finish, Fitting, HostSpace, Narrow, Note, Plain, Run,
    portable::{Portable, PortableError, one, one_mut, same_length},
};

impl<F: Element + Plain> Narrow<F> for Cpu {
    fn statistics(&mut self, values: &[F], to: &mut [Statistics]) -> Result<(), PortableError> {
        let to = one_mut("statistics", to)?;
        let chunk = |nth: usize| {
            let first = nth * CHUNK;
            Statistics::of(&values[first..values.len().min(first + CHUNK)])
        };
        let parts = self.map(values.len().div_ceil(CHUNK), chunk);
        parts.iter().for_each(|part| to.merge(part));
        Ok(())
    }

    fn apply(
        &mut self,
        values: &[f32],
        to: &mut [F],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        same_length("the narrowed tensor", values.len(), to.len())?;
        let sink = Sink::<F>::open(epilogue)?;
        // Longer than where values are computed first: a histogram's counts are merged per chunk.
        let size = 4 * CHUNK;
        self.each_chunk(to, size, |nth, to| {
            let first = nth * size;
            sink.put(first, &values[first..first + to.len()], to);
        });
        Ok(())
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
        let sink = Sink::<F>::open(epilogue)?;
        self.each_chunk(to, CHUNK, |nth, to| {
            let first = nth * CHUNK;
            let mut sums = Scratch::any(to.len());
            let join = Join { branches, first, sink: &sink, sums: &mut sums };
            Arch::new().dispatch(join);
            sink.put(first, &sums, to);
        });
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
        let met = Mutex::new(one_mut("what unscaling met", met)?);
        let scale = one("the cell of a gradient", cell)?.scale();
        self.each_chunk(to, CHUNK, |nth, to| {
            let gradient = &gradient[nth * CHUNK..][..to.len()];
            let part = Arch::new().dispatch(Unscale { gradient, scale, to });
            if let Ok(mut met) = met.lock() {
                met.merge(&part);
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

struct Unscale<'a, F> {
    gradient: &'a [F],
    scale: Scale,
    to: &'a mut [f32],
}

impl<F: Element> WithSimd for Unscale<'_, F> {
    type Output = Unscaled;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Unscaled {
        let scaled = Scaled::new(self.gradient, self.scale);
        let met = unscale(F::ENCODING.into(), scaled, self.to);
        debug_assert!(met.is_ok(), "the lengths are those of one chunk");
        met.unwrap_or_default()
    }
}

// What one cell takes is too short to divide, and a model has too few cells.

impl Run<Certify<'_, '_, HostSpace>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Certify<'_, '_, HostSpace>>,
    ) -> Result<(), PortableError> {
        Portable.execute(operation)
    }
}

impl Run<Note<'_, '_, HostSpace>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Note<'_, '_, HostSpace>>,
    ) -> Result<(), PortableError> {
        Portable.execute(operation)
    }
}

impl Run<Finish<'_, '_, HostSpace>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Finish<'_, '_, HostSpace>>,
    ) -> Result<(), PortableError> {
        Portable.execute(operation)
    }
}
