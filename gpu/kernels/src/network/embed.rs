//! Embedding of tokens.

use core::array;

use adaloss_core::format::Element;

use super::{
    columns::FOUR,
    operand::Operand,
    sliding::split,
    warps::{Row, each_row},
};
use crate::{
    Block,
    block::{Share, WARP, fold_warp},
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

/// The most tokens that are linked at a time, so that the work of linking grows with the tokens, and no faster.
pub const LINKED: usize = 1 << 14;

/// The bit of a link that says that no token before it is the same.
const IS_FIRST: u32 = 1 << 31;

/// What a link says where no token behind it is the same; its other values are the next token that is.
const NO_NEXT: u32 = IS_FIRST - 1;

/// Links each of up to [`LINKED`] tokens with the next that is the same, and tells the first of them: a warp looks at all others.
///
/// # Safety
///
/// There is a link for each token, and nobody else reads or writes them during the launch.
pub unsafe fn embed_links<B: Block>(block: &mut B, tokens: &[u32], links: Out<'_, u32>) {
    let count = tokens.len();
    each_row(block, count, (), |block, row, _| {
        let found = block.map(&row, |thread, Row { row, .. }| {
            let (token, lane) = (tokens.get(row), (thread % WARP) as usize);
            let mut before = Share::of(lane..row, WARP as usize);
            let mut behind = Share::of(row + 1 + lane..count, WARP as usize);
            let is_first = !before.any(|nth| tokens.get(nth) == token);
            let next = behind.find(|&nth| tokens.get(nth) == token);
            [is_first.into(), next.map_or(NO_NEXT, |next| next as u32)]
        });
        let found = fold_warp(block, found, Ord::min);
        block.zip(&row, &found, |thread, Row { row, is_own }, [is_first, next]| {
            if is_own && thread % WARP == 0 {
                // SAFETY: each token is one warp's.
                unsafe { links.write(row, (is_first * IS_FIRST) | next) };
            }
        })
    });
}

/// Adds, in f32, the rows of a gradient that belong to the same token to its row of the table, in the order of the tokens:
/// those up to [`LINKED`] tokens from `first` on, whose links are there.  Tokens beyond the table add to nothing.
///
/// # Safety
///
/// The gradient has a row for each token, and each of those linked a link; nobody writes them during the launch, or else reads or
/// writes `to`.
pub unsafe fn embed_table<B: Block>(
    block: &mut B,
    width: usize,
    (tokens, first): (&[u32], usize),
    links: *const u32,
    gradient: Operand,
    to: Out<'_, f32>,
) {
    let by_fours = width.is_multiple_of(FOUR) && gradient.has_chunks() && to.has_chunks();
    let tokens = tokens.get(first..).unwrap_or(&[]);
    let tokens = tokens.get(..LINKED).unwrap_or(tokens);
    // SAFETY: the caller's promise, here and below.
    let link = |nth: usize| unsafe { *links.add(nth) };
    let add = |nth: usize, column: usize| {
        let Some(&token) = tokens.get(nth) else { return };
        let mut at = link(nth);
        if at & IS_FIRST == 0 {
            return;
        }
        let mut nth = nth;
        let place = (token as usize).saturating_mul(width).saturating_add(column);
        // SAFETY: as above; the row of the table is for those who have the first token.
        unsafe {
            if by_fours {
                let Some(mut sums) = to.read_chunk::<FOUR>(place) else { return };
                loop {
                    let from = (first + nth) * width + column;
                    let [x]: [[f32; FOUR]; 1] = gradient.read_chunks([from]);
                    sums = array::from_fn(|place| sums[place] + x[place]);
                    nth = (at & NO_NEXT) as usize;
                    if nth == NO_NEXT as usize {
                        break;
                    }
                    at = link(nth);
                }
                to.write_chunk(place, sums);
            } else {
                let Some(mut sum) = to.read(place) else { return };
                loop {
                    sum += gradient.read((first + nth) * width + column);
                    nth = (at & NO_NEXT) as usize;
                    if nth == NO_NEXT as usize {
                        break;
                    }
                    at = link(nth);
                }
                to.write(place, sum);
            }
        }
    };
    let step = if by_fours { FOUR } else { 1 };
    let of_row = width / step;
    each_place(
        block,
        tokens.len() * of_row,
        false,
        |_| (),
        |place| {
            let (nth, part) = split(place, of_row);
            add(nth, step * part);
        },
    );
}
