//! Products of matrices on tensor cores: f32 sums, which are narrowed, counted and measured.
//!
//! A block computes tiles of 128 by 128 sums, one after the other.  Terms come 32 at a time, copied
//! into shared memory while the tensor cores are busy with those before.  A warp has 64 by 64 sums of the
//! tile, in pieces of 16 by 8, one instruction each for 16 terms: 128 registers of each thread, so that what is
//! loaded for a piece is used four or eight times.
//!
//! In shared memory the rows of a tile, as it lies in global memory, are cut into chunks of 16 bytes,
//! and the chunks of neighbouring rows exchanged, so that the rows of a matrix that a warp loads are
//! in different banks.  All that a thread copies or loads is at a fixed distance from a few places, which are
//! computed once for a tile: two for an operand whose terms lie side by side, and four for another.
//!
//! Of few tiles, as weight gradients have, the terms are cut into [`parts`](crate::parts), so that more blocks have
//! something to do.

use core::{array, ptr};

use adaloss_core::{format::Element, statistics::Classes};

use crate::{
    Block, Shared,
    block::{Factor, Place, WARP},
    epilogue::{Epilogue, Sink, Store, Tally},
    memory::Out,
};

/// Threads of a block that multiplies.
pub const THREADS: u32 = 128;

/// Words of shared memory that it needs.
pub const SHARED_WORDS: usize = STAGES * STAGE_WORDS;

/// Rows and columns of a tile of sums.
pub const SIDE: usize = 128;

/// Terms that are copied at a time.
const DEPTH: usize = 32;

/// Elements of a chunk, which are copied together, and of a row or column of a matrix.
const CHUNK: usize = 8;

/// Sets of terms in shared memory: one is multiplied while the others are copied.  With three, two blocks have room
/// in the 100 KiB of the smallest multiprocessors.
const STAGES: usize = 3;

/// Words of one operand's tile, and of a set of both.
const TILE_WORDS: usize = SIDE * DEPTH / 2;
const STAGE_WORDS: usize = 2 * TILE_WORDS;

/// Rows and columns of a warp's sums, and of the pieces that one instruction computes.
const WARP_SUMS: [usize; 2] = [64, 64];
const PIECE: [usize; 2] = [16, 8];
const PIECES: [usize; 2] = [WARP_SUMS[0] / PIECE[0], WARP_SUMS[1] / PIECE[1]];

/// Lines of an operand that are loaded together: 16 for a warp's sums, four times.
const SIXTEEN: usize = 16;
const LOADS: usize = WARP_SUMS[0] / SIXTEEN;

const _: () = assert!(WARP_SUMS[0] == WARP_SUMS[1] && LOADS == 4 && DEPTH == 2 * SIXTEEN);

/// Where sums are handed round, behind the counters of a histogram: of each chunk of a row the first half, then of each the
/// second, so that threads that read neighbouring chunks read neighbouring words.  What is between the halves, and between
/// rows, keeps the rows of a piece in different banks.
const SUMS: usize = Classes::COUNT;
const SUMS_HALF: usize = SIDE / 2 + FOUR;
const SUMS_ROW: usize = 2 * SUMS_HALF;
const FOUR: usize = CHUNK / 2;

const _: () = assert!(SUMS + WARP_SUMS[0] * SUMS_ROW <= SHARED_WORDS && SUMS_ROW % 32 == CHUNK);

/// Chunks in a row of a tile, each of which is taken by as many threads, one below the other.
const PER_ROW: u32 = (SIDE / CHUNK) as u32;

/// Tiles in a row of tiles that blocks compute at about the same time, whose operands are then in the
/// cache.
const BAND: u32 = 8;

/// The operands of a product and its shape: `C = op(A) op(B)`, all row-major, where `op` transposes or
/// does not.
#[derive(Debug)]
#[repr(C)]
pub struct Product<E> {
    /// The first element of `A`, which has `rows * inner`.
    pub a: *const E,
    /// The first element of `B`, which has `inner * columns`.
    pub b: *const E,
    /// What sums start at, the first of them in several parts: a number for each column; null where that is +0.
    pub bias: *const f32,
    /// Rows of `C`.
    pub rows: usize,
    /// Terms of a sum.
    pub inner: usize,
    /// Columns of `C`.
    pub columns: usize,
    /// Into how many parts the terms are cut, at least 1: results are the sums of each part, one after the other.
    pub parts: usize,
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

