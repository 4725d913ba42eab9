//! Sums of products, tile by tile, for operands of any two encodings: what tensor cores cannot multiply.
//!
//! A block computes tiles of 64 by 64 sums, one after the other, and each of its threads 4 by 4 of a tile.  Terms come 16 at a
//! time, widened to f32, through shared memory.  Each product and each sum is rounded to f32, in the order of the terms: the
//! bits are the portable device's.
//!
//! Which elements meet is said by two `Factors`.  A convolution is such a product, whose left lines are windows; where a
//! window lies in the padding there is a gap, which is summed as a zero.  A zero times infinity would be NaN: a tile that
//! meets a value that is not finite is computed again, sum by sum, and its gaps are passed over.

use core::array;

use adaloss_core::{format::Element, statistics::Classes};

use crate::{
    Block, Shared,
    epilogue::{Epilogue, Sink, Store, Tally},
    memory::Out,
    network::{operand::Operand, sliding::split},
};

/// Threads of a block that computes tiles.
pub const THREADS: u32 = 256;

/// Rows and columns of a tile of sums.
pub(crate) const SIDE: usize = 64;

/// Terms in shared memory at a time.
const DEPTH: usize = 16;

/// Rows and columns of a thread's sums, and how many threads there are beside each other.
const FOUR: usize = 4;
const ACROSS: usize = SIDE / FOUR;

const _: () = assert!(FOUR * THREADS as usize == SIDE * DEPTH);

/// Words of shared memory, behind the counters of a histogram: for each term its factors of all lines, and room that keeps the
/// terms of a line in different banks.
pub(crate) const STRIDE: usize = SIDE + FOUR;
pub(crate) const LEFT: usize = Classes::COUNT;
const RIGHT: usize = LEFT + DEPTH * STRIDE;

/// Rows of sums that are handed round at a time, where factors were.
const HALF: usize = SIDE / 2;

/// The word that counts values which are not finite.
const NONFINITE: usize = RIGHT + DEPTH * STRIDE;

const _: () = assert!(
    HALF * STRIDE <= NONFINITE - LEFT
        && NONFINITE < crate::block::SHARED_WORDS
        && LEFT.is_multiple_of(FOUR)
);

/// One operand: the factors of sums, by line (a row or a column of the sums) and term.
pub(crate) trait Factors: Copy {
    /// What the factors of a line have in common.
    type Line: Copy;

    /// Whether there are terms that some sums do not have, on either side.
    const HAS_GAPS: bool;

    /// Tells whether the factors of a line lie side by side; otherwise those of a term do.
    fn lie_by_terms(self) -> bool;

    /// Returns a line of a group.
    fn line(self, group: usize, line: usize) -> Self::Line;

    /// Returns the place of a factor among the elements, or `None` where the line has no such term.
    fn place(self, line: Self::Line, term: usize) -> Option<usize>;

    /// Returns the elements.
    fn elements(self) -> Operand;
}

/// What is summed, and where the sums lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums<L, R> {
    /// The left factors, whose lines are the rows of sums.
    pub(crate) left: L,
    /// The right factors, whose lines are the columns.
    pub(crate) right: R,
    /// What sums start at: a number for each column of all groups, or null where it is +0.
    pub(crate) bias: *const f32,
    /// Their numbers.
    pub(crate) extents: Extents,
    /// How far apart the sums of two groups, and of two rows, lie.
    pub(crate) strides: [usize; 2],
}

impl<L: Factors, R: Factors> Sums<L, R> {
    /// Tells whether there are terms that some sums do not have.
    const fn have_gaps(&self) -> bool {
        L::HAS_GAPS || R::HAS_GAPS
    }

    /// Returns what the sums of a column start at.
    ///
    /// # Safety
    ///
    /// As for [`sum`].
    #[inline(always)]
    unsafe fn start(&self, group: usize, column: usize) -> f32 {
        if self.bias.is_null() || column >= self.extents.columns {
            return 0.0;
        }
        // SAFETY: the caller's promise.
        unsafe { *self.bias.add(group * self.extents.columns + column) }
    }

