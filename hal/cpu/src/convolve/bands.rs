//! How a batch of images is divided into chunks.

use core::ops::Range;
use std::vec::Vec;

/// Elements that the larger side of a chunk has, if it can be.
const ELEMENTS: usize = 16 * 1024;

/// The chunks that images are divided into: several whole ones, or some rows of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bands {
    batch: usize,
    /// Rows of an image.
    height: usize,
    /// Images of a chunk, at most.
    images: usize,
    /// Rows of a chunk, at most.
    rows: usize,
}

/// Some images and the rows of each that belong to a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Band {
    pub(super) images: Range<usize>,
    pub(super) rows: Range<usize>,
}

impl Bands {
    /// Divides images of some rows, each of which takes so many elements on its larger side.
    pub(super) fn new(batch: usize, height: usize, row: usize) -> Self {
        let image = height.saturating_mul(row).max(1);
        let rows = (ELEMENTS / row.max(1)).max(1);
        if image > ELEMENTS && rows < height {
            // Bands of equal height, as far as that goes.
            let bands = height.div_ceil(rows);
            return Self { batch, height, images: 1, rows: height.div_ceil(bands) };
        }
        // Sixteen chunks are enough for the threads there are, and fewer are not.
        let images = (ELEMENTS / image).min(batch.div_ceil(16)).max(1);
        Self { batch, height, images, rows: height.max(1) }
    }

    /// Returns the number of chunks.
    pub(super) fn count(&self) -> usize {
        self.batch.div_ceil(self.images) * self.per_image()
    }

    /// Returns one chunk.
    pub(super) fn band(&self, nth: usize) -> Band {
        let (group, band) = (nth / self.per_image(), nth % self.per_image());
        let (image, row) = (group * self.images, band * self.rows);
        Band {
            images: image..self.batch.min(image + self.images),
            rows: row..self.height.min(row + self.rows),
        }
    }

    /// Divides a tensor that has `row` elements in each row into the chunks.
    pub(super) fn divide<'a, T>(&self, tensor: &'a mut [T], row: usize) -> Vec<&'a mut [T]> {
        let mut rest = tensor;
        let lengths = (0..self.count()).map(|nth| {
            let Band { images, rows } = self.band(nth);
            images.len() * rows.len() * row
        });
        let cut = |length: usize| {
            let (part, tail) = core::mem::take(&mut rest).split_at_mut(length);
            rest = tail;
            part
        };
        lengths.map(cut).collect()
    }

    fn per_image(&self) -> usize {
        self.height.div_ceil(self.rows)
    }
}
