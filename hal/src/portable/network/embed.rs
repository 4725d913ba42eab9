//! Embedding, token by token.

use adaloss_core::format::Element;

use crate::{
    Plain,
    network::Embed,
    portable::{Portable, PortableError, possible, same_length},
};

impl<W: Element + Plain, G: Element + Plain> Embed<W, G> for Portable {
    fn embed(
        &mut self,
        width: usize,
        tokens: &[u32],
        table: &[W],
        to: &mut [W],
    ) -> Result<(), PortableError> {
        possible("table", width > 0 && table.len().is_multiple_of(width))?;
        same_length("the rows of tokens", tokens.len().saturating_mul(width), to.len())?;
        for (&token, to) in tokens.iter().zip(to.chunks_exact_mut(width)) {
            match table.chunks_exact(width).nth(token as usize) {
                Some(row) => to.copy_from_slice(row),
                None => to.fill(W::from_bits(0)),
            }
        }
        Ok(())
    }

    fn embed_table(
        &mut self,
        width: usize,
        tokens: &[u32],
        gradient: &[G],
        to: &mut [f32],
    ) -> Result<(), PortableError> {
        possible("table", width > 0 && to.len().is_multiple_of(width))?;
        same_length("the rows of tokens", tokens.len().saturating_mul(width), gradient.len())?;
        to.fill(0.0);
        for (&token, gradient) in tokens.iter().zip(gradient.chunks_exact(width)) {
            if let Some(sums) = to.chunks_exact_mut(width).nth(token as usize) {
                sums.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x.widen());
            }
        }
        Ok(())
    }
}
