//! Embedding of tokens.

use adaloss_core::format::Element;

use crate::{
    device::Device,
    kind::OperationKind,
    operation::{Operation, Visitor},
    plain::Plain,
    run::{Run, has},
    shape::Shape,
    space::AddressSpace,
};

/// Copies row `tokens[i]` of a (vocabulary, width) table to row `i`; a token beyond the vocabulary gives +0.
pub struct Embed<'r, 'w, S: AddressSpace, W: Plain> {
    /// Features of a row.
    pub width: usize,
    /// The tokens.
    pub tokens: S::Ref<'r, u32>,
    /// The table, of whole rows.
    pub table: S::Ref<'r, W>,
    /// A row per token.
    pub to: S::Mut<'w, W>,
}

impl<S: AddressSpace, W: Element + Plain> Operation for Embed<'_, '_, S, W> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Embed;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Width(self.width))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let (tokens, table) = (S::len(self.tokens), S::len(self.table));
        visitor.needs(WHOLE_ROWS, has_whole_rows(table, self.width));
        visitor.input("the tokens", Some(tokens), &mut self.tokens);
        visitor.input("the table", None, &mut self.table);
        visitor.output("the rows", Some(tokens.saturating_mul(self.width)), &mut self.to);
    }
}

/// Sums, in f32, the rows of a gradient that belong to the same token; the rows of tokens that do not occur are +0, and
/// tokens beyond the vocabulary are left out.
///
/// Sums start at +0 and carry the scale of the gradient.  A device with
/// [sequential sums](crate::Capabilities::sequential_sums) adds the rows in the order of the tokens.
pub struct EmbedTable<'r, 'w, S: AddressSpace, G: Plain> {
    /// Features of a row.
    pub width: usize,
    /// The tokens.
    pub tokens: S::Ref<'r, u32>,
    /// A row per token.
    pub gradient: S::Ref<'r, G>,
    /// The gradient of the table, of whole rows.
    pub to: S::Mut<'w, f32>,
}

impl<S: AddressSpace, G: Element + Plain> Operation for EmbedTable<'_, '_, S, G> {
    type Space = S;

    const KIND: OperationKind = OperationKind::EmbedTable;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Width(self.width))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let (tokens, table) = (S::len(self.tokens), S::len(S::shared(&self.to)));
        visitor.needs(WHOLE_ROWS, has_whole_rows(table, self.width));
        visitor.input("the tokens", Some(tokens), &mut self.tokens);
        let rows = tokens.saturating_mul(self.width);
        visitor.input("the gradient", Some(rows), &mut self.gradient);
        visitor.output("the gradient of the table", None, &mut self.to);
    }
}

/// What a table has to be.
const WHOLE_ROWS: &str = "a table of whole rows";

const fn has_whole_rows(table: usize, width: usize) -> bool {
    width > 0 && table.is_multiple_of(width)
}

has! {
    /// A device that has [`Embed`] of tables in `W`, and [`EmbedTable`] of gradients in `G`.
    pub trait HasEmbed<W, G>:
        for<'r, 'w> Run<Embed<'r, 'w, <Self as Device>::Space, W>>
        + for<'r, 'w> Run<EmbedTable<'r, 'w, <Self as Device>::Space, G>>
}
