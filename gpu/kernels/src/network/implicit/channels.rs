//! Lines that are channels: of a window's pixels, or of a weight's.

use super::{CHUNK_BYTES, Implicit, at, carry};
use crate::{
    Shared,
    block::{Factor, Place},
    lines::{CHUNK, CHUNKS, DEPTH, Layout, Lines},
};

/// The operand whose lines are the pixels' channels of a window, and whose terms windows.
#[derive(Clone, Copy)]
pub(super) struct Channels<'a, E, const SLIM: bool> {
    pub(super) of: &'a Implicit<E>,
    pub(super) group: u32,
    /// The first window.
    pub(super) first: u32,
}

/// A thread's chunks of the next tile: one and the same of four windows.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelChunks {
    /// Where the chunk's pixel is, seen from the first window of an image: down, which is beyond all images where there is no such chunk, and right.
    pixel: [u32; 2],
    /// The chunk of the pixel.
    chunk: u32,
    /// The first window.
    window: u32,
}

impl<E: Factor, const SLIM: bool> Channels<'_, E, SLIM> {
    const LAYOUT: Layout = Layout { by_terms: false, is_slim: SLIM };

    /// Copies chunks, of which `left` terms are there.
    ///
    /// # Safety
    ///
    /// As for [`Lines::copy`].
    #[inline(always)]
    unsafe fn copy_windows(
        &self,
        shared: impl Shared,
        to: Place,
        part: ChannelChunks,
        left: u32,
    ) -> ChannelChunks {
        let Implicit { b, rows, columns, .. } = self.of;
        let [down, right] = part.pixel;
        let one = |nth: u32| {
            let further = Self::LAYOUT.distance() * nth;
            let [image, row, column] = self.of.window(part.window + further);
            let y = (row * rows.stride).wrapping_add(down);
            let x = (column * columns.stride).wrapping_add(right);
            let is_there = y < rows.extent && x < columns.extent && further < left;
            let from = self.of.chunk(image, y, x).wrapping_add(part.chunk);
            (at(*b, from), if is_there { CHUNK_BYTES } else { 0 })
        };
        let [(a, of_a), (b, of_b)] = [one(0), one(1)];
        let [(c, of_c), (d, of_d)] = if SLIM { [(a, 0); 2] } else { [one(2), one(3)] };
        // SAFETY: the caller's promise; so many bytes are there.
        unsafe {
            Self::LAYOUT.copy_chunks(shared, to, [a, b, c, d], [of_a, of_b, of_c, of_d]);
        }
        ChannelChunks { window: part.window + DEPTH as u32, ..part }
    }
}

impl<E: Factor, const SLIM: bool> Lines for Channels<'_, E, SLIM> {
    type Part = ChannelChunks;

    #[inline(always)]
    fn layout(&self) -> Layout {
        Self::LAYOUT
    }

    #[inline(always)]
    fn is_aligned(&self) -> bool {
        true
    }

    #[inline(always)]
    fn begin(&self, thread: u32, line: usize) -> ChannelChunks {
        let [row, chunk] = Self::LAYOUT.chunk(thread);
        let [down, right, chunk] = self.of.term((line / CHUNK) as u32 + chunk);
        let Implicit { rows, columns, .. } = self.of;
        // A pixel 2^31 further down is in no image.
        let [y, x] = [down * rows.dilation.by, right * columns.dilation.by];
        let y = if down < rows.size { y.wrapping_sub(rows.before) } else { 1 << 31 };
        let pixel = [y, x.wrapping_sub(columns.before)];
        ChannelChunks { pixel, chunk: self.group + chunk, window: self.first + row }
    }

    #[inline(always)]
    unsafe fn copy(&self, shared: impl Shared, to: Place, part: ChannelChunks) -> ChannelChunks {
        // SAFETY: the caller's promise.
        unsafe { self.copy_windows(shared, to, part, DEPTH as u32) }
    }

    #[inline(always)]
    unsafe fn copy_some(
        &self,
        shared: impl Shared,
        thread: u32,
        to: Place,
        part: ChannelChunks,
        left: u32,
    ) -> ChannelChunks {
        let [row, _] = Self::LAYOUT.chunk(thread);
        // SAFETY: the caller's promise.
        unsafe { self.copy_windows(shared, to, part, left.saturating_sub(row)) }
    }
}

/// The operand whose lines are the channels of a weight, and whose terms the pixels of a class, from the last, and their filters.
#[derive(Clone, Copy)]
pub(super) struct Kernels<'a, E, const SLIM: bool> {
    pub(super) of: &'a Implicit<E>,
    pub(super) group: u32,
    /// The first chunk of terms.
    pub(super) first: u32,
}

