//! The part of some images that a chunk reads, widened and with zeros around it.

use core::ops::Range;

use adaloss_core::format::Element;

use super::super::{Scratch, kernel::LANES, widen};

/// Values behind the last one that a kernel may read and does not use.
const SLACK: usize = 4 * LANES;

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

    /// Returns the place of a pixel, given the number of its image in the window.
    pub(super) fn place(&self, image: usize, [y, x]: [isize; 2]) -> usize {
        let [down, right] = [y - self.origin[0], x - self.origin[1]];
        image * self.pitch[0] + down as usize * self.pitch[1] + right as usize * self.channels
    }
}
