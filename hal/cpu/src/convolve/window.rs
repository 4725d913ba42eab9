//! The part of some images that a chunk reads, widened to f32 and with zeros around it.
//!
//! This takes the place of lowering (im2col).  The rows and columns that any window of the chunk
//! covers are copied once, with explicit zeros for the padding; windows then are offsets into the
//! copy, and overlapping windows share its elements.
//!
//! # Example
//!
//! A 1x4x4x1 input `a`, a 3x3 kernel, a padding of 1, and the chunk of output rows `0..2`: its windows
//! cover rows `-1..3` and columns `-1..5`.  The copy has 4 rows of 6 values, `pitch` is `[24, 6]`, and
//! the pixel of row 0, column 0 is at `1 * 6 + 1 = 7`:
//!
//! ```text
//! row -1:  0   0   0   0   0   0
//! row  0:  0  a00 a01 a02 a03  0
//! row  1:  0  a10 a11 a12 a13  0
//! row  2:  0  a20 a21 a22 a23  0
//! ```
//!
//! The window of output pixel (0, 1) begins at row -1, column 0, which is offset 1, and its three rows
//! are at 1, 7 and 13.
//!
//! A dilated kernel covers more than it reads, and may cover any multiple of an image.  Where nearly all would be zeros
//! ([`is_padding`]), the copy has the image alone, and taps outside it are left out.

use core::ops::Range;

use adaloss_core::format::Element;

use super::super::{Scratch, kernel::LANES, widen};

/// Zeros behind the last value.  The kernel reads whole lines of [`LANES`] values, and uses only those inside the window:
/// the longest read is a tile of three lines, wherever it begins.
const SLACK: usize = 4 * LANES;

/// Pixels that are covered for each pixel of an image, beyond which what is covered counts as padding.  Networks have fewer: the 3x3
/// kernel of dilation 36 over 65x65 pixels of DeepLab v3 (Chen et al. 2017) covers 4.4 times the image, and over 5x5 pixels
/// dilation 6 covers 12 times as much.
const MOST_COVERED: usize = 64;

/// Tells whether rows and columns that windows cover are nearly all outside an image.
pub(super) fn is_padding([rows, columns]: [&Range<isize>; 2], extent: [usize; 2]) -> bool {
    let image = extent[0].saturating_mul(extent[1]);
    rows.len().saturating_mul(columns.len()) / MOST_COVERED > image
}

/// Returns the part of a range that is inside an image.
pub(super) fn clipped(range: Range<isize>, extent: usize) -> Range<isize> {
    range.start.max(0)..range.end.min(extent as isize)
}

/// Images with the channels last, as they lie in a tensor.
#[derive(Clone, Copy)]
pub(super) struct Images<'a, E> {
    pub(super) elements: &'a [E],
    /// Height and width.
    pub(super) extent: [usize; 2],
    pub(super) channels: usize,
}

/// Rows and columns of some images in f32; those beyond the edges are zero.
pub(super) struct Window {
    pub(super) values: Scratch,
    /// The first row and column.
    origin: [isize; 2],
    /// Values of an image and of a row.
    pub(super) pitch: [usize; 2],
    pub(super) channels: usize,
}

impl Window {
    /// Widens the rows and columns of some images.
    pub(super) fn open<E: Element>(
        from: Images<'_, E>,
        images: Range<usize>,
        [rows, columns]: [Range<isize>; 2],
    ) -> Self {
        let Images { elements, extent: [height, width], channels } = from;
        let row_pitch = columns.len() * channels;
        let pitch = [rows.len() * row_pitch, row_pitch];
        let mut values = Scratch::any(images.len() * pitch[0] + SLACK);
        let inside = columns.start.max(0)..columns.end.min(width as isize).max(0);
        let margin = (inside.start - columns.start) as usize * channels;
        let length = inside.len() * channels;
        let mut to = &mut values[..];
        for (image, y) in images.flat_map(|image| rows.clone().map(move |y| (image, y))) {
            let (row, rest) = to.split_at_mut(row_pitch);
            to = rest;
            if y < 0 || y >= height as isize || length == 0 {
                row.fill(0.0);
                continue;
            }
            let first = ((image * height + y as usize) * width + inside.start as usize) * channels;
            row[..margin].fill(0.0);
            widen(&elements[first..first + length], &mut row[margin..margin + length]);
            row[margin + length..].fill(0.0);
        }
        to.fill(0.0);
        Self { values, origin: [rows.start, columns.start], pitch, channels }
    }

    /// Returns the place of a pixel, given the number of its image in the window; of one outside, what a distance to a pixel inside
    /// is added to, wrapping.
    pub(super) fn place(&self, image: usize, [y, x]: [isize; 2]) -> usize {
        let [down, right] = [y - self.origin[0], x - self.origin[1]];
        (image * self.pitch[0]).wrapping_add(self.distance([down as usize, right as usize]))
    }

    /// Returns how far apart two pixels of an image are.
    pub(super) fn distance(&self, [down, right]: [usize; 2]) -> usize {
        down.wrapping_mul(self.pitch[1]).wrapping_add(right.wrapping_mul(self.channels))
    }
}