/// A thread's chunks of the next tile: of one filter out of each eight.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelChunks {
    /// The chunk of the first filter at the last pixel.
    from: u32,
    /// Bytes of a chunk, where there are such channels.
    bytes: u32,
    /// The next pixel of the class, down and right, and eight of its filters.
    at: [u32; 3],
}

impl<E: Factor, const SLIM: bool> Kernels<'_, E, SLIM> {
    const LAYOUT: Layout = Layout { by_terms: false, is_slim: SLIM };

    /// Copies chunks, of which `left` terms are there.
    ///
    /// # Safety
    ///
    /// As for [`Lines::copy`].
    #[inline(always)]
    unsafe fn copy_filters(
        &self,
        shared: impl Shared,
        to: Place,
        mut part: KernelChunks,
        left: u32,
    ) -> KernelChunks {
        let Implicit { b, rows, columns, chunks, .. } = self.of;
        let [of_row, of_pixel, of_filters] = self.distances();
        let mut next = |count: u32| {
            let [down, right, chunk] = part.at;
            let back = (rows.back * down) * of_row + (columns.back * right) * of_pixel;
            let from = part.from.wrapping_sub(back).wrapping_add(chunk * of_filters);
            let (right, chunk) = carry(right, chunk + count, *chunks);
            let (down, right) = carry(down, right, columns.size);
            part.at = [down, right, chunk];
            from
        };
        // Four times eight filters of one pixel, as a rule.
        let [first, second, third, fourth] = if chunks.is_multiple_of(CHUNKS as u32) {
            let from = next(CHUNKS as u32);
            [0, 1, 2, 3].map(|nth| from.wrapping_add(nth * of_filters))
        } else {
            [next(1), next(1), next(1), next(1)]
        };
        // Of slim tiles a thread has a filter out of each sixteen.
        let second = if SLIM { third } else { second };
        let from = [first, second, third, fourth].map(|from| at(*b, from));
        let bytes = |nth| if Self::LAYOUT.distance() * nth < left { part.bytes } else { 0 };
        let bytes = [bytes(0), bytes(1), bytes(2), bytes(3)];
        // SAFETY: the caller's promise; so many bytes are there.
        unsafe { Self::LAYOUT.copy_chunks(shared, to, from, bytes) };
        part
    }

    /// Returns how many chunks lie between rows of a filter's pixels, pixels, and eight filters.
    #[inline(always)]
    const fn distances(&self) -> [u32; 3] {
        let Implicit { kernel: [down, right], others, .. } = *self.of;
        let chunks = others / CHUNK as u32;
        [right * chunks, chunks, CHUNK as u32 * down * right * chunks]
    }
}

impl<E: Factor, const SLIM: bool> Lines for Kernels<'_, E, SLIM> {
    type Part = KernelChunks;

    #[inline(always)]
    fn layout(&self) -> Layout {
        Self::LAYOUT
    }

    #[inline(always)]
    fn is_aligned(&self) -> bool {
        true
    }

    #[inline(always)]
    fn begin(&self, thread: u32, line: usize) -> KernelChunks {
        let [row, chunk] = Self::LAYOUT.chunk(thread);
        let chunk = (line / CHUNK) as u32 + chunk;
        let Implicit { rows, columns, others, .. } = self.of;
        let [of_row, of_pixel, of_filters] = self.distances();
        let mut at = self.of.term(self.first);
        // Of slim tiles, a row may be one of the second eight filters.
        let filter = self.group + row % CHUNK as u32;
        if row >= CHUNK as u32 {
            let (right, next) = carry(at[1], at[2] + 1, self.of.chunks);
            let (down, right) = carry(at[0], right, columns.size);
            at = [down, right, next];
        }
        let from = filter * (of_filters / CHUNK as u32)
            + rows.last * of_row
            + columns.last * of_pixel
            + chunk;
        let bytes = if CHUNK as u32 * chunk < *others { CHUNK_BYTES } else { 0 };
        KernelChunks { from, bytes, at }
    }

    #[inline(always)]
    unsafe fn copy(&self, shared: impl Shared, to: Place, part: KernelChunks) -> KernelChunks {
        // SAFETY: the caller's promise.
        unsafe { self.copy_filters(shared, to, part, DEPTH as u32) }
    }

    #[inline(always)]
    unsafe fn copy_some(
        &self,
        shared: impl Shared,
        thread: u32,
        to: Place,
        part: KernelChunks,
        left: u32,
    ) -> KernelChunks {
        let [row, _] = Self::LAYOUT.chunk(thread);
        // SAFETY: the caller's promise.
        unsafe { self.copy_filters(shared, to, part, left.saturating_sub(row)) }
    }
}
