//! Sums of products on tensor cores, tile by tile: in f32, and narrowed, counted and measured.
//!
//! A block computes tiles of 128 by 128 sums, one after the other.  Terms come 32 at a time, copied
//! into shared memory while the tensor cores are busy with those before.  A warp has 64 by 64 sums of the
//! tile, in pieces of 16 by 8, one instruction each for 16 terms: 128 registers of each thread, so that what is
//! loaded for a piece is used four or eight times.
//!
//! What is multiplied is said by a `Summation`, whose operands are `Lines`: matrices, or the windows of a convolution.
//! Where a window lies in the padding of an image there is a gap, which is multiplied as a zero.  A zero times infinity would be
//! NaN: a sum that is none is computed again, of the terms that are there.
//!
//! Of few tiles, as weight gradients have, the terms are cut into [`parts`](crate::parts), so that more blocks have
//! something to do.

use core::{array, ops::Range, ptr};

use adaloss_core::{format::Element, statistics::Classes};

use crate::{
    Block, Shared,
    block::{Factor, Place, WARP},
    epilogue::{Epilogue, Sink, Store, Tally},
    lines::{CHUNK, DEPTH, FEW_LINES, LINES, Layout, Lines, Rows},
};

pub use crate::lines::THREADS;

/// Words of shared memory that a block needs.
pub const SHARED_WORDS: usize = 3 * 2 * TILE_WORDS;

/// Rows and columns of a tile of sums.
pub const SIDE: usize = LINES;

/// Words of one operand's tile.
const TILE_WORDS: usize = SIDE * DEPTH / 2;

/// Sets of terms in shared memory: one is multiplied while the others are copied.  With three, two blocks have room
/// in the 100 KiB of the smallest multiprocessors; of slim tiles there is room for a fourth one.
const fn stages(is_slim: bool) -> usize {
    SHARED_WORDS / stage_words(is_slim)
}

/// Words of a set of both operands.
const fn stage_words(is_slim: bool) -> usize {
    TILE_WORDS + if is_slim { TILE_WORDS / 2 } else { TILE_WORDS }
}

const _: () = assert!(
    stages(false) == 3 && stages(true) == 4 && SHARED_WORDS.is_multiple_of(stage_words(true))
);

/// Rows of a warp's sums, and of a half of a tile, and the rows and columns of the pieces that one instruction computes.
const WARP_ROWS: usize = SIDE / 2;
const PIECE: [usize; 2] = [16, 8];
const PIECES: [usize; 2] = [WARP_ROWS / PIECE[0], SIDE / 2 / PIECE[1]];

/// Where sums are handed round, behind the counters of a histogram: of each chunk of a row the first half, then of each the
/// second, so that threads that read neighbouring chunks read neighbouring words.  What is between the halves, and between
/// rows, keeps the rows of a piece in different banks.
const SUMS: usize = Classes::COUNT;
const SUMS_HALF: usize = SIDE / 2 + FOUR;
const SUMS_ROW: usize = 2 * SUMS_HALF;
const FOUR: usize = CHUNK / 2;

const _: () = assert!(SUMS + WARP_ROWS * SUMS_ROW <= SHARED_WORDS && SUMS_ROW % 32 == CHUNK);

/// Tiles in a row of tiles that blocks compute at about the same time, whose operands are then in the
/// cache.
const BAND: u32 = 8;

/// What is summed: two operands, and where the sums belong.
pub(crate) trait Summation: Copy {
    /// The type of the factors.
    type Factor: Factor;
    /// The left operand, whose lines are the rows of sums.
    type Left: Lines;
    /// The right operand, whose lines are the columns.
    type Right: Lines;

    /// Whether there are terms that some sums do not have.
    const HAS_GAPS: bool;

    /// Returns the numbers of sums and terms.
    fn extents(&self) -> Extents;

    /// Returns the operands of a group, from a term on that is a multiple of [`DEPTH`].
    fn operands(&self, group: usize, from: usize) -> (Self::Left, Self::Right);

    /// Returns what sums start at, in the first part: a number for each column of all groups, or null where that is +0.
    fn bias(&self) -> *const f32;

    /// Returns where the sums of a row belong, of a part and a group.
    fn row(&self, part: usize, group: usize, row: usize) -> usize;

    /// Returns how far apart rows are, if they all are.
    fn step(&self) -> Option<usize>;