    /// Returns the number of its sums, those of each part.
    pub const fn results(&self) -> usize {
        self.sums() * self.parts
    }

    /// Returns the number of tiles of its sums, for each part: no more blocks than that have something to do.
    pub const fn tiles(&self) -> usize {
        self.rows.div_ceil(SIDE) * self.columns.div_ceil(SIDE) * self.parts
    }

    /// Returns where a tile of a part begins: bands of columns from left to right, in each of them rows of tiles
    /// downwards.
    ///
    /// Tiles are counted in 32 bits: the results of as many fit into no memory.
    fn tile(&self, nth: u32) -> [usize; 2] {
        let [down, across] = [self.rows, self.columns].map(|of| of.div_ceil(SIDE) as u32);
        let in_band = (BAND * down).max(1);
        let (band, within) = (nth / in_band, nth % in_band);
        let first = BAND * band;
        let width = across.saturating_sub(first).clamp(1, BAND);
        [within / width, first + within % width].map(|of| SIDE * of as usize)
    }
}

/// Multiplies matrices and ends as an epilogue says, on all blocks of a grid.
///
/// Of `transposed`, the first says that `A` is stored as (inner, rows), the second that `B` is stored as
/// (columns, inner).  A sum is that of its terms in f32, in the order and with the rounding of the tensor
/// cores.
///
/// Blocks have [`THREADS`] threads and [`SHARED_WORDS`] of shared memory.  The terms are in one part.
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
    // What is narrowed is whole.
    let product = &Product { parts: 1, ..*product };
    // SAFETY: the caller's promise; an element is stored by one thread.
    unsafe { multiply(block, product, transposed, epilogue, to) };
}

/// Multiplies matrices and writes f32, or adds them to what is there: the weight gradients of several
/// micro-batches.
///
/// Outcome and histogram are those of the product.  There is room for the results of each part.
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
pub(crate) struct Sums<'a> {
    pub(crate) to: Out<'a, f32>,
    pub(crate) adds: bool,
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
    let &Product { a, b, bias, rows, inner, columns, .. } = product;
    // It is; the compiler does not know it.
    let parts = (product.parts as u32).max(1);
    let left = Operand::new(a, rows, inner, !transpose_a);
    let right = Operand::new(b, columns, inner, transpose_b);
    let (tiles, step) = (product.tiles() as u32, block.blocks());
    let terms_of_part = DEPTH * inner.div_ceil(DEPTH).div_ceil(parts as usize);
    let places = Places::of(block, [&left, &right]);
    let mut tallies = block.each(|_| Tally::EMPTY);
    let mut nth = block.index();
    while nth < tiles {
        // Neighbouring blocks have tiles of one part.
        let of_part = (tiles / parts).max(1);
        let (part, tile) = ((nth / of_part) as usize, product.tile(nth % of_part));
        nth = nth.saturating_add(step);
        let [left, right] = [left, right].map(|of| of.part(part * terms_of_part, terms_of_part));
        // SAFETY: the caller's promise.
        unsafe {
            let bias = if part == 0 { bias } else { ptr::null() };
            let start = start(block, bias, tile[1], columns);
            let sums = sums(block, [&left, &right], tile, &places, start);
            // Behind the sums, since it would take registers beside them.
            let sink = Sink::<F>::open(block, epilogue);
            tallies = finish(block, (part, [rows, columns]), tile, &sums, &sink, &tallies, to);
            // A histogram's counters are where the next tile's terms come to.
            if nth >= tiles || !epilogue.histogram.is_null() {
                sink.close(block, &tallies);
                tallies = block.each(|_| Tally::EMPTY);
            }
        }
        block.barrier();
    }
}

/// The sums of a warp's pieces, each thread's part of them.
type Pieces<B> = [[<B as Block>::Each<[f32; 4]>; PIECES[1]]; PIECES[0]];

