//! Products of matrices on tensor cores: f32 sums, which are narrowed, counted and measured.
//!
//! A block computes tiles of 128 by 128 sums, one after the other.  Terms come 32 at a time, copied
//! into shared memory while the tensor cores are busy with those before.  A warp has 64 by 32 sums of the
//! tile, in pieces of 16 by 8, one instruction each for 16 terms.
//!
//! In shared memory the rows of a tile, as it lies in global memory, are cut into chunks of 16 bytes,
//! and the chunks of neighbouring rows exchanged, so that the rows of a matrix that a warp loads are
//! in different banks.

use core::array;

use adaloss_core::{format::Element, statistics::Classes};

use crate::{
    Block, Shared,
    block::{Factor, WARP},
    epilogue::{Epilogue, Sink, Store, Tally},
    memory::Out,
};

/// Threads of a block that multiplies.
pub const THREADS: u32 = 256;

/// Words of shared memory that it needs.
pub const SHARED_WORDS: usize = STAGES * STAGE_WORDS;

/// Rows and columns of a tile of sums.
pub const SIDE: usize = 128;

/// Terms that are copied at a time.
const DEPTH: usize = 32;

/// Elements of a chunk, which are copied together, and of a row or column of a matrix.
const CHUNK: usize = 8;

/// Sets of terms in shared memory: one is multiplied while the others are copied.
const STAGES: usize = 4;

/// Words of one operand's tile, and of a set of both.
const TILE_WORDS: usize = SIDE * DEPTH / 2;
const STAGE_WORDS: usize = 2 * TILE_WORDS;

/// Rows and columns of a warp's sums, and of the pieces that one instruction computes.
const WARP_SUMS: [usize; 2] = [64, 32];
const PIECE: [usize; 2] = [16, 8];
const PIECES: [usize; 2] = [WARP_SUMS[0] / PIECE[0], WARP_SUMS[1] / PIECE[1]];

/// Where sums are handed round: rows of them, behind the counters of a histogram, at a distance that keeps
/// the rows of a piece apart.
const SUMS: usize = Classes::COUNT;
const SUMS_ROW: usize = SIDE + CHUNK;

const _: () = assert!(SUMS + WARP_SUMS[0] * SUMS_ROW <= SHARED_WORDS);

/// Sums that a thread takes at a time, and how often there are as many in a row: half a chunk, since the sums of the
/// tile's other half are still in registers.
const FOUR: usize = CHUNK / 2;
const PER_ROW: usize = SIDE / FOUR;

const _: () = assert!(SUMS.is_multiple_of(FOUR) && SUMS_ROW.is_multiple_of(FOUR));

/// Tiles in a row of tiles that blocks compute at about the same time, whose operands are then in the
/// cache.
const BAND: usize = 8;

/// The operands of a product and its shape: `C = op(A) op(B)`, all row-major, where `op` transposes or
/// does not.
#[derive(Debug)]
#[repr(C)]
pub struct Product<E> {
    /// The first element of `A`, which has `rows * inner`.
    pub a: *const E,
    /// The first element of `B`, which has `inner * columns`.
    pub b: *const E,
    /// Rows of `C`.
    pub rows: usize,
    /// Terms of a sum.
    pub inner: usize,
    /// Columns of `C`.
    pub columns: usize,
}

impl<E> Clone for Product<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Product<E> {}

impl<E> Product<E> {
    /// Returns the number of its sums.
    pub const fn sums(&self) -> usize {
        self.rows * self.columns
    }

    /// Returns the number of tiles of its sums: no more blocks than that have something to do.
    pub const fn tiles(&self) -> usize {
        self.rows.div_ceil(SIDE) * self.columns.div_ceil(SIDE)
    }

    /// Returns where a tile begins: bands of columns from left to right, in each of them rows of tiles
    /// downwards.
    fn tile(&self, nth: usize) -> [usize; 2] {
        let [down, across] = [self.rows.div_ceil(SIDE), self.columns.div_ceil(SIDE)];
        let in_band = BAND * down.max(1);
        let (band, within) = (nth / in_band, nth % in_band);
        let first = BAND * band;
        let width = across.saturating_sub(first).clamp(1, BAND);
        [SIDE * (within / width), SIDE * (first + within % width)]
    }
}

