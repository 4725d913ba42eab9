//! Operands of tensor cores: lines of terms, of which tiles are copied into shared memory, chunk by chunk.
//!
//! A line is a row of the left factor or a column of the right one.  In shared memory the rows of a tile, as it lies in global memory,
//! are cut into chunks of 16 bytes, and the chunks of neighbouring rows exchanged, so that the rows of a matrix that a warp loads
//! are in different banks.  All that a thread copies or loads is at a fixed distance from a few places, which are
//! computed once: two for an operand whose terms lie side by side, and four for another.

use core::array;

use crate::{
    Block, Shared,
    block::{Factor, Place},
};

/// Threads of a block that multiplies.
pub const THREADS: u32 = 128;

/// Terms that are copied at a time.
pub(crate) const DEPTH: usize = 32;

/// Elements of a chunk, which are copied together, and of a row or column of a matrix.
pub(crate) const CHUNK: usize = 8;

/// Lines of a tile, and of one of an operand that has few.
pub(crate) const LINES: usize = 128;
pub(crate) const FEW_LINES: usize = LINES / 2;

/// Lines or terms that are loaded together.
pub(crate) const SIXTEEN: usize = 16;

/// The most chunks of a tile that a thread copies, and words between them in shared memory: rows so far apart are exchanged alike.
pub(crate) const CHUNKS: usize = LINES * DEPTH / CHUNK / THREADS as usize;
const BETWEEN: usize = THREADS as usize * CHUNK / 2;

const _: () = assert!(CHUNKS == 4 && DEPTH == 2 * SIXTEEN);

/// One operand, or a part of its terms.
pub(crate) trait Lines: Copy {
    /// A thread's part of the next tile of terms.
    type Part: Copy;

    /// Returns how tiles of it lie in shared memory.
    fn layout(&self) -> Layout;

    /// Tells whether every chunk begins at a multiple of 16 bytes.
    fn is_aligned(&self) -> bool;

    /// Returns a thread's part of the first tile of lines, the first of which is `line`.
    fn begin(&self, thread: u32, line: usize) -> Self::Part;

    /// Begins to copy a thread's part of a tile whose terms are all there, and returns that of the next; beyond the
    /// operand there is zero.
    ///
    /// # Safety
    ///
    /// The operand has its elements, nobody writes them, and it is aligned; the place is that of the thread's first chunk.
    unsafe fn copy(&self, shared: impl Shared, to: Place, part: Self::Part) -> Self::Part;

    /// Begins to copy a thread's part of any tile, of which `left` terms are there.
    ///
    /// # Safety
    ///
    /// As for [`copy`](Self::copy), whether aligned or not.
    unsafe fn copy_some(
        &self,
        shared: impl Shared,
        thread: u32,
        to: Place,
        part: Self::Part,
        left: u32,
    ) -> Self::Part;
}

/// How the tiles of an operand lie in shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The terms of a line lie side by side; otherwise the lines' terms with one index do.
    pub(crate) by_terms: bool,
    /// A tile has [`FEW_LINES`].
    pub(crate) is_slim: bool,
}

/// Places of the rows of matrices that a warp loads of an operand.
pub(crate) type Rows<B> = [<B as Block>::Each<Place>; LINES / 2 / SIXTEEN];

impl Layout {
    /// Returns how many lines a tile has.
    #[inline(always)]
    pub(crate) const fn lines(self) -> usize {
        if self.is_slim { FEW_LINES } else { LINES }
    }

