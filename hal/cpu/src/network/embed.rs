//! Embedding: tokens are looked up in chunks, and gradients are summed in chunks of the table.

use std::vec::Vec;

use adaloss_core::format::Element;

use super::{CHUNK, Cpu, filled, vectors};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Plain, Run,
    network::{Embed, EmbedTable},
};

impl<W: Element + Plain> Run<Embed<'_, '_, HostSpace, W>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Embed<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Embed { width, tokens, table, to } = operation.into_inner();
        let (width, tokens, table) = (*width, *tokens, *table);
        let rows = CHUNK.div_ceil(width);
        self.each_chunk(to, rows * width, |nth, to| {
            for (&token, to) in tokens[nth * rows..].iter().zip(to.chunks_exact_mut(width)) {
                match row(table, width, token as usize) {
                    Some(row) => to.copy_from_slice(row),
                    None => to.fill(W::from_bits(0)),
                }
            }
        });
        Ok(())
    }
}

impl<G: Element + Plain> Run<EmbedTable<'_, '_, HostSpace, G>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, EmbedTable<'_, '_, HostSpace, G>>,
    ) -> Result<(), HostError> {
        let EmbedTable { width, tokens, gradient, to } = operation.into_inner();
        let (width, gradient) = (*width, *gradient);
        let uses = Uses::of(tokens, to.len() / width)?;
        let rows = CHUNK.div_ceil(width);
        self.each_chunk(to, rows * width, |nth, to| {
            to.fill(0.0);
            for (token, sums) in (nth * rows..).zip(to.chunks_exact_mut(width)) {
                for &place in uses.of_token(token) {
                    let gradient = &gradient[place * width..][..width];
                    vectors(
                        #[inline(always)]
                        || sums.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x.widen()),
                    );
                }
            }
        });
        Ok(())
    }
}

/// Returns a row of the table, if it has it.
fn row<W>(table: &[W], width: usize, token: usize) -> Option<&[W]> {
    let first = token.checked_mul(width)?;
    table.get(first..first.checked_add(width)?)
}

/// The places where each token of the vocabulary occurs, in their order.
struct Uses {
    places: Vec<usize>,
    /// Where the places of a token end; those of the next follow.
    ends: Vec<usize>,
}

impl Uses {
    fn of(tokens: &[u32], vocabulary: usize) -> Result<Self, HostError> {
        let known = || {
            let places = tokens.iter().map(|&token| token as usize).enumerate();
            places.filter(|&(_, token)| token < vocabulary)
        };
        let mut ends = filled(vocabulary, 0)?;
        known().for_each(|(_, token)| ends[token] += 1);
        // Where they begin; counting them once more moves each to its end.
        let mut first = 0;
        for end in &mut ends {
            (*end, first) = (first, first + *end);
        }
        let mut places = filled(first, 0)?;
        for (place, token) in known() {
            places[ends[token]] = place;
            ends[token] += 1;
        }
        Ok(Self { places, ends })
    }

    fn of_token(&self, token: usize) -> &[usize] {
        let first = token.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.places[first..self.ends[token]]
    }
}