/// Multiplies matrices and ends as an epilogue says, on all blocks of a grid.
///
/// Of `transposed`, the first says that `A` is stored as (inner, rows), the second that `B` is stored as
/// (columns, inner).  A sum is that of its terms in f32, in the order and with the rounding of the tensor
/// cores.
///
/// Blocks have [`THREADS`] threads and [`SHARED_WORDS`] of shared memory.
///
/// # Safety
///
/// As for [`apply`](crate::apply::apply); the operands have their elements.
#[inline(always)]
pub unsafe fn matmul<B: Block, E: Factor, F: Element>(
    block: &mut B,
    product: &Product<E>,
    transposed: [bool; 2],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise; an element is stored by one thread.
    unsafe { multiply(block, product, transposed, epilogue, to) };
}

/// Multiplies matrices and writes f32, or adds them to what is there: the weight gradients of several
/// micro-batches.
///
/// Outcome and histogram are those of the product.
///
/// # Safety
///
/// As for [`matmul`]; what is added to has been written.
#[inline(always)]
pub unsafe fn matmul_into<B: Block, E: Factor>(
    block: &mut B,
    product: &Product<E>,
    transposed: [bool; 2],
    adds: bool,
    to: Out<'_, f32>,
    epilogue: &Epilogue,
) {
    // SAFETY: as above.
    unsafe { multiply(block, product, transposed, epilogue, Sums { to, adds }) };
}

/// Where results in f32 go, and whether they are added to what is there.
#[derive(Clone, Copy)]
struct Sums<'a> {
    to: Out<'a, f32>,
    adds: bool,
}

impl Store<f32> for Sums<'_> {
    #[inline(always)]
    fn has_chunks(self) -> bool {
        self.to.has_chunks()
    }

    #[inline(always)]
    fn len(self) -> usize {
        self.to.len()
    }

    #[inline(always)]
    unsafe fn one(self, index: usize, x: f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let before = if self.adds { self.to.read(index) } else { None };
            self.to.write(index, before.map_or(x, |before| before + x));
        }
    }

    #[inline(always)]
    unsafe fn chunk<const N: usize>(self, index: usize, mut elements: [f32; N]) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.adds
                && let Some(before) = self.to.read_chunk::<N>(index)
            {
                elements = array::from_fn(|nth| before[nth] + elements[nth]);
            }
            self.to.write_chunk(index, elements);
        }
    }
}

/// Multiplies, narrows and stores.
///
/// # Safety
///
/// As for [`matmul`].
#[inline(always)]
unsafe fn multiply<B: Block, E: Factor, F: Element>(
    block: &mut B,
    product: &Product<E>,
    [transpose_a, transpose_b]: [bool; 2],
    epilogue: &Epilogue,
    to: impl Store<F>,
) {
    // SAFETY: the caller's promise.
    if unsafe { epilogue.is_off() } {
        return;
    }
    let &Product { a, b, rows, inner, columns } = product;
    let left = Operand::new(a, rows, inner, !transpose_a);
    let right = Operand::new(b, columns, inner, transpose_b);
    let (tiles, step) = (product.tiles(), block.blocks() as usize);
    let mut nth = block.index() as usize;
    while nth < tiles {
        let tile = product.tile(nth);
        // SAFETY: the caller's promise.
        unsafe {
            let sums = sums(block, &left, &right, tile);
            finish(block, [rows, columns], tile, &sums, epilogue, to);
        }
        nth += step;
    }
}

/// The sums of a warp's pieces, each thread's part of them.
type Pieces<B> = [[<B as Block>::Each<[f32; 4]>; PIECES[1]]; PIECES[0]];

