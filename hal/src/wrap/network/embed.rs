//! Embedding, handed on.

use adaloss_core::format::Element;

use crate::{
    Mut, OperationKind, Plain, Ref,
    network::Embed,
    wrap::{Hook, Shape, Wrapped},
};

impl<W, G, D, H> Embed<W, G> for Wrapped<D, H>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Embed<W, G>,
    H: Hook<D>,
{
    fn embed(
        &mut self,
        width: usize,
        tokens: Ref<'_, D, u32>,
        table: Ref<'_, D, W>,
        to: Mut<'_, D, W>,
    ) -> Result<(), H::Error> {
        self.run_filling(OperationKind::Embed, Shape::Width(width), to, |device, to| {
            device.embed(width, tokens, table, to)
        })
    }

    fn embed_table(
        &mut self,
        width: usize,
        tokens: Ref<'_, D, u32>,
        gradient: Ref<'_, D, G>,
        to: Mut<'_, D, f32>,
    ) -> Result<(), H::Error> {
        self.run_filling(OperationKind::EmbedTable, Shape::Width(width), to, |device, to| {
            device.embed_table(width, tokens, gradient, to)
        })
    }
}