/// Returns what the sums of a tile start at: the bias of their columns, or +0 where there is none.
///
/// # Safety
///
/// There is a number for each column, or the bias is null.
#[inline(always)]
unsafe fn start<B: Block>(
    block: &mut B,
    bias: *const f32,
    column: usize,
    columns: usize,
) -> Pieces<B> {
    let of_columns: [_; PIECES[1]] = array::from_fn(|piece| {
        block.each(|thread| {
            let pair = 2 * (thread as usize % 4);
            let first = column + WARP_SUMS[1] * warp(thread)[1] + PIECE[1] * piece + pair;
            let one = |column: usize| match bias.is_null() || column >= columns {
                true => 0.0,
                // SAFETY: the caller's promise.
                false => unsafe { *bias.add(column) },
            };
            [one(first), one(first + 1)]
        })
    });
    array::from_fn(|_| {
        let both =
            |of: &B::Each<[f32; 2]>| block.map(of, |_, [one, other]| [one, other, one, other]);
        of_columns.each_ref().map(both)
    })
}

/// Computes the sums of a tile, from what they start at.
///
/// # Safety
///
/// As for [`matmul`].
#[inline(always)]
unsafe fn sums<B: Block, E: Factor>(
    block: &mut B,
    [left, right]: [&Operand<E>; 2],
    [row, column]: [usize; 2],
    places: &Places<B>,
    start: Pieces<B>,
) -> Pieces<B> {
    let (shared, terms) = (block.shared(), left.terms);
    let sets = terms.div_ceil(DEPTH) as u32;
    // Of these, every thread copies as many bytes of each.
    let alike = if left.aligned && right.aligned { (terms / DEPTH) as u32 } else { 0 };
    let mut sums = start;
    let mut parts = block.each(|thread| [left.chunks(thread, row), right.chunks(thread, column)]);
    let mut stage = 0;
    for set in 0..sets + STAGES as u32 - 1 {
        // From here on all threads have what is multiplied now, and have done with what was multiplied
        // last, whose room is filled again.
        block.wait::<{ STAGES - 2 }>();
        block.barrier();
        if set < sets {
            parts = block.zip(&parts, &places.to, |thread, [of_left, of_right], to| {
                let [to_left, to_right] = to.map(|to| to.behind(stage));
                // SAFETY: the caller's promise.
                unsafe {
                    if set < alike {
                        [
                            left.copy(shared, to_left, of_left),
                            right.copy(shared, to_right, of_right),
                        ]
                    } else {
                        let is_last = set + 1 == sets;
                        let left_over =
                            if is_last { (terms - 1) % DEPTH + 1 } else { DEPTH } as u32;
                        [
                            left.copy_some(shared, thread, to_left, of_left, left_over),
                            right.copy_some(shared, thread, to_right, of_right, left_over),
                        ]
                    }
                }
            });
        }
        block.commit();
        // The oldest set is behind the newest.
        stage += STAGE_WORDS as u32;
        if stage == SHARED_WORDS as u32 {
            stage = 0;
        }
        if set < STAGES as u32 - 1 {
            continue;
        }
        let of_stage = |block: &mut B, of: &Rows<B>| {
            of.each_ref().map(|rows| block.map(rows, |_, row| row.behind(stage)))
        };
        let of_a = of_stage(block, &places.of_a);
        let of_b = of_stage(block, &places.of_b);
        // SAFETY: places of this operand's tile.
        unsafe {
            multiply_sixteen::<B, E, false>(block, [left, right], [&of_a, &of_b], &mut sums);
            multiply_sixteen::<B, E, true>(block, [left, right], [&of_a, &of_b], &mut sums);
        }
    }
    block.wait::<0>();
    block.barrier();
    sums
}

/// Places of the rows of matrices that a warp loads of an operand.
type Rows<B> = [<B as Block>::Each<Place>; LOADS];

/// Places of a thread in the first set of terms, which are the same for all tiles.
struct Places<B: Block> {
    /// Of the first chunk that it copies, of either operand.
    to: B::Each<[Place; 2]>,
    of_a: Rows<B>,
    of_b: Rows<B>,
}

