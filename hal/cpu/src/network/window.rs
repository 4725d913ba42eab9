//! Where the windows of a pooling lie, and the loop that all poolings are.

use core::ops::Range;
use std::vec::Vec;

use adaloss_hal::network::Pooling;

/// The pixels of a source that each pixel of a result is computed from.
///
/// Of an output these are the pixels in the window; of an input the windows over the pixel.
pub(super) struct Windows {
    /// For each row and for each column of the result, those of the source.
    spans: [Vec<Range<usize>>; 2],
    /// Height and width of the source.
    source: [usize; 2],
    channels: usize,
}

/// The pixels of a source that one pixel of a result is computed from: those of some rows and some
/// columns.
pub(super) struct Window<'a> {
    /// The place of the result's pixel in its image.
    pub(super) position: u32,
    /// The first pixel of the source's image.
    image: usize,
    rows: &'a Range<usize>,
    columns: &'a Range<usize>,
    /// Pixels of a row, and channels of a pixel.
    width: usize,
    channels: usize,
}

/// What a pooling does with some channels of one pixel of its result.
pub(super) trait Pool {
    /// Channels that it takes at a time, at most.
    const MOST: usize = 16;

    /// Computes `N` elements of the chunk's result, the first of which is `first`, from the window's
    /// channels from `channel` on.
    fn lanes<const N: usize>(&mut self, window: &Window<'_>, channel: usize, first: usize);
}

impl Windows {
    /// Returns the windows as an output sees them.
    pub(super) fn of_output(shape: Pooling) -> Self {
        let output = shape.output().unwrap_or_default();
        Self::new(shape, shape.input, [0, 1].map(|axis| pixels(shape, axis, output[axis])))
    }

    /// Returns the windows as an input sees them.
    pub(super) fn of_input(shape: Pooling) -> Self {
        let output = shape.output().unwrap_or_default();
        Self::new(shape, output, [0, 1].map(|axis| over(shape, axis, output[axis])))
    }

    fn new(shape: Pooling, source: [usize; 2], spans: [Vec<Range<usize>>; 2]) -> Self {
        Self { spans, source, channels: shape.channels }
    }

    /// Returns the elements of a chunk of the result: whole pixels, about as many as asked for.
    pub(super) fn chunk(&self, elements: usize) -> usize {
        elements.div_ceil(self.channels.max(1)) * self.channels
    }

    /// Computes the elements of the result from `first` on, which is the first of a pixel.
    #[inline(always)]
    pub(super) fn run(&self, first: usize, length: usize, pool: &mut impl Pool) {
        let [rows, columns] = &self.spans;
        let first = first / self.channels;
        let mut column = first % columns.len();
        let mut row = first / columns.len() % rows.len();
        let mut image = first / columns.len() / rows.len();
        for first in (0..length).step_by(self.channels) {
            let window = Window {
                position: (row * columns.len() + column) as u32,
                image: image * self.source[0] * self.source[1],
                rows: &rows[row],
                columns: &columns[column],
                width: self.source[1],
                channels: self.channels,
            };
            self.pixel(&window, first, pool);
            column += 1;
            if column == columns.len() {
                (row, column) = (row + 1, 0);
            }
            if row == rows.len() {
                (image, row) = (image + 1, 0);
            }
        }
    }

    /// Computes one pixel of the result.
    #[inline(always)]
    fn pixel<P: Pool>(&self, window: &Window<'_>, first: usize, pool: &mut P) {
        match self.channels.min(P::MOST) {
            16.. => self.blocks::<16>(window, first, pool),
            8.. => self.blocks::<8>(window, first, pool),
            4.. => self.blocks::<4>(window, first, pool),
            _ => self.blocks::<1>(window, first, pool),
        }
    }

    /// Computes one pixel of the result, of at least `N` channels.
    #[inline(always)]
    fn blocks<const N: usize>(&self, window: &Window<'_>, first: usize, pool: &mut impl Pool) {
        let mut channel = 0;
        loop {
            pool.lanes::<N>(window, channel, first + channel);
            if channel + N >= self.channels {
                break;
            }
            // The last block may overlap the one before it and compute the same again.
            channel = (channel + N).min(self.channels - N);
        }
    }
}

impl Window<'_> {
    /// Calls `each` with the first element of each pixel, from `channel` on, and the pixel's place in
    /// its image; in the order of the elements.
    #[inline(always)]
    pub(super) fn each(&self, channel: usize, mut each: impl FnMut(usize, u32)) {
        for row in self.rows.clone() {
            for column in self.columns.clone() {
                let position = row * self.width + column;
                each((self.image + position) * self.channels + channel, position as u32);
            }
        }
    }
}

/// Returns `N` neighbours; the lengths of the operands were checked.
#[inline(always)]
pub(super) fn neighbours<T, const N: usize>(from: &[T], first: usize) -> &[T; N] {
    let Some(neighbours) = from[first..].first_chunk() else {
        unreachable!("a pixel has all its channels")
    };
    neighbours
}

/// Returns the pixels of each of `count` windows along an axis.
fn pixels(shape: Pooling, axis: usize, count: usize) -> Vec<Range<usize>> {
    let (stride, padding) = (shape.stride[axis], shape.padding[axis]);
    let pixel = |padded: usize| padded.saturating_sub(padding).min(shape.input[axis]);
    let first = (0..count).map(|window| window * stride);
    first.map(|first| pixel(first)..pixel(first + shape.window[axis])).collect()
}

/// Returns the windows, of `count`, over each pixel along an axis.
fn over(shape: Pooling, axis: usize, count: usize) -> Vec<Range<usize>> {
    let (window, stride) = (shape.window[axis], shape.stride[axis]);
    let padded = (0..shape.input[axis]).map(|pixel| pixel + shape.padding[axis]);
    padded
        .map(|pixel| {
            let end = (pixel / stride + 1).min(count);
            (pixel + 1).saturating_sub(window).div_ceil(stride).min(end)..end
        })
        .collect()
}
