//! The 8x8 digits that ship with the trainer, in the IDX format of MNIST.

use anyhow::{Context, Result, ensure};
use rand::{Rng, seq::SliceRandom};

const IMAGES: &[u8] = include_bytes!("../../datasets/data/digits-images-idx3-ubyte");
const LABELS: &[u8] = include_bytes!("../../datasets/data/digits-labels-idx1-ubyte");

/// The convention of these digits: the last 397 are of other writers.
const TRAIN: usize = 1400;
const BATCH: usize = 50;

/// Digits in a batch to learn from, and batches until all were seen.
pub(crate) const STEPS_PER_EPOCH: usize = TRAIN / BATCH;

/// The pixels of one side, and the greatest grey.
const SIDE: usize = 8;
const WHITE: f32 = 16.0;

/// What a digit can be.
pub const CLASSES: usize = 10;

/// Digits with their labels.
#[derive(Debug)]
pub(crate) struct Digits {
    images: Vec<[u8; SIDE * SIDE]>,
    labels: Vec<u8>,
}

/// Some of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Greys from 0 to 1, row by row and image by image.
    pub images: Vec<f32>,
    /// One per image.
    pub labels: Vec<u8>,
}

impl Batch {
    /// Returns the shape of the images: their number, 1, height and width.
    pub const fn shape(&self) -> [usize; 4] {
        [self.labels.len(), 1, SIDE, SIDE]
    }
}

impl Digits {
    /// Reads the digits that are part of this program.
    pub(crate) fn embedded() -> Result<Self> {
        let pixels = body(IMAGES, 16).context("in the images")?;
        let labels = body(LABELS, 8).context("in the labels")?.to_vec();
        let (images, rest) = pixels.as_chunks();
        ensure!(rest.is_empty() && images.len() == labels.len(), "images and labels do not match");
        ensure!(labels.len() > TRAIN, "there is nothing to test with");
        ensure!(labels.iter().all(|&label| usize::from(label) < CLASSES), "a label is no digit");
        Ok(Self { images: images.to_vec(), labels })
    }

    /// Deals the digits to learn from into batches at random.
    pub(crate) fn train(&self, rng: &mut impl Rng) -> Vec<Batch> {
        let mut order = (0..TRAIN).collect::<Vec<_>>();
        order.shuffle(rng);
        order.chunks_exact(BATCH).map(|chosen| self.batch(chosen)).collect()
    }

    /// Returns the digits to test with.
    pub(crate) fn test(&self) -> Batch {
        self.batch(&(TRAIN..self.labels.len()).collect::<Vec<_>>())
    }

    fn batch(&self, chosen: &[usize]) -> Batch {
        let pixels = chosen.iter().flat_map(|&index| self.images[index]);
        Batch {
            images: pixels.map(|pixel| f32::from(pixel) / WHITE).collect(),
            labels: chosen.iter().map(|&index| self.labels[index]).collect(),
        }
    }
}

/// Returns what follows the header of an IDX file of unsigned bytes.
fn body(file: &[u8], header: usize) -> Result<&[u8]> {
    ensure!(file.starts_with(&[0, 0, 8]), "this is no IDX file of unsigned bytes");
    file.get(header..).context("the file ends within its header")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn every_digit_to_learn_from_is_dealt_once() {
        let digits = Digits::embedded().unwrap();
        let batches = digits.train(&mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(batches.len(), STEPS_PER_EPOCH);
        assert!(batches.iter().all(|batch| batch.shape() == [BATCH, 1, SIDE, SIDE]));
        let dealt = batches.iter().flat_map(|batch| batch.images.chunks(SIDE * SIDE));
        let of = |image: &[f32]| image.iter().map(|grey| (WHITE * grey) as u8).collect::<Vec<_>>();
        let mut dealt = dealt.map(of).collect::<Vec<_>>();
        let mut all = digits.images[..TRAIN].iter().map(|image| image.to_vec()).collect::<Vec<_>>();
        dealt.sort();
        all.sort();
        assert_eq!(dealt, all);
    }

    #[test]
    fn the_test_is_with_digits_of_other_writers() {
        let test = Digits::embedded().unwrap().test();
        assert_eq!(test.shape()[0], 397);
        // The bytes of the files, by another way.
        assert_eq!(test.labels[396], LABELS[LABELS.len() - 1]);
        assert_eq!(test.images[3], f32::from(IMAGES[16 + TRAIN * 64 + 3]) / WHITE);
    }

    #[test]
    fn what_is_no_file_of_digits_is_an_error() {
        assert!(body(&[0, 0, 9, 1], 4).is_err());
        assert!(body(&[0, 0, 8, 1], 8).is_err());
        assert_eq!(body(&[0, 0, 8, 1, 7], 4).unwrap(), [7]);
    }
}