impl<B: Block> Places<B> {
    #[inline(always)]
    fn of<E: Factor>(block: &mut B, [left, right]: [&Operand<E>; 2]) -> Self {
        let shared = block.shared();
        let to = block.each(|thread| {
            [(left, 0), (right, TILE_WORDS)].map(|(of, tile)| {
                let [row, chunk] = of.chunk(thread);
                shared.place(tile + of.place(row, chunk) as usize)
            })
        });
        let of_a = array::from_fn(|nth| {
            block.each(|thread| {
                let (matrix, row) = matrix_row(thread);
                let word = left.first_row(warp(thread)[0], nth, [matrix % 2, matrix / 2], row);
                shared.place(word as usize)
            })
        });
        let of_b = array::from_fn(|nth| {
            block.each(|thread| {
                let (matrix, row) = matrix_row(thread);
                let word = right.first_row(warp(thread)[1], nth, [matrix / 2, matrix % 2], row);
                shared.place(TILE_WORDS + word as usize)
            })
        });
        Self { to, of_a, of_b }
    }
}

/// Adds 16 products to each of a warp's sums: the first ones of a set, or the second ones.
///
/// # Safety
///
/// The places are those of [`Operand::first_row`] in a set that has come.
#[inline(always)]
unsafe fn multiply_sixteen<B: Block, E: Factor, const SECOND: bool>(
    block: &mut B,
    [left, right]: [&Operand<E>; 2],
    [of_a, of_b]: [&Rows<B>; 2],
    sums: &mut Pieces<B>,
) {
    // SAFETY: the caller's promise.
    let a: [_; PIECES[0]] =
        array::from_fn(|nth| unsafe { left.load::<B, SECOND>(block, of_a, nth) });
    // Two pieces at a time, which leaves registers free.
    let mut pair = |pair| {
        // SAFETY: the caller's promise.
        let b = unsafe { right.load::<B, SECOND>(block, of_b, pair) };
        let one = block.map(&b, |_, [upper, lower, ..]| [upper, lower]);
        let other = block.map(&b, |_, [.., upper, lower]| [upper, lower]);
        for (a, sums) in a.iter().zip(&mut *sums) {
            block.multiply::<E>(a, &one, &mut sums[2 * pair]);
            block.multiply::<E>(a, &other, &mut sums[2 * pair + 1]);
        }
    };
    // A loop over all of them is too long for the compiler to unroll, and sums would be in memory.
    pair(0);
    pair(1);
    pair(2);
    pair(3);
}

