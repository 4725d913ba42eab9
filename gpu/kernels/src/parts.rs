//! Sums of a product whose terms were cut into parts, of which a launch computed the sums one after the other.
//!
//! A product has a tile of 128 by 128 sums for each block.  A weight gradient has few, each with as many terms as a
//! micro-batch has tokens or pixels, and would leave most of a GPU idle.  Into how many parts the terms are cut is said by the
//! shape alone, and parts are added in their order, so that the bits are the same whatever the launch; they are others than
//! those of a sum in one part.

use core::array;

use adaloss_core::format::Element;

use crate::{
    Block,
    block::share,
    epilogue::{Epilogue, Sink, Store, Tally},
    matmul::{Product, Sums},
    memory::{CHUNK, NOTHING, Out, has_chunks, read_chunk},
    tensor_cores::SIDE,
};

/// Tiles, of all parts, beyond which no more parts are made: about as many as large GPUs compute at a time.
const MOST_TILES: usize = 256;

/// The fewest terms that are worth a part: what it costs is that its sums are written and read.
const FEWEST_TERMS: usize = 1024;

/// The most results that parts have together.
pub const MOST_RESULTS: usize = MOST_TILES * SIDE * SIDE;

/// Returns into how many parts the terms of a product of one part are to be cut.
///
/// ```
/// # use adaloss_kernels::{matmul::Product, parts::parts};
/// let of = |rows, inner, columns| {
///     Product::<f32> { a: &0.0, b: &0.0, bias: &0.0, rows, inner, columns, parts: 1 }
/// };
/// assert_eq!(parts(&of(1024, 1024, 1024)), 1);
/// // One tile, and two.
/// assert_eq!(parts(&of(64, 100_352, 64)), 98);
/// assert_eq!(parts(&of(64, 401_408, 147)), 128);
/// ```
pub const fn parts<E>(of: &Product<E>) -> usize {
    parts_of(of.tiles(), of.inner)
}

/// Returns into how many parts so many terms are to be cut, of sums of so many tiles.
pub const fn parts_of(tiles: usize, terms: usize) -> usize {
    let [by_tiles, by_terms] =
        [MOST_TILES / if tiles > 0 { tiles } else { 1 }, terms / FEWEST_TERMS];
    let parts = if by_tiles < by_terms { by_tiles } else { by_terms };
    if parts > 1 { parts } else { 1 }
}

/// Adds up parts, of which each has a sum for every result, and ends as an epilogue says, on all blocks of a grid.
///
/// # Safety
///
/// As for [`apply`](crate::apply::apply).
#[inline(always)]
pub unsafe fn add_parts<B: Block, F: Element>(
    block: &mut B,
    parts: &[f32],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise; an element is stored by one thread.
    unsafe { add(block, parts, to, epilogue) };
}

/// Adds up parts, and writes the sums or adds them to what is there.
///
/// # Safety
///
/// As for [`add_parts`]; what is added to has been written.
#[inline(always)]
pub unsafe fn add_parts_into<B: Block>(
    block: &mut B,
    parts: &[f32],
    adds: bool,
    to: Out<'_, f32>,
    epilogue: &Epilogue,
) {
    // SAFETY: as above.
    unsafe { add(block, parts, Sums { to, adds }, epilogue) };
}

/// # Safety
///
/// As for [`add_parts`].
#[inline(always)]
unsafe fn add<B: Block, F: Element>(
    block: &mut B,
    parts: &[f32],
    to: impl Store<F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise.
    if unsafe { epilogue.is_off() } {
        return;
    }
    // SAFETY: the caller's promise.
    let sink = unsafe { Sink::<F>::open(block, epilogue) };
    let (shared, count) = (block.shared(), to.len());
    let by_chunks = to.has_chunks() && has_chunks(parts.as_ptr()) && count.is_multiple_of(CHUNK);
    let of_chunks = share(block, if by_chunks { count / CHUNK } else { 0 });
    let of_rest = share(block, if by_chunks { 0 } else { count });
    let one = |index: usize| {
        let sum = |sum, part: &[f32]| sum + part.get(index).copied().unwrap_or(0.0);
        parts.chunks_exact(count.max(1)).fold(NOTHING, sum)
    };
    let tallies = block.each(|thread| {
        let mut tally = Tally::EMPTY;
        for nth in of_chunks(thread) {
            let first = CHUNK * nth;
            let mut sums = [NOTHING; CHUNK];
            let mut at = first;
            while at + CHUNK <= parts.len() {
                // SAFETY: so many are there.
                let part = unsafe { read_chunk::<f32, CHUNK>(parts.as_ptr().add(at)) };
                sums = array::from_fn(|nth| sums[nth] + part[nth]);
                at += count;
            }
            // SAFETY: each chunk is in one share.
            unsafe { sink.put_chunk::<B, CHUNK>(shared, &mut tally, first, sums, one, to) };
        }
        for index in of_rest(thread) {
            if let Some(x) = sink.take::<B>(shared, &mut tally, index, one(index)) {
                // SAFETY: each place is in one share.
                unsafe { to.one(index, x) };
            }
        }
        tally
    });
    sink.close(block, &tallies);
}
