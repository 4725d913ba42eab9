//! Embedding of tokens.

use adaloss_core::format::Element;

use crate::{Device, Mut, Plain, Ref};

/// A device that looks tokens up in tables of `W` and sums gradients in `G` by token.
pub trait Embed<W: Element + Plain, G: Element + Plain>: Device {
    /// Copies row `tokens[i]` of a (vocabulary, width) table to row `i`; a token beyond the
    /// vocabulary gives +0.
    ///
    /// # Errors
    ///
    /// The width is 0, the table is not of whole rows, or `to` does not have a row per token.
    fn embed(
        &mut self,
        width: usize,
        tokens: Ref<'_, Self, u32>,
        table: Ref<'_, Self, W>,
        to: Mut<'_, Self, W>,
    ) -> Result<(), Self::Error>;

    /// Sums, in f32, the rows of a gradient that belong to the same token; the rows of tokens that do
    /// not occur are +0, and tokens beyond the vocabulary are left out.
    ///
    /// Sums start at +0 and carry the scale of the gradient.  A device with
    /// [sequential sums](crate::Capabilities::sequential_sums) adds the rows in the order of the
    /// tokens.
    ///
    /// # Errors
    ///
    /// As [`embed`](Self::embed).
    fn embed_table(
        &mut self,
        width: usize,
        tokens: Ref<'_, Self, u32>,
        gradient: Ref<'_, Self, G>,
        to: Mut<'_, Self, f32>,
    ) -> Result<(), Self::Error>;
}