/// Narrows, counts and measures the sums of a tile, row by row, and returns what each thread has counted so far.
///
/// # Safety
///
/// As for [`matmul`].
#[inline(always)]
unsafe fn finish<B: Block, F: Element>(
    block: &mut B,
    (part, [rows, columns]): (usize, [usize; 2]),
    [row, column]: [usize; 2],
    sums: &Pieces<B>,
    sink: &Sink<'_, F>,
    tallies: &B::Each<Tally>,
    to: impl Store<F>,
) -> B::Each<Tally> {
    let shared = block.shared();
    // Then each chunk is all in its row, and can be stored at once.
    let by_chunks = to.has_chunks() && columns.is_multiple_of(CHUNK);
    let mut tallies = block.map(tallies, |_, tally| tally);
    let places = block.each(|thread| {
        let (right, lane) = (warp(thread)[1], (thread % WARP) as usize);
        let [down, across] = [lane / 4, 2 * (lane % 4)];
        shared.place(SUMS + SUMS_ROW * down + sum_word(WARP_SUMS[1] * right + across))
    });
    for half in 0..SIDE / WARP_SUMS[0] {
        let mut put = |piece: usize| {
            let upper = block.map(&places, |_, of| of.behind((SUMS_ROW * PIECE[0] * piece) as u32));
            // SAFETY: even words, of the rows that are there.
            unsafe {
                let [a, b, c, d, e, f, g, h] = &sums[piece];
                put_piece::<B, 0>(block, half, &upper, a);
                put_piece::<B, FOUR>(block, half, &upper, b);
                put_piece::<B, { 2 * FOUR }>(block, half, &upper, c);
                put_piece::<B, { 3 * FOUR }>(block, half, &upper, d);
                put_piece::<B, { 4 * FOUR }>(block, half, &upper, e);
                put_piece::<B, { 5 * FOUR }>(block, half, &upper, f);
                put_piece::<B, { 6 * FOUR }>(block, half, &upper, g);
                put_piece::<B, { 7 * FOUR }>(block, half, &upper, h);
            }
        };
        put(0);
        put(1);
        put(2);
        put(3);
        block.barrier();
        let row = row + WARP_SUMS[0] * half;
        let there = rows.saturating_sub(row).min(WARP_SUMS[0]) as u32;
        tallies = block.map(&tallies, |thread, mut tally| {
            let (mut down, across) = (thread / PER_ROW, thread % PER_ROW);
            let column = column + CHUNK * across as usize;
            let width = columns.saturating_sub(column).min(CHUNK);
            let there = if width > 0 { there } else { 0 };
            let mut first = (part * rows + row + down as usize) * columns + column;
            let mut word = SUMS + SUMS_ROW * down as usize + FOUR * across as usize;
            while down < there {
                let one = |index: usize| {
                    f32::from_bits(shared.load(word + sum_word(index.wrapping_sub(first))))
                };
                if by_chunks {
                    let place = shared.place(word);
                    // SAFETY: the caller's promise; the words are those of a chunk, and its places this thread's alone.
                    unsafe {
                        let halves = [
                            shared.load_four_at::<0>(place),
                            shared.load_four_at::<SUMS_HALF>(place),
                        ];
                        let values = array::from_fn(|nth| f32::from_bits(halves[nth / 4][nth % 4]));
                        sink.put_chunk::<B, CHUNK>(shared, &mut tally, first, values, one, to);
                    }
                } else {
                    for index in first..first + width {
                        if let Some(x) = sink.take::<B>(shared, &mut tally, index, one(index)) {
                            // SAFETY: as above.
                            unsafe { to.one(index, x) };
                        }
                    }
                }
                down += THREADS / PER_ROW;
                first += (THREADS / PER_ROW) as usize * columns;
                word += (THREADS / PER_ROW) as usize * SUMS_ROW;
            }
            tally
        });
        block.barrier();
    }
    tallies
}

/// Writes a piece of sums, so many words behind the places of a piece, by those warps that have the tile's upper or
/// lower half.
///
/// # Safety
///
/// As for [`Shared::store_wide_at`], of either row.
#[inline(always)]
unsafe fn put_piece<B: Block, const BEHIND: usize>(
    block: &mut B,
    half: usize,
    upper: &B::Each<Place>,
    sums: &B::Each<[f32; 4]>,
) {
    const { assert!(sum_word(PIECE[1]) == FOUR) };
    let shared = block.shared();
    block.zip(sums, upper, |thread, sums, upper| {
        if warp(thread)[0] == half {
            let [a, b, c, d] = sums.map(f32::to_bits);
            // SAFETY: the caller's promise.
            unsafe {
                shared.store_wide_at::<BEHIND>(upper, [a, b]);
                shared.store_wide_at::<BEHIND>(upper.behind((8 * SUMS_ROW) as u32), [c, d]);
            }
        }
    });
}

