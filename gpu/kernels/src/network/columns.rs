//! Two sums of each column of a matrix, in f64, whose bits are the same whatever the shape of the launch.
//!
//! Columns are taken in tiles of up to 64, as many as are a power of two, and a tile has 1024 pairs of a column and a lane:
//! of `l` lanes and `p` parts, row `i` is of lane `i % l` of part `i / l % p`.  A lane adds up its rows in their order, from
//! +0; the lanes of a part are added in pairs, `n` and `n + l / 2` first, then `n` and `n + l / 4`, and so on.  Where there
//! are more parts than one, another launch adds up those: part `n` is of lane `n % 32`, and all goes on as before.

use core::array;

use super::sliding::split;
use crate::{
    Block,
    block::{SHARED_WORDS, Share},
    memory::Out,
    sums::{load, store},
};

/// Pairs of a column and a lane: two sums of each fill the shared memory of a block.
const PAIRS_LOG2: u32 = (SHARED_WORDS / 4).ilog2();

/// The most columns of a tile, which are as many bytes of FP8 as two sectors have.
const TILE_LOG2: u32 = 6;

/// Rows of a lane, unless there is no room for so many parts.
const ROWS_LOG2: u32 = 3;

/// Columns of a tile whose parts are added up, and its lanes.
const LAST_LOG2: [u32; 2] = [3, 5];

/// Elements of a row that a thread reads together.
pub(super) const FOUR: usize = 4;

/// Rows that a thread reads before it adds them up.
const AHEAD: usize = 4;

/// How many parts of each of the two sums there is room for, of all columns together.
pub const ROOM: usize = 1 << 15;

/// The extents of a matrix whose columns are added up.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Columns {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl Columns {
    /// Returns the columns of a tile, and its lanes, as powers of two.
    #[inline(always)]
    const fn tile_log2(self) -> [u32; 2] {
        let needed = usize::BITS - self.columns.saturating_sub(1).leading_zeros();
        let columns = if needed < TILE_LOG2 { needed } else { TILE_LOG2 };
        [columns, PAIRS_LOG2 - columns]
    }

    /// Returns how many tiles there are.
    #[inline(always)]
    const fn tiles(self) -> usize {
        let [columns, _] = self.tile_log2();
        (self.columns + (1 << columns) - 1) >> columns
    }

    /// Returns how many parts a sum has.
    #[inline(always)]
    pub const fn parts(self) -> usize {
        let rows_log2 = self.tile_log2()[1] + ROWS_LOG2;
        let parts = (self.rows + (1 << rows_log2) - 1) >> rows_log2;
        let most = match ROOM.checked_div(self.columns) {
            Some(most) => most,
            None => 1,
        };
        let parts = if parts < most { parts } else { most };
        if parts == 0 { 1 } else { parts }
    }

    /// Returns how many blocks there is work for at a time.
    pub const fn blocks(self) -> usize {
        self.parts() * self.tiles()
    }

    /// Returns for how many blocks there is work when parts are added up.
    pub const fn last_blocks(self) -> usize {
        self.columns.div_ceil(1 << LAST_LOG2[0])
    }
}

/// What is added up.
pub(super) trait Terms: Copy {
    /// What the terms of a column have in common.
    type Own: Copy;

    /// Returns what the terms of a column have in common.
    fn of_column<B: Block>(self, column: usize) -> Self::Own;

    /// Returns what the terms of a row have in common, where that is not the column's.
    fn of_row<B: Block>(self, row: usize) -> Option<Self::Own>;

    /// Reads what the terms of an element are computed from.
    ///
    /// # Safety
    ///
    /// The element is there.
    unsafe fn one(self, place: usize) -> [f32; 2];

    /// Is [`one`](Self::one) of elements in a row, from each of several places.
    ///
    /// # Safety
    ///
    /// As there; the places are multiples of as many, and the operands have chunks.
    unsafe fn fours<const N: usize>(self, places: [usize; N]) -> [[[f32; FOUR]; 2]; N];

    /// Returns both terms of an element.
    fn terms(self, own: Self::Own, read: [f32; 2]) -> [f64; 2];
}