    /// Computes one sum of a group, from what it starts at, of those of its terms in a range that are there, one after the other, until it
    /// is no number.
    ///
    /// # Safety
    ///
    /// The operands have their elements, and nobody writes them.
    unsafe fn again(&self, start: f32, group: usize, terms: Range<usize>, place: [usize; 2])
    -> f32;
}

/// The numbers of sums and of their terms, in each group, and into how many parts the terms are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extents {
    pub(crate) groups: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) terms: usize,
    pub(crate) parts: usize,
}

impl Extents {
    /// Returns the number of tiles, those of each part.
    pub(crate) const fn tiles(&self) -> usize {
        let tiles = self.rows.div_ceil(SIDE) * self.columns.div_ceil(SIDE);
        self.groups * tiles * self.parts
    }

    /// Tells whether there are so few columns that tiles are half as wide.
    pub(crate) const fn are_slim(&self) -> bool {
        self.columns <= FEW_LINES
    }

    /// Returns where a tile of a group begins: bands of columns from left to right, in each of them rows of tiles
    /// downwards.
    ///
    /// Tiles are counted in 32 bits: the results of as many fit into no memory.
    #[inline(always)]
    fn tile(&self, nth: u32) -> [usize; 2] {
        let [down, across] = [self.rows, self.columns].map(|of| of.div_ceil(SIDE) as u32);
        let in_band = (BAND * down).max(1);
        let (band, within) = (nth / in_band, nth % in_band);
        let first = BAND * band;
        let width = across.saturating_sub(first).clamp(1, BAND);
        [within / width, first + within % width].map(|of| SIDE * of as usize)
    }
}

/// Sums, narrows and stores, on all blocks of a grid.
///
/// Of few columns, [`FEW_LINES`] at most, tiles may be half as wide.
///
/// # Safety
///
/// The operands have their elements, and nobody writes them during the launch; for the epilogue and what is stored as for
/// [`apply`](crate::apply::apply).  Blocks have [`THREADS`] and [`SHARED_WORDS`] of shared memory.
#[inline(always)]
pub(crate) unsafe fn sum<B: Block, F: Element, S: Summation, const SLIM: bool>(
    block: &mut B,
    of: &S,
    epilogue: &Epilogue,
    to: impl Store<F>,
) {
    // SAFETY: the caller's promise.
    if unsafe { epilogue.is_off() } {
        return;
    }
    let extents = of.extents();
    // It is; the compiler does not know it.
    let parts = (extents.parts as u32).max(1);
    let (tiles, step) = (extents.tiles() as u32, block.blocks());
    let terms_of_part = DEPTH * extents.terms.div_ceil(DEPTH).div_ceil(parts as usize);
    let (left, right) = of.operands(0, 0);
    let places = Places::of::<SLIM>(block, [left.layout(), right.layout()]);
    let mut tallies = block.each(|_| Tally::EMPTY);
    let mut nth = block.index();
    while nth < tiles {
        // Neighbouring blocks have tiles of one part.
        let of_part = (tiles / parts).max(1);
        let (part, within) = ((nth / of_part) as usize, nth % of_part);
        let (group, within) = match extents.groups {
            0 | 1 => (0, within),
            groups => {
                let of_group = (of_part / (groups as u32).max(1)).max(1);
                ((within / of_group) as usize, within % of_group)
            }
        };
        let at = Tile { part, group, first: extents.tile(within) };
        nth = nth.saturating_add(step);
        let from = part * terms_of_part;
        let terms = extents.terms.saturating_sub(from).min(terms_of_part);
        let (left, right) = of.operands(group, from);
        let bias = match of.bias() {
            bias if bias.is_null() || part > 0 => ptr::null(),
            bias => bias.wrapping_add(group * extents.columns),
        };
        // SAFETY: the caller's promise.
        unsafe {
            let start = start::<B, SLIM>(block, bias, at.first[1], extents.columns);
            let sums =
                tile_sums::<B, S, SLIM>(block, (&left, &right), (terms, at.first), &places, start);
            // Behind the sums, since it would take registers beside them.
            let sink = Sink::<F>::open(block, epilogue);
            let what = (of, at, from..from + terms, bias);
            tallies = finish::<B, F, S, SLIM>(block, what, &sums, &sink, &tallies, to);
            // A histogram's counters are where the next tile's terms come to.
            if nth >= tiles || !epilogue.histogram.is_null() {
                sink.close(block, &tallies);
                tallies = block.each(|_| Tally::EMPTY);
            }
        }
        block.barrier();
    }
}

