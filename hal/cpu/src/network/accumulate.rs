//! Sums of f32 tensors.

use std::vec::Vec;

use super::{CHUNK, Cpu, tile::Tile, vectors};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Run,
    network::{Accumulate, Blend},
};

impl Run<Accumulate<'_, '_, HostSpace>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Accumulate<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Accumulate { input: from, to } = operation.into_inner();
        let tile = Tile::of(from.len());
        if from.len() < tile.len() && from.len() < to.len() {
            let from = tile.repeat(from);
            self.each_chunk(to, tile.chunk(CHUNK), |_, to| {
                to.chunks_mut(from.len()).for_each(|to| add(&from, to));
            });
        } else {
            let rows = to.chunks_mut(from.len().max(1));
            let parts = rows.flat_map(|row| row.chunks_mut(CHUNK).zip(from.chunks(CHUNK)));
            self.each(parts.collect(), |_, (to, from)| add(from, to));
        }
        Ok(())
    }
}

impl Run<Blend<'_, '_, HostSpace>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Blend<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Blend { share, input: from, to, .. } = operation.into_inner();
        let share = *share;
        let parts: Vec<_> = to.chunks_mut(CHUNK).zip(from.chunks(CHUNK)).collect();
        self.each(parts, |_, (to, from)| {
            vectors(
                #[inline(always)]
                || to.iter_mut().zip(from).for_each(|(to, from)| *to += share * (from - *to)),
            );
        });
        Ok(())
    }
}

/// Adds as many elements as `to` has.
fn add(from: &[f32], to: &mut [f32]) {
    vectors(
        #[inline(always)]
        || to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
    );
}