    /// Returns the word of a tile where a row of a matrix begins, the first of those that [`load`](Self::load) finds: of
    /// the lines from `line` on, those of a matrix and its terms, by eights.
    ///
    /// Where the terms of a line lie side by side, `nth` counts 16 terms, and otherwise 16 lines.
    #[inline(always)]
    pub(crate) const fn first_row(
        self,
        line: usize,
        nth: usize,
        [lines, terms]: [u32; 2],
        row: u32,
    ) -> u32 {
        let (line, nth) = (line as u32 + 8 * lines, nth as u32);
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
    pub(crate) unsafe fn load<B: Block, const SECOND: bool>(
        self,
        block: &mut B,
        rows: &Rows<B>,
        nth: usize,
    ) -> B::Each<[u32; 4]> {
        /// Words from the first of 16 lines or terms to the next: eight rows are exchanged alike, or four.
        const OF_LINES: usize = SIXTEEN * DEPTH / 2;
        const OF_TERMS: usize = SIXTEEN * LINES / 2;
        const OF_FEW: usize = SIXTEEN * FEW_LINES / 2;
        let by_terms = &rows[usize::from(SECOND)];
        // SAFETY: the caller's promise.
        unsafe {
            match (self.by_terms, nth) {
                (true, 0) => block.load_matrices::<0>(by_terms, false),
                (true, 1) => block.load_matrices::<OF_LINES>(by_terms, false),
                (true, 2) => block.load_matrices::<{ 2 * OF_LINES }>(by_terms, false),
                (true, _) => block.load_matrices::<{ 3 * OF_LINES }>(by_terms, false),
                (false, _) if SECOND && self.is_slim => {
                    block.load_matrices::<OF_FEW>(&rows[nth], true)
                }
                (false, _) if SECOND => block.load_matrices::<OF_TERMS>(&rows[nth], true),
                (false, _) => block.load_matrices::<0>(&rows[nth], true),
            }
        }
    }

    /// Returns the word of a tile where a chunk of a row begins.
    #[inline(always)]
    pub(crate) const fn place(self, row: u32, chunk: u32) -> u32 {
        if self.by_terms {
            (DEPTH / 2) as u32 * row + 4 * (chunk ^ (row / 2 % 4))
        } else {
            (self.lines() / 2) as u32 * row + 4 * (chunk ^ (row % 8))
        }
    }

    /// Returns how many chunks a row has.
    #[inline(always)]
    const fn per_row(self) -> u32 {
        (if self.by_terms { DEPTH } else { self.lines() } / CHUNK) as u32
    }

    /// Returns the row of a tile that a thread's first chunk is in, and its place in that row.
    #[inline(always)]
    pub(crate) const fn chunk(self, thread: u32) -> [u32; 2] {
        [thread / self.per_row(), thread % self.per_row()]
    }

    /// Returns how many rows of a tile lie between a thread's chunks.
    #[inline(always)]
    pub(crate) const fn distance(self) -> u32 {
        THREADS / self.per_row()
    }

    /// Begins to copy a thread's chunks: so many bytes of each, from these addresses.
    ///
    /// # Safety
    ///
    /// As for [`Shared::copy`], of each; the place is that of the thread's first chunk.
    #[inline(always)]
    pub(crate) unsafe fn copy_chunks<E>(
        self,
        shared: impl Shared,
        to: Place,
        [first, second, third, fourth]: [*const E; CHUNKS],
        [a, b, c, d]: [u32; CHUNKS],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            shared.copy::<0>(to, first.cast(), a);
            shared.copy::<BETWEEN>(to, second.cast(), b);
            if !self.is_slim {
                shared.copy::<{ 2 * BETWEEN }>(to, third.cast(), c);
                shared.copy::<{ 3 * BETWEEN }>(to, fourth.cast(), d);
            }
        }
    }
}

/// An operand that is a matrix, or some of its columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<E> {
    first: *const E,
    lines: usize,
    /// Elements from a row, as it is stored, to the next.
    row: usize,
    layout: Layout,
    is_aligned: bool,
}

impl<E: Factor> Matrix<E> {
    /// Names so many lines of so many terms, which are a whole matrix.
    #[inline(always)]
    pub(crate) fn new(first: *const E, lines: usize, terms: usize, layout: Layout) -> Self {
        let row = if layout.by_terms { terms } else { lines };
        let is_aligned = first.addr().is_multiple_of(16) && row.is_multiple_of(CHUNK);
        Self { first, lines, row, layout, is_aligned }
    }

    /// Names so many lines whose rows begin so far apart, each at a multiple of 16 bytes.
    #[inline(always)]
    pub(crate) const fn aligned(first: *const E, lines: usize, row: usize, layout: Layout) -> Self {
        Self { first, lines, row, layout, is_aligned: true }
    }

    /// Returns the operand from a term on that is a multiple of [`DEPTH`].
    #[inline(always)]
    pub(crate) const fn after(self, term: usize) -> Self {
        let distance = if self.layout.by_terms { term } else { term * self.row };
        Self { first: self.first.wrapping_add(distance), ..self }
    }

    /// Returns where a thread's chunks begin, and the first one of the next tile: step by step, since the compiler keeps a
    /// register for every other distance.
    #[inline(always)]
    const fn steps(&self, first: *const E) -> ([*const E; CHUNKS], *const E) {
        let stride = self.layout.distance() as usize * self.row;
        let second = first.wrapping_add(stride);
        let third = second.wrapping_add(stride);
        let fourth = third.wrapping_add(stride);
        let next = match (self.layout.by_terms, self.layout.is_slim) {
            (true, _) => first.wrapping_add(DEPTH),
            (false, true) => third,
            (false, false) => fourth.wrapping_add(stride),
        };
        ([first, second, third, fourth], next)
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

/// A thread's part of a matrix's next tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks<E> {
    /// The first element of its first chunk.
    from: *const E,
    /// The bytes of each chunk, as long as there are terms.
    bytes: [u32; CHUNKS],
}

impl<E: Factor> Lines for Matrix<E> {
    type Part = Chunks<E>;