/// Which sums a block computes: of which part and group, and the first row and column.
#[derive(Clone, Copy, Debug)]
struct Tile {
    part: usize,
    group: usize,
    first: [usize; 2],
}

/// The sums of a warp's pieces, each thread's part of them; of slim tiles there are half as many beside each other.
type Pieces<B> = [[<B as Block>::Each<[f32; 4]>; PIECES[1]]; PIECES[0]];

/// Returns what the sums of a tile start at: the bias of their columns, or +0 where there is none.
///
/// # Safety
///
/// There is a number for each column, or the bias is null.
#[inline(always)]
unsafe fn start<B: Block, const SLIM: bool>(
    block: &mut B,
    bias: *const f32,
    column: usize,
    columns: usize,
) -> Pieces<B> {
    let of_columns: [_; PIECES[1]] = array::from_fn(|piece| {
        block.each(|thread| {
            let pair = 2 * (thread as usize % 4);
            let warp = warp_columns::<SLIM>() * warp(thread)[1];
            let first = column + warp + PIECE[1] * piece + pair;
            // SAFETY: the caller's promise.
            [first, first + 1].map(|column| unsafe { start_of(bias, column, columns) })
        })
    });
    array::from_fn(|_| {
        let both =
            |of: &B::Each<[f32; 2]>| block.map(of, |_, [one, other]| [one, other, one, other]);
        of_columns.each_ref().map(both)
    })
}

/// Returns what the sums of a column start at.
///
/// # Safety
///
/// There is a number for each column, or the bias is null.
#[inline(always)]
unsafe fn start_of(bias: *const f32, column: usize, columns: usize) -> f32 {
    match bias.is_null() || column >= columns {
        true => 0.0,
        // SAFETY: the caller's promise.
        false => unsafe { *bias.add(column) },
    }
}

/// Computes the sums of a tile, from what they start at.
///
/// # Safety
///
/// As for [`sum`].
#[inline(always)]
unsafe fn tile_sums<B: Block, S: Summation, const SLIM: bool>(
    block: &mut B,
    (left, right): (&S::Left, &S::Right),
    (terms, [row, column]): (usize, [usize; 2]),
    places: &Places<B>,
    start: Pieces<B>,
) -> Pieces<B> {
    let (shared, at_once) = (block.shared(), const { stages(SLIM) } as u32);
    let sets = terms.div_ceil(DEPTH) as u32;
    // Of these, every thread copies as many bytes of each.
    let alike = if left.is_aligned() && right.is_aligned() { (terms / DEPTH) as u32 } else { 0 };
    let mut sums = start;
    let mut parts = block.each(|thread| (left.begin(thread, row), right.begin(thread, column)));
    let mut stage = 0;
    for set in 0..sets + at_once - 1 {
        // From here on all threads have what is multiplied now, and have done with what was multiplied
        // last, whose room is filled again.
        if SLIM {
            block.wait::<{ stages(true) - 2 }>();
        } else {
            block.wait::<{ stages(false) - 2 }>();
        }
        block.barrier();
        if set < sets {
            parts = block.zip(&parts, &places.to, |thread, (of_left, of_right), to| {
                let [to_left, to_right] = to.map(|to| to.behind(stage));
                // SAFETY: the caller's promise.
                unsafe {
                    if set < alike {
                        (
                            left.copy(shared, to_left, of_left),
                            right.copy(shared, to_right, of_right),
                        )
                    } else {
                        let is_last = set + 1 == sets;
                        let left_over =
                            if is_last { (terms - 1) % DEPTH + 1 } else { DEPTH } as u32;
                        (
                            left.copy_some(shared, thread, to_left, of_left, left_over),
                            right.copy_some(shared, thread, to_right, of_right, left_over),
                        )
                    }
                }
            });
        }
        block.commit();
        // The oldest set is behind the newest.
        stage += const { stage_words(SLIM) } as u32;
        if stage == SHARED_WORDS as u32 {
            stage = 0;
        }
        if set < at_once - 1 {
            continue;
        }
        let of_stage = |block: &mut B, of: &Rows<B>| {
            of.each_ref().map(|rows| block.map(rows, |_, row| row.behind(stage)))
        };
        let of_a = of_stage(block, &places.of_a);
        let of_b = of_stage(block, &places.of_b);
        let (layouts, rows) = ([left.layout(), right.layout()], [&of_a, &of_b]);
        // SAFETY: places of this operand's tile.
        unsafe {
            multiply_sixteen::<B, S::Factor, false, SLIM>(block, layouts, rows, &mut sums);
            multiply_sixteen::<B, S::Factor, true, SLIM>(block, layouts, rows, &mut sums);
        }
    }
    block.wait::<0>();
    block.barrier();
    sums
}