/// Adds up the columns on all blocks of a grid: their parts, or where there is one, what `finish` makes of both sums,
/// which are stored as many places apart as there are columns.
///
/// # Safety
///
/// The elements are there; where there are more parts than one, there is room for [`ROOM`] parts of each sum; nobody
/// else reads or writes parts or results during the launch; where `by_fours`, columns are a multiple of four and the
/// operands have chunks.
#[inline(always)]
pub(super) unsafe fn sum_columns<B: Block, T: Terms>(
    block: &mut B,
    of: Columns,
    terms: T,
    by_fours: bool,
    parts: *mut f64,
    finish: impl Fn(usize, [f64; 2]) -> [f32; 2],
    to: Out<'_, f32>,
) {
    let Columns { columns, .. } = of;
    let (count, tiles, tile_log2) = (of.parts(), of.tiles(), of.tile_log2());
    let [columns_log2, lanes_log2] = tile_log2;
    let (shared, threads) = (block.shared(), block.threads() as usize);
    for nth in Share::of(block.index() as usize..tiles * count, block.blocks() as usize) {
        let (part, tile) = split(nth, tiles);
        let (first_column, first_row) = (tile << columns_log2, part << lanes_log2);
        let column_of = |pair: usize| first_column + (pair & ((1 << columns_log2) - 1));
        let lane = |pair: usize| Lane {
            next: first_row + (pair >> columns_log2),
            step: count << lanes_log2,
            of,
        };
        block.each(|thread| {
            if by_fours {
                for nth in Share::of(thread as usize..(1 << PAIRS_LOG2) / FOUR, threads) {
                    let pair = FOUR * nth;
                    // SAFETY: the caller's promise.
                    let sums = unsafe { lane(pair).four::<B, T>(terms, column_of(pair)) };
                    let mut nth = 0;
                    while nth < FOUR {
                        store(shared, pair + nth, sums[nth][0]);
                        store(shared, (1 << PAIRS_LOG2) + pair + nth, sums[nth][1]);
                        nth += 1;
                    }
                }
            } else {
                for pair in Share::of(thread as usize..1 << PAIRS_LOG2, threads) {
                    // SAFETY: as above.
                    let sums = unsafe { lane(pair).one::<B, T>(terms, column_of(pair)) };
                    store(shared, pair, sums[0]);
                    store(shared, (1 << PAIRS_LOG2) + pair, sums[1]);
                }
            }
        });
        sum_lanes(block, tile_log2);
        block.each(|thread| {
            for nth in Share::of(thread as usize..1 << columns_log2, threads) {
                let column = first_column + nth;
                let sums = [load(shared, nth), load(shared, (1 << PAIRS_LOG2) + nth)];
                if column < columns {
                    // SAFETY: the caller's promise; column and part are this thread's alone.
                    unsafe {
                        if count == 1 {
                            put(to, columns, column, finish(column, sums));
                        } else {
                            parts.add(part * columns + column).write(sums[0]);
                            parts.add(ROOM + part * columns + column).write(sums[1]);
                        }
                    }
                }
            }
        });
        block.barrier();
    }
}

/// Adds up the parts of columns, and stores what `finish` makes of both sums.
///
/// # Safety
///
/// The parts are what [`sum_columns`] has left, and nobody else reads or writes the results during the launch.
#[inline(always)]
pub(super) unsafe fn sum_parts_of_columns<B: Block>(
    block: &mut B,
    of: Columns,
    parts: *const f64,
    finish: impl Fn(usize, [f64; 2]) -> [f32; 2],
    to: Out<'_, f32>,
) {
    let Columns { columns, .. } = of;
    let [columns_log2, lanes_log2] = LAST_LOG2;
    let pairs_log2 = columns_log2 + lanes_log2;
    let (shared, threads) = (block.shared(), block.threads() as usize);
    for tile in Share::of(block.index() as usize..of.last_blocks(), block.blocks() as usize) {
        let first_column = tile << columns_log2;
        block.each(|thread| {
            for nth in Share::of(thread as usize..2 << pairs_log2, threads) {
                let (which, pair) = (nth >> pairs_log2, nth & ((1 << pairs_log2) - 1));
                let column = first_column + (pair & ((1 << columns_log2) - 1));
                let mut sum = 0.0;
                if column < columns {
                    for part in Share::of(pair >> columns_log2..of.parts(), 1 << lanes_log2) {
                        // SAFETY: the caller's promise.
                        sum += unsafe { *parts.add(which * ROOM + part * columns + column) };
                    }
                }
                store(shared, nth, sum);
            }
        });
        sum_lanes(block, LAST_LOG2);
        block.each(|thread| {
            for nth in Share::of(thread as usize..1 << columns_log2, threads) {
                let column = first_column + nth;
                if column < columns {
                    let sums = [load(shared, nth), load(shared, (1 << pairs_log2) + nth)];
                    // SAFETY: the caller's promise; the column is this thread's alone.
                    unsafe { put(to, columns, column, finish(column, sums)) };
                }
            }
        });
        block.barrier();
    }
}

