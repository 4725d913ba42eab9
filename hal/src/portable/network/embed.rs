//! Embedding, token by token.

use adaloss_core::format::Element;

use crate::{
    host::HostError,
    network::{Embed, EmbedTable},
    plain::Plain,
    portable::Portable,
    run::{Fitting, Run},
    space::HostSpace,
};

impl<W: Element + Plain> Run<Embed<'_, '_, HostSpace, W>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Embed<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Embed { width, tokens, table, to } = operation.into_inner();
        let width = *width;
        for (&token, to) in tokens.iter().zip(to.chunks_exact_mut(width)) {
            match table.chunks_exact(width).nth(token as usize) {
                Some(row) => to.copy_from_slice(row),
                None => to.fill(W::from_bits(0)),
            }
        }
        Ok(())
    }
}

impl<G: Element + Plain> Run<EmbedTable<'_, '_, HostSpace, G>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, EmbedTable<'_, '_, HostSpace, G>>,
    ) -> Result<(), HostError> {
        let EmbedTable { width, tokens, gradient, to } = operation.into_inner();
        let width = *width;
        to.fill(0.0);
        for (&token, gradient) in tokens.iter().zip(gradient.chunks_exact(width)) {
            if let Some(sums) = to.chunks_exact_mut(width).nth(token as usize) {
                sums.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x.widen());
            }
        }
        Ok(())
    }
}