/// Computes the sums of a tile.
///
/// # Safety
///
/// As for [`matmul`].
#[inline(always)]
unsafe fn sums<B: Block, E: Factor>(
    block: &mut B,
    left: &Operand<E>,
    right: &Operand<E>,
    [row, column]: [usize; 2],
) -> Pieces<B> {
    let (shared, terms) = (block.shared(), left.terms);
    let mut sums = array::from_fn(|_| array::from_fn(|_| block.each(|_| [0.0; 4])));
    let mut parts = block.each(|thread| [left.part(thread, row), right.part(thread, column)]);
    for set in 0..terms.div_ceil(DEPTH) + STAGES - 1 {
        // From here on all threads have what is multiplied now, and have done with what was multiplied
        // last, whose room is filled again.
        block.wait::<{ STAGES - 2 }>();
        block.barrier();
        if set * DEPTH < terms {
            let (word, left_over) = (stage(set), (terms - set * DEPTH).min(DEPTH) as u32);
            parts = block.map(&parts, |thread, [of_left, of_right]| {
                // SAFETY: the caller's promise.
                unsafe {
                    [
                        left.copy(shared, thread, word, of_left, left_over),
                        right.copy(shared, thread, word + TILE_WORDS as u32, of_right, left_over),
                    ]
                }
            });
        }
        block.commit();
        let Some(set) = set.checked_sub(STAGES - 1) else { continue };
        let word = stage(set);
        for chunk in (0..(DEPTH / CHUNK) as u32).step_by(2) {
            let a: [_; PIECES[0]] = array::from_fn(|piece| {
                let rows = block.each(|thread| {
                    let (matrix, row) = matrix_row(thread);
                    let line = (WARP_SUMS[0] * warp(thread)[0] + PIECE[0] * piece) as u32;
                    let of = left.word(line + 8 * (matrix % 2), chunk + matrix / 2, row);
                    (word + of) as usize
                });
                block.load_matrices(&rows, !left.by_terms)
            });
            // Two pieces at a time, which leaves registers free.
            for pair in 0..PIECES[1] / 2 {
                let rows = block.each(|thread| {
                    let (matrix, row) = matrix_row(thread);
                    let line = (WARP_SUMS[1] * warp(thread)[1] + 2 * PIECE[1] * pair) as u32;
                    let of = right.word(line + 8 * (matrix / 2), chunk + matrix % 2, row);
                    (word + TILE_WORDS as u32 + of) as usize
                });
                let b = block.load_matrices(&rows, !right.by_terms);
                let one = block.map(&b, |_, [upper, lower, ..]| [upper, lower]);
                let other = block.map(&b, |_, [.., upper, lower]| [upper, lower]);
                for (a, sums) in a.iter().zip(&mut sums) {
                    block.multiply::<E>(a, &one, &mut sums[2 * pair]);
                    block.multiply::<E>(a, &other, &mut sums[2 * pair + 1]);
                }
            }
        }
    }
    block.wait::<0>();
    block.barrier();
    sums
}

/// Returns the word where a set of terms begins.
///
/// Places in shared memory are u32 here, since a GPU's registers have 32 bits.
#[inline(always)]
const fn stage(set: usize) -> u32 {
    (set % STAGES) as u32 * STAGE_WORDS as u32
}

/// Narrows, counts and measures the sums of a tile, row by row.
///
/// # Safety
///
/// As for [`matmul`].
#[inline(always)]
unsafe fn finish<B: Block, F: Element>(
    block: &mut B,
    [rows, columns]: [usize; 2],
    [row, column]: [usize; 2],
    sums: &Pieces<B>,
    epilogue: &Epilogue,
    to: impl Store<F>,
) {
    // SAFETY: the caller's promise.
    let sink = unsafe { Sink::<F>::open(block, epilogue) };
    let shared = block.shared();
    // Then four that begin in a row are all in that row, and can be stored at once.
    let by_fours = to.has_chunks() && columns.is_multiple_of(FOUR);
    let mut tallies = block.each(|_| Tally::EMPTY);
    for half in 0..SIDE / WARP_SUMS[0] {
        for (piece, sums) in sums.iter().enumerate() {
            for (across, sums) in sums.iter().enumerate() {
                block.map(sums, |thread, sums| {
                    let [down, right] = warp(thread);
                    if down != half {
                        return;
                    }
                    let thread = (thread % WARP) as usize;
                    let row = PIECE[0] * piece + thread / 4;
                    let column = WARP_SUMS[1] * right + PIECE[1] * across + 2 * (thread % 4);
                    let word = SUMS + SUMS_ROW * row + column;
                    let [a, b, c, d] = sums.map(f32::to_bits);
                    shared.store_wide(word / 2, [a, b]);
                    shared.store_wide((word + 8 * SUMS_ROW) / 2, [c, d]);
                });
            }
        }
        block.barrier();
        let row = row + WARP_SUMS[0] * half;
        tallies = block.map(&tallies, |thread, mut tally| {
            for place in (thread..(WARP_SUMS[0] * PER_ROW) as u32).step_by(THREADS as usize) {
                let (down, across) = (place as usize / PER_ROW, FOUR * (place as usize % PER_ROW));
                let (row, column) = (row + down, column + across);
                let word = SUMS + SUMS_ROW * down + across;
                let first = row * columns + column;
                let one = |index| f32::from_bits(shared.load(word + (index - first)));
                if row < rows && by_fours && column < columns {
                    let values = shared.load_four(word / FOUR).map(f32::from_bits);
                    // SAFETY: the caller's promise; the places are this thread's alone.
                    unsafe { sink.put_chunk::<B, _>(shared, &mut tally, first, values, one, to) };
                } else if row < rows {
                    for index in first..first + FOUR.min(columns.saturating_sub(column)) {
                        if let Some(x) = sink.take::<B>(shared, &mut tally, index, one(index)) {
                            // SAFETY: as above.
                            unsafe { to.one(index, x) };
                        }
                    }
                }
            }
            tally
        });
        block.barrier();
    }
    sink.close(block, &tallies);
    block.barrier();
}