/// Stores both results of a column.
///
/// # Safety
///
/// They are this thread's alone.
#[inline(always)]
unsafe fn put(to: Out<'_, f32>, columns: usize, column: usize, [one, other]: [f32; 2]) {
    // SAFETY: the caller's promise.
    unsafe {
        to.write(column, one);
        to.write(columns + column, other);
    }
}

/// Adds up what the lanes of a tile have stored, one sum behind the other, into the first of each column; all threads see it.
#[inline(always)]
fn sum_lanes<B: Block>(block: &mut B, [columns_log2, lanes_log2]: [u32; 2]) {
    let (shared, threads) = (block.shared(), block.threads() as usize);
    let mut lanes = lanes_log2;
    while lanes > 0 {
        lanes -= 1;
        let width_log2 = columns_log2 + lanes;
        block.barrier();
        block.each(|thread| {
            for nth in Share::of(thread as usize..2 << width_log2, threads) {
                let of_sum = (nth >> width_log2) << (columns_log2 + lanes_log2);
                let pair = of_sum + (nth & ((1 << width_log2) - 1));
                let other = load(shared, pair + (1 << width_log2));
                store(shared, pair, load(shared, pair) + other);
            }
        });
    }
    block.barrier();
}

/// The rows of a lane.
#[derive(Clone, Copy)]
struct Lane {
    next: usize,
    step: usize,
    of: Columns,
}

impl Lane {
    /// Adds up a column; one beyond the matrix gives zeros.
    ///
    /// # Safety
    ///
    /// As for [`sum_columns`].
    #[inline(always)]
    unsafe fn one<B: Block, T: Terms>(self, terms: T, column: usize) -> [f64; 2] {
        let Columns { rows, columns } = self.of;
        let mut sums = [0.0; 2];
        if column < columns {
            let own = terms.of_column::<B>(column);
            for row in Share::of(self.next..rows, self.step) {
                // SAFETY: the caller's promise.
                let read = unsafe { terms.one(row * columns + column) };
                let [one, other] = terms.terms(terms.of_row::<B>(row).unwrap_or(own), read);
                sums = [sums[0] + one, sums[1] + other];
            }
        }
        sums
    }

    /// Adds up four columns; those beyond the matrix give zeros.
    ///
    /// # Safety
    ///
    /// As for [`sum_columns`], by fours.
    #[inline(always)]
    unsafe fn four<B: Block, T: Terms>(mut self, terms: T, column: usize) -> [[f64; 2]; FOUR] {
        let Columns { rows, columns } = self.of;
        let mut sums = [[0.0; 2]; FOUR];
        if column >= columns {
            return sums;
        }
        let own = array::from_fn(|nth| terms.of_column::<B>(column + nth));
        while self.next < rows {
            let ahead = rows - self.next > (AHEAD - 1) * self.step;
            // SAFETY: the caller's promise.
            unsafe {
                if ahead {
                    self.add::<B, T, AHEAD>(terms, column, own, &mut sums);
                } else {
                    self.add::<B, T, 1>(terms, column, own, &mut sums);
                }
            }
        }
        sums
    }

    /// Adds so many rows.
    ///
    /// # Safety
    ///
    /// As above, and they are there.
    #[inline(always)]
    unsafe fn add<B: Block, T: Terms, const N: usize>(
        &mut self,
        terms: T,
        column: usize,
        own: [T::Own; FOUR],
        sums: &mut [[f64; 2]; FOUR],
    ) {
        let row = |nth: usize| self.next + nth * self.step;
        let places = array::from_fn(|nth| row(nth) * self.of.columns + column);
        // SAFETY: the caller's promise.
        let read = unsafe { terms.fours::<N>(places) };
        let mut nth = 0;
        while nth < N {
            let of_row = terms.of_row::<B>(row(nth));
            let [first, second] = read[nth];
            let mut place = 0;
            while place < FOUR {
                let own = of_row.unwrap_or(own[place]);
                let [one, other] = terms.terms(own, [first[place], second[place]]);
                sums[place] = [sums[place][0] + one, sums[place][1] + other];
                place += 1;
            }
            nth += 1;
        }
        self.next += N * self.step;
    }
}