/// Places of a thread in the first set of terms, which are the same for all tiles.
struct Places<B: Block> {
    /// Of the first chunk that it copies, of either operand.
    to: B::Each<[Place; 2]>,
    of_a: Rows<B>,
    of_b: Rows<B>,
}

impl<B: Block> Places<B> {
    #[inline(always)]
    fn of<const SLIM: bool>(block: &mut B, [left, right]: [Layout; 2]) -> Self {
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
                let line = WARP_ROWS * warp(thread)[0];
                let word = left.first_row(line, nth, [matrix % 2, matrix / 2], row);
                shared.place(word as usize)
            })
        });
        let of_b = array::from_fn(|nth| {
            block.each(|thread| {
                let (matrix, row) = matrix_row(thread);
                let line = warp_columns::<SLIM>() * warp(thread)[1];
                let word = right.first_row(line, nth, [matrix / 2, matrix % 2], row);
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
/// The places are those of [`Layout::first_row`] in a set that has come.
#[inline(always)]
unsafe fn multiply_sixteen<B: Block, E: Factor, const SECOND: bool, const SLIM: bool>(
    block: &mut B,
    [left, right]: [Layout; 2],
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
    if !SLIM {
        pair(2);
        pair(3);
    }
}

/// Narrows, counts and measures the sums of a tile, row by row, and returns what each thread has counted so far.
///
/// # Safety
///
/// As for [`sum`].
#[inline(always)]
unsafe fn finish<B: Block, F: Element, S: Summation, const SLIM: bool>(
    block: &mut B,
    (of, Tile { part, group, first: [row, column] }, terms, bias): (
        &S,
        Tile,
        Range<usize>,
        *const f32,
    ),
    sums: &Pieces<B>,
    sink: &Sink<'_, F>,
    tallies: &B::Each<Tally>,
    to: impl Store<F>,
) -> B::Each<Tally> {
    let shared = block.shared();
    let Extents { rows, columns, .. } = of.extents();
    // Then each chunk is all in its row, and can be stored at once.
    let by_chunks = to.has_chunks() && columns.is_multiple_of(CHUNK);
    let mut tallies = block.map(tallies, |_, tally| tally);
    let places = block.each(|thread| {
        let (right, lane) = (warp(thread)[1], (thread % WARP) as usize);
        let [down, across] = [lane / 4, 2 * (lane % 4)];
        let across = warp_columns::<SLIM>() * right + across;
        shared.place(SUMS + SUMS_ROW * down + sum_word(across))
    });
    for half in 0..SIDE / WARP_ROWS {
        let mut put = |piece: usize| {
            let upper = block.map(&places, |_, of| of.behind((SUMS_ROW * PIECE[0] * piece) as u32));
            // SAFETY: even words, of the rows that are there.
            unsafe {
                let [a, b, c, d, e, f, g, h] = &sums[piece];
                put_piece::<B, 0>(block, half, &upper, a);
                put_piece::<B, FOUR>(block, half, &upper, b);
                put_piece::<B, { 2 * FOUR }>(block, half, &upper, c);
                put_piece::<B, { 3 * FOUR }>(block, half, &upper, d);
                if !SLIM {
                    put_piece::<B, { 4 * FOUR }>(block, half, &upper, e);
                    put_piece::<B, { 5 * FOUR }>(block, half, &upper, f);
                    put_piece::<B, { 6 * FOUR }>(block, half, &upper, g);
                    put_piece::<B, { 7 * FOUR }>(block, half, &upper, h);
                }
            }
        };
        put(0);
        put(1);
        put(2);
        put(3);
        block.barrier();
        let row = row + WARP_ROWS * half;
        let there = rows.saturating_sub(row).min(WARP_ROWS) as u32;
        if S::HAS_GAPS {
            block.each(|thread| {
                let (mut down, across) = (thread / per_row::<SLIM>(), thread % per_row::<SLIM>());
                let column = column + CHUNK * across as usize;
                let width = columns.saturating_sub(column).min(CHUNK);
                let there = if width > 0 { there } else { 0 };
                let mut word = SUMS + SUMS_ROW * down as usize + FOUR * across as usize;
                while down < there {
                    // SAFETY: the words are those of a chunk.
                    let [one, other] = unsafe { chunk(shared, word) };
                    if one.iter().chain(&other).any(|x| x.is_nan()) {
                        for nth in 0..width {
                            let word = word + sum_word(nth);
                            if f32::from_bits(shared.load(word)).is_nan() {
                                let place = [row + down as usize, column + nth];
                                // SAFETY: the caller's promise.
                                let x = unsafe {
                                    let start = start_of(bias, place[1], columns);
                                    of.again(start, group, terms.clone(), place)
                                };
                                shared.store(word, x.to_bits());
                            }
                        }
                    }
                    down += THREADS / per_row::<SLIM>();
                    word += (THREADS / per_row::<SLIM>()) as usize * SUMS_ROW;
                }
            });
        }
        tallies = block.map(&tallies, |thread, mut tally| {
            let (mut down, across) = (thread / per_row::<SLIM>(), thread % per_row::<SLIM>());
            let column = column + CHUNK * across as usize;
            let width = columns.saturating_sub(column).min(CHUNK);
            let there = if width > 0 { there } else { 0 };
            let mut first = of.row(part, group, row + down as usize) + column;
            let mut word = SUMS + SUMS_ROW * down as usize + FOUR * across as usize;
            while down < there {
                let one = |index: usize| {
                    f32::from_bits(shared.load(word + sum_word(index.wrapping_sub(first))))
                };
                if by_chunks {
                    // SAFETY: the caller's promise; the words are those of a chunk, and its places this thread's alone.
                    unsafe {
                        let halves = chunk(shared, word);
                        let values = array::from_fn(|nth| halves[nth / 4][nth % 4]);
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
                down += THREADS / per_row::<SLIM>();
                first = match of.step() {
                    Some(step) => first + (THREADS / per_row::<SLIM>()) as usize * step,
                    None => of.row(part, group, row + down as usize) + column,
                };
                word += (THREADS / per_row::<SLIM>()) as usize * SUMS_ROW;
            }
            tally
        });
        block.barrier();
    }
    tallies
}

/// Reads a chunk of sums that were handed round: a half, and the other.
///
/// # Safety
///
/// The word is that of a chunk.
#[inline(always)]
unsafe fn chunk(shared: impl Shared, word: usize) -> [[f32; FOUR]; 2] {
    let place = shared.place(word);
    // SAFETY: the caller's promise.
    let halves =
        unsafe { [shared.load_four_at::<0>(place), shared.load_four_at::<SUMS_HALF>(place)] };
    halves.map(|half| half.map(f32::from_bits))
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
/// Returns the place of a thread's warp in the block: which of those below each other, and beside each
/// other.
#[inline(always)]
const fn warp(thread: u32) -> [usize; 2] {
    let warp = (thread / WARP) as usize;
    [warp / 2, warp % 2]
}

/// Returns how many columns of a tile are a warp's.
#[inline(always)]
const fn warp_columns<const SLIM: bool>() -> usize {
    if SLIM { FEW_LINES / 2 } else { LINES / 2 }
}

/// Returns how many chunks a row of a tile has, each of which is taken by as many threads, one below the other.
#[inline(always)]
const fn per_row<const SLIM: bool>() -> u32 {
    (if SLIM { FEW_LINES } else { LINES } / CHUNK) as u32
}

/// Returns which row of which of four matrices a thread names.
#[inline(always)]
const fn matrix_row(thread: u32) -> (u32, u32) {
    let thread = thread % WARP;
    (thread / 8, thread % 8)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn tiles_cover_the_sums_once() {
        for [rows, columns] in
            [[1, 1], [128, 129], [300, 1025], [1, 4000], [2000, 1], [0, 5], [700, 2900]]
        {
            let extents = Extents { groups: 1, rows, columns, terms: 1, parts: 1 };
            let mut tiles: Vec<_> =
                (0..extents.tiles() as u32).map(|nth| extents.tile(nth)).collect();
            tiles.sort_unstable();
            let every = (0..rows)
                .step_by(SIDE)
                .flat_map(|row| (0..columns).step_by(SIDE).map(move |column| [row, column]));
            assert!(tiles.into_iter().eq(every), "{rows} x {columns}");
        }
    }
}