    /// Computes one sum, of the terms that are there.
    ///
    /// # Safety
    ///
    /// As for [`sum`].
    #[inline(always)]
    unsafe fn again(&self, group: usize, row: usize, column: usize) -> f32 {
        // SAFETY: the caller's promise.
        let mut sum = unsafe { self.start(group, column) };
        let (row, column) = (self.left.line(group, row), self.right.line(group, column));
        for term in 0..self.extents.terms {
            let places = (self.left.place(row, term), self.right.place(column, term));
            if let (Some(a), Some(b)) = places {
                // SAFETY: the caller's promise.
                sum += unsafe { self.left.elements().read(a) * self.right.elements().read(b) };
            }
        }
        sum
    }
}

/// The numbers of sums and of their terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extents {
    pub(crate) groups: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) terms: usize,
}

impl Extents {
    /// Returns how many tiles there are.
    pub(crate) const fn tiles(&self) -> usize {
        self.groups * self.rows.div_ceil(SIDE) * self.columns.div_ceil(SIDE)
    }

    /// Returns the group of a tile, and its first row and column.
    #[inline(always)]
    fn tile(&self, nth: usize) -> [usize; 3] {
        let (nth, column) = split(nth, self.columns.div_ceil(SIDE));
        let (group, row) = split(nth, self.rows.div_ceil(SIDE));
        [group, SIDE * row, SIDE * column]
    }
}

/// Computes sums, and narrows them as the epilogue says.
///
/// # Safety
///
/// The factors have the elements of all their places, the bias has its numbers, and nobody writes them during the launch.  Nobody else reads or writes `to` during the launch, which has a place for
/// each sum; and the epilogue is as [`apply`](crate::apply::apply) asks for.  The block has [`THREADS`].
pub(crate) unsafe fn sum<B: Block, F: Element, L: Factors, R: Factors>(
    block: &mut B,
    of: &Sums<L, R>,
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise.
    if unsafe { epilogue.is_off() } {
        return;
    }
    // SAFETY: the caller's promise.
    let sink = unsafe { Sink::<F>::open(block, epilogue) };
    let mut tallies = block.each(|_| Tally::EMPTY);
    let mut nth = block.index() as usize;
    while nth < of.extents.tiles() {
        let tile = of.extents.tile(nth);
        // SAFETY: the caller's promise; a tile is one block's.
        unsafe {
            let sums = tile_sums(block, of, tile);
            tallies = put(block, of, tile, &sink, (tallies, &sums), to);
        }
        nth += block.blocks() as usize;
    }
    sink.close(block, &tallies);
}

/// The sums of each thread.
type Four = [[f32; FOUR]; FOUR];