/// Returns the place of a thread's warp in the block: which of those below each other, and beside each
/// other.
#[inline(always)]
const fn warp(thread: u32) -> [usize; 2] {
    let warp = (thread / WARP) as usize;
    [warp / (SIDE / WARP_SUMS[1]), warp % (SIDE / WARP_SUMS[1])]
}

/// Returns which row of which of four matrices a thread names.
#[inline(always)]
const fn matrix_row(thread: u32) -> (u32, u32) {
    let thread = thread % WARP;
    (thread / 8, thread % 8)
}

/// An operand: lines of terms, which are rows of `op(A)` or columns of `op(B)`.
#[derive(Clone, Copy)]
struct Operand<E> {
    first: *const E,
    lines: usize,
    terms: usize,
    /// The terms of a line lie side by side; otherwise the lines' terms with one index do.
    by_terms: bool,
    /// Every chunk begins at a multiple of 16 bytes.
    aligned: bool,
}

impl<E: Factor> Operand<E> {
    #[inline(always)]
    fn new(first: *const E, lines: usize, terms: usize, by_terms: bool) -> Self {
        let row = if by_terms { terms } else { lines };
        let aligned = first.addr().is_multiple_of(16) && row.is_multiple_of(CHUNK);
        Self { first, lines, terms, by_terms, aligned }
    }

    /// Returns the word of a tile where a row of a matrix begins.  The matrix has the lines from `line` on
    /// and a chunk of the tile's terms, or as many lines as a chunk has; both are multiples of 8.
    #[inline(always)]
    const fn word(&self, line: u32, chunk: u32, row: u32) -> u32 {
        if self.by_terms {
            self.place(line + row, chunk)
        } else {
            self.place(CHUNK as u32 * chunk + row, line / CHUNK as u32)
        }
    }

    /// Returns the word of a tile where a chunk of a row begins.
    #[inline(always)]
    const fn place(&self, row: u32, chunk: u32) -> u32 {
        if self.by_terms {
            (DEPTH / 2) as u32 * row + 4 * (chunk ^ (row / 2 % 4))
        } else {
            (SIDE / 2) as u32 * row + 4 * (chunk ^ (row % 8))
        }
    }

    /// Returns the row of a tile that a thread's first chunk is in, and its place in that row.
    #[inline(always)]
    const fn chunk(&self, thread: u32) -> [u32; 2] {
        let per_row = (if self.by_terms { DEPTH } else { SIDE } / CHUNK) as u32;
        [thread / per_row, thread % per_row]
    }

    /// Returns how many rows of a tile lie between a thread's chunks.
    #[inline(always)]
    const fn distance(&self) -> usize {
        THREADS as usize * CHUNK / if self.by_terms { DEPTH } else { SIDE }
    }

    /// Returns a thread's part of the first tile of its lines, the first of which is `line`.
    #[inline(always)]
    fn part(&self, thread: u32, line: usize) -> Part<E> {
        let Self { first, lines, terms, by_terms, .. } = *self;
        let [row, chunk] = self.chunk(thread);
        let (row, column) = (row as usize, CHUNK * chunk as usize);
        let (index, widths) = if by_terms {
            let width = |nth| match line + row + self.distance() * nth < lines {
                true => CHUNK,
                false => 0,
            };
            ((line + row) * terms + column, array::from_fn(width))
        } else {
            let width = lines.saturating_sub(line + column).min(CHUNK);
            (row * lines + line + column, [width; CHUNKS])
        };
        // Beyond the operand nothing is read.
        Part { from: first.wrapping_add(index), widths: widths.map(|width| width as u32) }
    }

