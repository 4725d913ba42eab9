//! Lines that are windows: pixels of the output, or of the input in its gradient.

use super::{CHUNK_BYTES, COLUMN_BITS, Implicit, at, carry};
use crate::{
    Shared,
    block::{Factor, Place},
    lines::{CHUNKS, Layout, Lines},
};

/// The operand whose lines are windows, and whose terms their pixels' channels.
#[derive(Clone, Copy)]
pub(super) struct Windows<'a, E> {
    pub(super) of: &'a Implicit<E>,
    /// The first chunk of the group in a pixel.
    pub(super) group: u32,
    /// The first chunk of terms.
    pub(super) first: u32,
}

/// A thread's chunks of the next tile: one and the same of four windows.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowChunks {
    /// The first chunk of each window, as if it were in the image.
    from: [u32; CHUNKS],
    /// The bits of the window's rows, and of its columns, that are in the image.
    within: [u32; CHUNKS],
    /// Where the chunk is in a window: pixels down and right, and the chunk of the pixel.
    at: [u32; 3],
}

impl<E: Factor> Windows<'_, E> {
    const LAYOUT: Layout = Layout { by_terms: true, is_slim: false };
}

impl<E: Factor> Lines for Windows<'_, E> {
    type Part = WindowChunks;

    #[inline(always)]
    fn layout(&self) -> Layout {
        Self::LAYOUT
    }

    #[inline(always)]
    fn is_aligned(&self) -> bool {
        true
    }

    #[inline(always)]
    fn begin(&self, thread: u32, line: usize) -> WindowChunks {
        let [row, chunk] = Self::LAYOUT.chunk(thread);
        let one = |nth: u32| {
            let window = line as u32 + row + Self::LAYOUT.distance() * nth;
            let Implicit { rows, columns, windows, .. } = self.of;
            let [image, row, column] = self.of.window(window.min(*windows));
            let within = rows.within(row) | columns.within(column) << COLUMN_BITS;
            let [y, x] = [row * rows.stride, column * columns.stride];
            let [y, x] = [y.wrapping_sub(rows.before), x.wrapping_sub(columns.before)];
            let from = self.of.chunk(image, y, x).wrapping_add(self.group);
            (from, if window < *windows { within } else { 0 })
        };
        let [(a, of_a), (b, of_b), (c, of_c), (d, of_d)] = [one(0), one(1), one(2), one(3)];
        let at = self.of.term(self.first + chunk);
        WindowChunks { from: [a, b, c, d], within: [of_a, of_b, of_c, of_d], at }
    }

    #[inline(always)]
    unsafe fn copy(&self, shared: impl Shared, to: Place, mut part: WindowChunks) -> WindowChunks {
        let Implicit { a, rows, columns, groups, chunks, advance, .. } = *self.of;
        let [down, right, chunk] = part.at;
        let further = down * rows.dilation.by * columns.extent + right * columns.dilation.by;
        let further = further * (groups * chunks) + chunk;
        let from = part.from.map(|from| at(a, from.wrapping_add(further)));
        // Of pixels beyond the last one no bit is set.
        let bytes = part
            .within
            .map(|within| (within >> down & within >> (right + COLUMN_BITS) & 1) * CHUNK_BYTES);
        // SAFETY: the caller's promise; so many bytes are there.
        unsafe { Self::LAYOUT.copy_chunks(shared, to, from, bytes) };
        let [further_down, further_right, further_chunk] = advance;
        let (right, chunk) = carry(right + further_right, chunk + further_chunk, chunks);
        let (down, right) = carry(down + further_down, right, columns.size);
        part.at = [down, right, chunk];
        part
    }

    #[inline(always)]
    unsafe fn copy_some(
        &self,
        shared: impl Shared,
        _: u32,
        to: Place,
        part: WindowChunks,
        _: u32,
    ) -> WindowChunks {
        // SAFETY: the caller's promise.
        unsafe { self.copy(shared, to, part) }
    }
}