/// Computes the sums of a tile.
///
/// # Safety
///
/// As for [`sum`].
#[inline(always)]
unsafe fn tile_sums<B: Block, L: Factors, R: Factors>(
    block: &mut B,
    of: &Sums<L, R>,
    [group, row, column]: [usize; 3],
) -> B::Each<Four> {
    let &Sums { left, right, extents: Extents { rows, columns, terms, .. }, .. } = of;
    let (shared, has_gaps) = (block.shared(), of.have_gaps());
    // Beyond the last line the last one is read again, whose sums nobody takes.
    let of_left =
        block.each(|thread| left.line(group, (row + brought(left, thread)[0]).min(rows - 1)));
    let of_right = block
        .each(|thread| right.line(group, (column + brought(right, thread)[0]).min(columns - 1)));
    let mut sums = block.each(|thread| {
        let first = column + FOUR * (thread as usize % ACROSS);
        // SAFETY: the caller's promise.
        [array::from_fn(|nth| unsafe { of.start(group, first + nth) }); FOUR]
    });
    if has_gaps {
        block.each(|thread| {
            if thread == 0 {
                shared.store(NONFINITE, 0);
            }
        });
    }
    let mut first = 0;
    while first < terms {
        // All threads have done with the terms before.
        block.barrier();
        // SAFETY: the caller's promise.
        unsafe {
            bring(block, LEFT, left, &of_left, [first, terms]);
            bring(block, RIGHT, right, &of_right, [first, terms]);
        }
        block.barrier();
        sums = block.map(&sums, |thread, mut sums| {
            let [down, across] = [thread as usize / ACROSS, thread as usize % ACROSS];
            if row + FOUR * down >= rows || column + FOUR * across >= columns {
                return sums;
            }
            for term in 0..DEPTH {
                let four = term * STRIDE / FOUR;
                let a = shared.load_four(LEFT / FOUR + four + down).map(f32::from_bits);
                let b = shared.load_four(RIGHT / FOUR + four + across).map(f32::from_bits);
                sums = array::from_fn(|i| array::from_fn(|j| sums[i][j] + a[i] * b[j]));
            }
            sums
        });
        first += DEPTH;
    }
    // All threads see whether a value was not finite.
    block.barrier();
    sums
}

/// Returns the line, within a tile, of which a thread brings four factors at a time, the first of their terms, and how far apart
/// they are: neighbours bring neighbours.
#[inline(always)]
fn brought(of: impl Factors, thread: u32) -> [usize; 3] {
    let thread = thread as usize;
    if of.lie_by_terms() {
        [thread * FOUR / DEPTH, FOUR * thread % DEPTH, 1]
    } else {
        [thread % SIDE, thread / SIDE, DEPTH / FOUR]
    }
}

/// Brings the next terms of an operand, with zeros for those that are not there, and counts the threads that met a value which
/// is not finite where that matters.
///
/// # Safety
///
/// As for [`sum`].
#[inline(always)]
unsafe fn bring<B: Block, F: Factors>(
    block: &mut B,
    room: usize,
    of: F,
    lines: &B::Each<F::Line>,
    [first, terms]: [usize; 2],
) {
    let shared = block.shared();
    block.map(lines, |thread, line| {
        let [at, term, step] = brought(of, thread);
        let place = |nth: usize| {
            let term = first + term + step * nth;
            if term < terms { of.place(line, term) } else { None }
        };
        let places = [place(0), place(1), place(2), place(3)];
        // SAFETY: the caller's promise.
        let [a, b, c, d] = unsafe { of.elements().read_all(places) };
        let word = room + term * STRIDE + at;
        shared.store(word, a.to_bits());
        shared.store(word + step * STRIDE, b.to_bits());
        shared.store(word + 2 * step * STRIDE, c.to_bits());
        shared.store(word + 3 * step * STRIDE, d.to_bits());
        let are_finite = a.is_finite() & b.is_finite() & c.is_finite() & d.is_finite();
        if F::HAS_GAPS && !are_finite {
            shared.add(NONFINITE, 1);
        }
    });
}

