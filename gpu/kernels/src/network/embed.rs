//! Embedding of tokens.

use adaloss_core::format::Element;

use super::{operand::Operand, sliding::split};
use crate::{
    Block,
    memory::{Out, each_place},
};

/// Copies the row of each token; a token beyond the table gives +0.
///
/// # Safety
///
/// There is a row of results for each token, and nobody else reads or writes them during the launch.
pub unsafe fn embed<B: Block, F: Element>(
    block: &mut B,
    width: usize,
    tokens: &[u32],
    table: &[F],
    to: Out<'_, F>,
) {
    let copy = |place: usize| {
        let (row, column) = split(place, width);
        let Some(&token) = tokens.get(row) else { return };
        let from = (token as usize).saturating_mul(width).saturating_add(column);
        let x = table.get(from).copied().unwrap_or(F::from_bits(0));
        // SAFETY: each place is handed to one thread.
        unsafe { to.write(place, x) };
    };
    each_place(block, to.len(), false, |_| (), copy);
}

/// Sums, in f32, the rows of a gradient that belong to the same token, in the order of the tokens: each element of the table by one
/// thread, which looks at all tokens.
///
/// # Safety
///
/// The gradient has a row for each token; nobody writes it during the launch, or else reads or writes `to`.
pub unsafe fn embed_table<B: Block>(
    block: &mut B,
    width: usize,
    tokens: &[u32],
    gradient: Operand,
    to: Out<'_, f32>,
) {
    let sum = |place: usize| {
        let (row, column) = split(place, width);
        let mut sum = 0.0;
        for (nth, &token) in tokens.iter().enumerate() {
            if token as usize == row {
                // SAFETY: the caller's promise.
                sum += unsafe { gradient.read(nth * width + column) };
            }
        }
        // SAFETY: each place is handed to one thread.
        unsafe { to.write(place, sum) };
    };
    each_place(block, to.len(), false, |_| (), sum);
}
