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
    epilogue::{Epilogue, Sink, Tally},
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
    unsafe {
        multiply(block, product, transposed, epilogue, |index, x| to.write(index, x));
    }
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
    unsafe {
        multiply(block, product, transposed, epilogue, |index, x: f32| {
            let before = if adds { to.read(index) } else { None };
            to.write(index, before.map_or(x, |before| before + x));
        });
    }
}

/// Multiplies and narrows, and calls a function with each result and its place.
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
    store: impl Fn(usize, F),
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
            finish(block, [rows, columns], tile, &sums, epilogue, &store);
        }
        nth += step;
    }
}

/// The sums of a warp's pieces, each thread's part of them.
type Sums<B> = [[<B as Block>::Each<[f32; 4]>; PIECES[1]]; PIECES[0]];

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
) -> Sums<B> {
    let (shared, terms) = (block.shared(), left.terms);
    let mut sums = array::from_fn(|_| array::from_fn(|_| block.each(|_| [0.0; 4])));
    for set in 0..terms.div_ceil(DEPTH) + STAGES - 1 {
        // From here on all threads have what is multiplied now, and have done with what was multiplied
        // last, whose room is filled again.
        block.wait::<{ STAGES - 2 }>();
        block.barrier();
        let (word, term) = (stage(set), set * DEPTH);
        if term < terms {
            block.each(|thread| {
                // SAFETY: the caller's promise.
                unsafe {
                    left.copy(shared, thread, word, row, term);
                    right.copy(shared, thread, word + TILE_WORDS as u32, column, term);
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
    sums: &Sums<B>,
    epilogue: &Epilogue,
    store: impl Fn(usize, F),
) {
    // SAFETY: the caller's promise.
    let sink = unsafe { Sink::<F>::open(block, epilogue) };
    let shared = block.shared();
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
            for place in (thread..(WARP_SUMS[0] * SIDE) as u32).step_by(THREADS as usize) {
                let (down, right) = (place as usize / SIDE, place as usize % SIDE);
                if row + down < rows && column + right < columns {
                    let x = f32::from_bits(shared.load(SUMS + SUMS_ROW * down + right));
                    let index = (row + down) * columns + column + right;
                    if let Some(x) = sink.take::<B>(shared, &mut tally, index, x) {
                        store(index, x);
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

    /// Begins to copy a thread's part of a tile; beyond the matrix there is zero.
    ///
    /// # Safety
    ///
    /// The operand has its elements, and nobody writes them.
    #[inline(always)]
    unsafe fn copy(&self, shared: impl Shared, thread: u32, word: u32, line: usize, term: usize) {
        let Self { first, lines, terms, by_terms, aligned } = *self;
        let (per_row, [rows, columns], [row, column]) = if by_terms {
            (DEPTH / CHUNK, [lines, terms], [line, term])
        } else {
            (SIDE / CHUNK, [terms, lines], [term, line])
        };
        for chunk in (thread as usize..SIDE * DEPTH / CHUNK).step_by(THREADS as usize) {
            let (down, chunk) = (chunk / per_row, chunk % per_row);
            let (row, column) = (row + down, column + CHUNK * chunk);
            let there = if row < rows { columns.saturating_sub(column).min(CHUNK) } else { 0 };
            let index = if there > 0 { row * columns + column } else { 0 };
            let word = (word + self.place(down as u32, chunk as u32)) as usize;
            if aligned {
                let bytes = (there * size_of::<E>()) as u32;
                // SAFETY: so many elements are there from the index on, which is that of a chunk.
                unsafe { shared.copy(word, first.wrapping_add(index).cast(), bytes) };
                continue;
            }
            let element = |nth: usize| match nth < there {
                // SAFETY: as above.
                true => unsafe { (*first.add(index + nth)).to_bits() },
                false => 0,
            };
            for nth in 0..CHUNK / 2 {
                shared.store(word + nth, element(2 * nth + 1) << 16 | element(2 * nth));
            }
        }
    }
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