/// Puts the sums of a tile where they belong, through shared memory, so that neighbours store neighbours; returns what was
/// counted.
///
/// # Safety
///
/// As for [`sum`].
#[inline(always)]
unsafe fn put<B: Block, F: Element, L: Factors, R: Factors>(
    block: &mut B,
    of: &Sums<L, R>,
    [group, row, column]: [usize; 3],
    sink: &Sink<'_, F>,
    (tallies, sums): (B::Each<Tally>, &B::Each<Four>),
    to: Out<'_, F>,
) -> B::Each<Tally> {
    let &Sums { extents: Extents { rows, columns, .. }, strides: [of_group, of_row], .. } = of;
    let shared = block.shared();
    // Then four that begin at a multiple of four are all in one row.
    let by_fours = (columns | of_group | of_row).is_multiple_of(FOUR);
    let mut tallies = tallies;
    for half in 0..SIDE / HALF {
        block.map(sums, |thread, [a, b, c, d]| {
            let [down, across] = [thread as usize / ACROSS, thread as usize % ACROSS];
            if down / (HALF / FOUR) != half {
                return;
            }
            let word = LEFT + FOUR * down % HALF * STRIDE + FOUR * across;
            store_four(shared, word, a);
            store_four(shared, word + STRIDE, b);
            store_four(shared, word + 2 * STRIDE, c);
            store_four(shared, word + 3 * STRIDE, d);
        });
        block.barrier();
        let row = row + HALF * half;
        let room = Room {
            rows: rows.saturating_sub(row),
            columns: columns.saturating_sub(column),
            first: of_group * group + of_row * row + column,
            step: of_row,
            by_fours,
        };
        let is_again = || of.have_gaps() && shared.load(NONFINITE) != 0;
        // SAFETY: the caller's promise.
        let again = |down, across| unsafe { of.again(group, row + down, column + across) };
        // SAFETY: as above.
        tallies = unsafe { put_rows(block, room, sink, tallies, to, (is_again, again)) };
        // What comes next takes the room, and what was not finite is counted anew.
        block.barrier();
    }
    tallies
}

/// Where rows of sums that were left in shared memory belong: 32 of 64, from [`LEFT`] on, [`STRIDE`] apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// How many rows and columns there are at least to come; those beyond are nobody's.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// The place of the first sum, and how far apart rows are.
    pub(crate) first: usize,
    pub(crate) step: usize,
    /// Four from every fourth column on lie side by side, at a multiple of four.
    pub(crate) by_fours: bool,
}

/// Puts rows of sums where they belong; returns what was counted.  Where the first function says so, they are computed again, by
/// the second one, from row and column.
///
/// # Safety
///
/// Nobody else reads or writes the places during the launch.
#[inline(always)]
pub(crate) unsafe fn put_rows<B: Block, F: Element>(
    block: &mut B,
    room: Room,
    sink: &Sink<'_, F>,
    tallies: B::Each<Tally>,
    to: Out<'_, F>,
    (is_again, again): (impl Fn() -> bool, impl Fn(usize, usize) -> f32),
) -> B::Each<Tally> {
    let shared = block.shared();
    let by_fours = room.by_fours && Store::has_chunks(to);
    block.map(&tallies, |thread, mut tally| {
        let is_again = is_again();
        for place in (thread as usize..HALF * ACROSS).step_by(THREADS as usize) {
            let (down, across) = (place / ACROSS, FOUR * (place % ACROSS));
            if down >= room.rows {
                break;
            }
            let word = LEFT + down * STRIDE + across;
            let first = room.first + room.step * down + across;
            let one = |index: usize| f32::from_bits(shared.load(word + (index - first)));
            if by_fours && across < room.columns && !is_again {
                let values = shared.load_four(word / FOUR).map(f32::from_bits);
                // SAFETY: the caller's promise; the places are this thread's alone.
                unsafe { sink.put_chunk::<B, _>(shared, &mut tally, first, values, one, to) };
                continue;
            }
            for index in first..first + FOUR.min(room.columns.saturating_sub(across)) {
                let column = across + (index - first);
                let sum = if is_again { again(down, column) } else { one(index) };
                if let Some(x) = sink.take::<B>(shared, &mut tally, index, sum) {
                    // SAFETY: as above.
                    unsafe { to.write(index, x) };
                }
            }
        }
        tally
    })
}

/// Stores four sums in a row.
#[inline(always)]
pub(crate) fn store_four(shared: impl Shared, word: usize, [a, b, c, d]: [f32; FOUR]) {
    shared.store_wide(word / 2, [a.to_bits(), b.to_bits()]);
    shared.store_wide(word / 2 + 1, [c.to_bits(), d.to_bits()]);
}
