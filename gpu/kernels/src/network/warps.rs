//! Rows that are a warp's each.

use crate::{
    Block,
    block::{Share, WARP},
};

/// A row that a warp works on.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Its number: that of the last one where there are no more rows.
    pub(super) row: usize,
    /// Whether no other warp works on it.
    pub(super) is_own: bool,
}

/// Hands rows to warps, and to each thread what it has of its own.
///
/// Warps that there is no row for are given the last one.  They do what others do until all of a warp have done something
/// together: a test in front of that, and the same behind it, would be led around it by an optimiser.
#[inline(always)]
pub(super) fn each_row<B: Block, T: Copy>(
    block: &mut B,
    rows: usize,
    own: T,
    work: impl Fn(&mut B, B::Each<Row>, B::Each<T>) -> B::Each<T>,
) -> B::Each<T> {
    let warps = (block.threads() / WARP) as usize;
    let mut own = block.each(|_| own);
    let first = block.index() as usize * warps;
    for first in Share::of(first..rows, block.blocks() as usize * warps) {
        let row = block.each(|thread| {
            let row = first + (thread / WARP) as usize;
            Row { row: if row < rows { row } else { rows - 1 }, is_own: row < rows }
        });
        own = work(block, row, own);
        // It tells the assembler that the block stays together in this loop, which it doubts otherwise.
        block.barrier();
    }
    own
}