    #[inline(always)]
    fn layout(&self) -> Layout {
        self.layout
    }

    #[inline(always)]
    fn is_aligned(&self) -> bool {
        self.is_aligned
    }

    #[inline(always)]
    fn begin(&self, thread: u32, line: usize) -> Chunks<E> {
        let Self { first, lines, layout, .. } = *self;
        let [row, chunk] = layout.chunk(thread);
        let (row, column) = (row as usize, CHUNK * chunk as usize);
        let (index, widths) = if layout.by_terms {
            let width = |nth| match line + row + layout.distance() as usize * nth < lines {
                true => CHUNK,
                false => 0,
            };
            ((line + row) * self.row + column, array::from_fn(width))
        } else {
            let width = lines.saturating_sub(line + column).min(CHUNK);
            (row * self.row + line + column, [width; CHUNKS])
        };
        // Beyond the operand nothing is read.
        Chunks {
            from: first.wrapping_add(index),
            bytes: widths.map(|width| (width * size_of::<E>()) as u32),
        }
    }

    #[inline(always)]
    unsafe fn copy(&self, shared: impl Shared, to: Place, part: Chunks<E>) -> Chunks<E> {
        let (chunks, from) = self.steps(part.from);
        // SAFETY: the caller's promise; so many elements are there.
        unsafe { self.layout.copy_chunks(shared, to, chunks, part.bytes) };
        Chunks { from, ..part }
    }

    #[inline(always)]
    unsafe fn copy_some(
        &self,
        shared: impl Shared,
        thread: u32,
        to: Place,
        part: Chunks<E>,
        left: u32,
    ) -> Chunks<E> {
        let [row, chunk] = self.layout.chunk(thread);
        let (chunks, from) = self.steps(part.from);
        let left_bytes = |terms: u32| left.saturating_sub(terms) * size_of::<E>() as u32;
        let count = if self.layout.is_slim { CHUNKS / 2 } else { CHUNKS };
        let chunks = chunks.into_iter().zip(part.bytes).take(count).enumerate();
        let chunks = chunks.map(|(nth, (from, bytes))| {
            let down = self.layout.distance() * nth as u32;
            let there = match self.layout.by_terms {
                true => bytes.min(left_bytes(CHUNK as u32 * chunk)),
                false if row + down < left => bytes,
                false => 0,
            };
            (to.behind((BETWEEN * nth) as u32), from, there)
        });
        // SAFETY: so many elements are there, from a multiple of 16 bytes on if they are aligned.
        unsafe {
            if self.is_aligned {
                chunks.for_each(|(to, from, there)| shared.copy::<0>(to, from.cast(), there));
            } else {
                chunks.for_each(|(to, from, there)| {
                    Self::gather(shared, to, from, there as usize / size_of::<E>());
                });
            }
        }
        Chunks { from, ..part }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn chunks_have_places_of_their_own() {
        for [by_terms, is_slim] in [[false, false], [true, false], [false, true], [true, true]] {
            let layout = Layout { by_terms, is_slim };
            let (rows, chunks) = match by_terms {
                true => (layout.lines(), DEPTH / CHUNK),
                false => (DEPTH, layout.lines() / CHUNK),
            };
            let (rows, chunks) = (rows as u32, chunks as u32);
            let place = |row| (0..chunks).map(move |chunk| layout.place(row, chunk));
            let mut places: Vec<_> = (0..rows).flat_map(place).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq((0..(layout.lines() * DEPTH / 2) as u32).step_by(4)));
            // The rows of a matrix are in different banks: 8 times 16 bytes of 128.
            let half = layout.lines() / 2;
            for (line, nth, matrix) in [(0, 0, [0, 0]), (half, 1, [1, 0]), (half, 1, [0, 1])] {
                let mut banks: Vec<_> =
                    (0..8).map(|row| layout.first_row(line, nth, matrix, row) / 4 % 8).collect();
                banks.sort_unstable();
                assert!(banks.into_iter().eq(0..8));
            }
            // What is copied at a distance is where it would be looked for.
            for thread in 0..THREADS {
                let [row, chunk] = layout.chunk(thread);
                let next = layout.place(row + layout.distance(), chunk);
                assert_eq!(layout.place(row, chunk) + BETWEEN as u32, next);
            }
        }
    }
}
