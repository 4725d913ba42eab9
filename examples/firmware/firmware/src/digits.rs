//! The digits that are trained on, from the files that ship with adaloss.

use crate::layers::{BATCH, WIDTHS};

/// A part of the digits: 8 x 8 pixels of 0 to 16 each, and what they show.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    pixels: &'static [u8],
    labels: &'static [u8],
}

const IMAGES: &[u8] = include_bytes!("../../../datasets/data/digits-images-idx3-ubyte");
const LABELS: &[u8] = include_bytes!("../../../datasets/data/digits-labels-idx1-ubyte");

/// Samples that are trained on.
const TRAIN: usize = 600;
/// Where the samples of other writers begin, of which as many are judged.
const TEST: usize = 1400;
const JUDGED: usize = 200;

/// Bytes of a sample, which is the input of the first layer.
const PIXELS: usize = WIDTHS[0];

const _: () = {
    assert!(IMAGES.len() == 16 + PIXELS * 1797 && LABELS.len() == 8 + 1797);
    assert!(IMAGES[2] == 8 && IMAGES[3] == 3 && LABELS[3] == 1);
    assert!(TRAIN.is_multiple_of(BATCH) && JUDGED.is_multiple_of(BATCH));
};

impl Digits {
    /// The samples that train.
    pub const TRAIN: Self = Self::part(0, TRAIN);
    /// The samples that judge, of other writers.
    pub const TEST: Self = Self::part(TEST, JUDGED);

    const fn part(first: usize, count: usize) -> Self {
        let (_, images) = IMAGES.split_at(16 + first * PIXELS);
        let (_, labels) = LABELS.split_at(8 + first);
        Self { pixels: images.split_at(count * PIXELS).0, labels: labels.split_at(count).0 }
    }

    /// Returns how many batches there are.
    pub const fn batches(&self) -> usize {
        self.labels.len() / BATCH
    }

    /// Reads one batch: its pixels, from 0 to 1 and row by row, and its labels.
    pub fn batch(&self, nth: usize, pixels: &mut [f32; BATCH * PIXELS], labels: &mut [u32; BATCH]) {
        let bytes = self.pixels.iter().skip(nth * BATCH * PIXELS);
        pixels.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = f32::from(byte) / 16.0);
        let bytes = self.labels.iter().skip(nth * BATCH);
        labels.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = u32::from(byte));
    }
}
