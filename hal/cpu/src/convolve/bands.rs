//! How a batch of images is divided into chunks: the units of work that threads share.
//!
//! A chunk is several whole images, or a band of neighbouring rows of one image.  The division
//! depends on the shape alone, never on the number of threads, so that it changes no bit where
//! chunks are partial sums.
//!
//! # Example
//!
//! One 1x4x4x1 image is one chunk: rows `0..4` of image 0.  An image of 100 rows of 1,024 elements
//! each (32 pixels of 32 channels) has more than [`ELEMENTS`] elements.  At most 16 of its rows fit,
//! which makes seven bands; of equal height these have 15 rows: `0..15`, `15..30`, ..., `90..100`.  A 3x3
//! kernel with a padding of 1 reads rows `-1..16`, `14..31`, ..., `89..101` for them, so that neighbouring
//! bands read two rows twice.  64 images of 784 elements are sixteen chunks of four images: twenty
//! would fit.

use core::ops::Range;
use std::vec::Vec;

/// Elements of a chunk on its larger side, source or target, where a row has no more: 64 KiB as f32.
///
/// The widened source and the sums of a chunk, 128 KiB together, are to stay in a second-level cache, of which CPUs have
/// 256 KiB or more per core, while each panel of weights passes over them.
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
        // A small batch is divided as well: into sixteen chunks, so that up to sixteen threads have work.
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