    /// Begins to copy a thread's part of a tile, of which `left` terms are there, and returns that of the next; beyond
    /// the matrix there is zero.
    ///
    /// # Safety
    ///
    /// The operand has its elements, and nobody writes them.
    #[inline(always)]
    unsafe fn copy(
        &self,
        shared: impl Shared,
        thread: u32,
        word: u32,
        part: Part<E>,
        left: u32,
    ) -> Part<E> {
        let [row, chunk] = self.chunk(thread);
        let word = word + self.place(row, chunk);
        let (stride, step) = match self.by_terms {
            true => (self.distance() * self.terms, DEPTH),
            false => (self.distance() * self.lines, DEPTH * self.lines),
        };
        let chunks = part.widths.into_iter().enumerate().map(|(nth, width)| {
            let down = (self.distance() * nth) as u32;
            let there = match self.by_terms {
                true => width.min(left.saturating_sub(CHUNK as u32 * chunk)),
                false if row + down < left => width,
                false => 0,
            };
            // Rows that are so far apart are exchanged alike.
            let word = (word + self.place(down, 0)) as usize;
            (word, part.from.wrapping_add(stride * nth), there)
        });
        // SAFETY: so many elements are there, from a multiple of 16 bytes on if they are aligned.
        unsafe {
            if self.aligned {
                chunks.for_each(|(word, from, there)| {
                    shared.copy(word, from.cast(), there * size_of::<E>() as u32);
                });
            } else {
                chunks.for_each(|(word, from, there)| {
                    Self::gather(shared, word, from, there as usize);
                });
            }
        }
        Part { from: part.from.wrapping_add(step), ..part }
    }

    /// Copies so many elements of a chunk, one by one, and zeros behind them.
    ///
    /// # Safety
    ///
    /// So many are there.
    #[inline(always)]
    unsafe fn gather(shared: impl Shared, word: usize, from: *const E, there: usize) {
        let element = |nth: usize| match nth < there {
            // SAFETY: the caller's promise.
            true => unsafe { (*from.add(nth)).to_bits() },
            false => 0,
        };
        for nth in 0..CHUNK / 2 {
            shared.store(word + nth, element(2 * nth + 1) << 16 | element(2 * nth));
        }
    }
}

/// Chunks of a tile that a thread copies.
const CHUNKS: usize = SIDE * DEPTH / CHUNK / THREADS as usize;

/// A thread's part of an operand's next tile.
#[derive(Clone, Copy, Debug)]
struct Part<E> {
    /// The first element of its first chunk.
    from: *const E,
    /// The elements of each chunk, as long as there are terms.
    widths: [u32; CHUNKS],
}

#[cfg(test)]
mod tests {
    use std::{ptr, vec::Vec};

    use adaloss_core::format::f16;

    use super::*;

    #[test]
    fn tiles_cover_the_sums_once() {
        for [rows, columns] in
            [[1, 1], [128, 129], [300, 1025], [1, 4000], [2000, 1], [0, 5], [700, 2900]]
        {
            let product =
                Product::<f16> { a: ptr::null(), b: ptr::null(), rows, inner: 1, columns };
            let mut tiles: Vec<_> = (0..product.tiles()).map(|nth| product.tile(nth)).collect();
            tiles.sort_unstable();
            let every = (0..rows)
                .step_by(SIDE)
                .flat_map(|row| (0..columns).step_by(SIDE).map(move |column| [row, column]));
            assert!(tiles.into_iter().eq(every), "{rows} x {columns}");
        }
    }

    #[test]
    fn chunks_have_places_of_their_own() {
        for by_terms in [false, true] {
            let operand = Operand::<f16>::new(ptr::null(), SIDE, DEPTH, by_terms);
            let (rows, chunks) =
                if by_terms { (SIDE, DEPTH / CHUNK) } else { (DEPTH, SIDE / CHUNK) };
            let (rows, chunks) = (rows as u32, chunks as u32);
            let place = |row| (0..chunks).map(move |chunk| operand.place(row, chunk));
            let mut places: Vec<_> = (0..rows).flat_map(place).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq((0..TILE_WORDS as u32).step_by(4)));
            // The rows of a matrix are in different banks: 8 times 16 bytes of 128.
            for matrix in 0..rows / 8 {
                let (line, chunk) = if by_terms { (8 * matrix, 1) } else { (8, matrix) };
                let mut banks: Vec<_> =
                    (0..8).map(|row| operand.word(line, chunk, row) / 4 % 8).collect();
                banks.sort_unstable();
                assert!(banks.into_iter().eq(0..8));
            }
        }
    }
}