/// Returns how far behind a row's first word the sum of a column is.
#[inline(always)]
const fn sum_word(column: usize) -> usize {
    FOUR * (column / CHUNK) + SUMS_HALF * (column / FOUR % 2) + column % FOUR
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
    /// Elements from a row, as it is stored, to the next.
    row: usize,
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
        Self { first, lines, terms, row, by_terms, aligned }
    }

    /// Returns the operand of so many terms from one of them on, a multiple of [`DEPTH`], as far as there are any.
    #[inline(always)]
    const fn part(self, from: usize, count: usize) -> Self {
        let left = self.terms.saturating_sub(from);
        let terms = if left < count { left } else { count };
        let distance = if self.by_terms { from } else { from * self.row };
        Self { first: self.first.wrapping_add(distance), terms, ..self }
    }

    /// Returns the word of a tile where a row of a matrix begins, the first of those that [`load`](Self::load) finds: of
    /// the lines of one of the block's warps, beside or below another, those of a matrix and its terms, by eights.
    ///
    /// Where the terms of a line lie side by side, `nth` counts 16 terms, and otherwise 16 lines.
    #[inline(always)]
    const fn first_row(&self, warp: usize, nth: usize, [lines, terms]: [u32; 2], row: u32) -> u32 {
        let (line, nth) = (WARP_SUMS[0] as u32 * warp as u32 + 8 * lines, nth as u32);
        if self.by_terms {
            self.place(line + row, 2 * (nth % 2) + terms)
        } else {
            self.place(8 * terms + row, line / 8 + 2 * nth)
        }
    }

    /// Loads the matrices of 16 lines and 16 terms: those of the first or second terms of a set.
    ///
    /// # Safety
    ///
    /// The places are those of [`first_row`](Self::first_row).
    #[inline(always)]
    unsafe fn load<B: Block, const SECOND: bool>(
        &self,
        block: &mut B,
        rows: &Rows<B>,
        nth: usize,
    ) -> B::Each<[u32; 4]> {
        /// Words from the first of 16 lines or terms to the next: eight rows are exchanged alike, or four.
        const OF_LINES: usize = SIXTEEN * DEPTH / 2;
        const OF_TERMS: usize = SIXTEEN * SIDE / 2;
        let by_terms = &rows[usize::from(SECOND)];
        // SAFETY: the caller's promise.
        unsafe {
            match (self.by_terms, nth) {
                (true, 0) => block.load_matrices::<0>(by_terms, false),
                (true, 1) => block.load_matrices::<OF_LINES>(by_terms, false),
                (true, 2) => block.load_matrices::<{ 2 * OF_LINES }>(by_terms, false),
                (true, _) => block.load_matrices::<{ 3 * OF_LINES }>(by_terms, false),
                (false, _) if SECOND => block.load_matrices::<OF_TERMS>(&rows[nth], true),
                (false, _) => block.load_matrices::<0>(&rows[nth], true),
            }
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
    fn chunks(&self, thread: u32, line: usize) -> Part<E> {
        let Self { first, lines, by_terms, .. } = *self;
        let [row, chunk] = self.chunk(thread);
        let (row, column) = (row as usize, CHUNK * chunk as usize);
        let (index, widths) = if by_terms {
            let width = |nth| match line + row + self.distance() * nth < lines {
                true => CHUNK,
                false => 0,
            };
            ((line + row) * self.row + column, array::from_fn(width))
        } else {
            let width = lines.saturating_sub(line + column).min(CHUNK);
            (row * self.row + line + column, [width; CHUNKS])
        };
        // Beyond the operand nothing is read.
        Part {
            from: first.wrapping_add(index),
            bytes: widths.map(|width| (width * size_of::<E>()) as u32),
        }
    }

    /// Returns where a thread's chunks begin, and the first one of the next tile: step by step, since the compiler keeps a
    /// register for every other distance.
    #[inline(always)]
    const fn steps(&self, first: *const E) -> ([*const E; CHUNKS], *const E) {
        let stride = self.distance() * self.row;
        let second = first.wrapping_add(stride);
        let third = second.wrapping_add(stride);
        let fourth = third.wrapping_add(stride);
        let next =
            if self.by_terms { first.wrapping_add(DEPTH) } else { fourth.wrapping_add(stride) };
        ([first, second, third, fourth], next)
    }

    /// Begins to copy a thread's part of a tile whose terms are all there, and returns that of the next; beyond the
    /// matrix there is zero.
    ///
    /// # Safety
    ///
    /// The operand has its elements, nobody writes them, and it is aligned; the place is that of the thread's first chunk.
    #[inline(always)]
    unsafe fn copy(&self, shared: impl Shared, to: Place, part: Part<E>) -> Part<E> {
        let ([first, second, third, fourth], from) = self.steps(part.from);
        let [a, b, c, d] = part.bytes;
        // SAFETY: the caller's promise; so many elements are there.
        unsafe {
            shared.copy::<0>(to, first.cast(), a);
            shared.copy::<BETWEEN>(to, second.cast(), b);
            shared.copy::<{ 2 * BETWEEN }>(to, third.cast(), c);
            shared.copy::<{ 3 * BETWEEN }>(to, fourth.cast(), d);
        }
        Part { from, ..part }
    }

    /// Begins to copy a thread's part of any tile, of which `left` terms are there.
    ///
    /// # Safety
    ///
    /// As for [`copy`](Self::copy), whether aligned or not.
    #[inline(always)]
    unsafe fn copy_some(
        &self,
        shared: impl Shared,
        thread: u32,
        to: Place,
        part: Part<E>,
        left: u32,
    ) -> Part<E> {
        let [row, chunk] = self.chunk(thread);
        let (chunks, from) = self.steps(part.from);
        let left_bytes = |terms: u32| left.saturating_sub(terms) * size_of::<E>() as u32;
        let chunks = chunks.into_iter().zip(part.bytes).enumerate().map(|(nth, (from, bytes))| {
            let down = (self.distance() * nth) as u32;
            let there = match self.by_terms {
                true => bytes.min(left_bytes(CHUNK as u32 * chunk)),
                false if row + down < left => bytes,
                false => 0,
            };
            (to.behind((BETWEEN * nth) as u32), from, there)
        });
        // SAFETY: so many elements are there, from a multiple of 16 bytes on if they are aligned.
        unsafe {
            if self.aligned {
                chunks.for_each(|(to, from, there)| shared.copy::<0>(to, from.cast(), there));
            } else {
                chunks.for_each(|(to, from, there)| {
                    Self::gather(shared, to, from, there as usize / size_of::<E>());
                });
            }
        }
        Part { from, ..part }
    }

    /// Copies so many elements of a chunk, one by one, and zeros behind them.
    ///
    /// # Safety
    ///
    /// So many are there.
    #[inline(always)]
    unsafe fn gather(shared: impl Shared, to: Place, from: *const E, there: usize) {
        let element = |nth: usize| match nth < there {
            // SAFETY: the caller's promise.
            true => unsafe { (*from.add(nth)).to_bits() },
            false => 0,
        };
        let word = |nth: usize| element(2 * nth + 1) << 16 | element(2 * nth);
        // SAFETY: words of a chunk.
        unsafe {
            shared.store_wide_at::<0>(to, [word(0), word(1)]);
            shared.store_wide_at::<2>(to, [word(2), word(3)]);
        }
    }
}

/// Chunks of a tile that a thread copies, and words between them in shared memory: rows so far apart are exchanged alike.
const CHUNKS: usize = SIDE * DEPTH / CHUNK / THREADS as usize;
const BETWEEN: usize = THREADS as usize * CHUNK / 2;

/// A thread's part of an operand's next tile.
#[derive(Clone, Copy, Debug)]
struct Part<E> {
    /// The first element of its first chunk.
    from: *const E,
    /// The bytes of each chunk, as long as there are terms.
    bytes: [u32; CHUNKS],
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
            let (a, b) = (ptr::null(), ptr::null());
            let product =
                Product::<f16> { a, b, bias: ptr::null(), rows, inner: 1, columns, parts: 1 };
            let mut tiles: Vec<_> =
                (0..product.tiles() as u32).map(|nth| product.tile(nth)).collect();
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
            for (warp, nth, matrix) in [(0, 0, [0, 0]), (1, 1, [1, 0]), (1, 3, [0, 1])] {
                let mut banks: Vec<_> =
                    (0..8).map(|row| operand.first_row(warp, nth, matrix, row) / 4 % 8).collect();
                banks.sort_unstable();
                assert!(banks.into_iter().eq(0..8));
            }
            // What is copied at a distance is where it would be looked for.
            for thread in 0..THREADS {
                let [row, chunk] = operand.chunk(thread);
                let next = operand.place(row + operand.distance() as u32, chunk);
                assert_eq!(operand.place(row, chunk) + BETWEEN as u32, next);
            }
        }
    }
}
