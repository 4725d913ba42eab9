//! The 8x8 digits that ship with the trainer, in the IDX format of MNIST.

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{Rng, seq::SliceRandom};

const IMAGES: &[u8] = include_bytes!("../../../train/data/digits-images-idx3-ubyte");
const LABELS: &[u8] = include_bytes!("../../../train/data/digits-labels-idx1-ubyte");

/// The convention of these digits: the last 397 are of other writers.
const TRAIN: usize = 1400;
const BATCH: usize = 50;

/// Digits in a batch to learn from, and batches until all were seen.
pub(crate) const STEPS_PER_EPOCH: usize = TRAIN / BATCH;

/// The pixels of one side, and the greatest grey.
const SIDE: usize = 8;
const WHITE: f32 = 16.0;

pub(crate) const CLASSES: usize = 10;

/// Digits with their labels.
#[derive(Debug)]
pub(crate) struct Digits {
    images: Vec<[u8; SIDE * SIDE]>,
    labels: Vec<u8>,
}

/// Some of them.
#[derive(Debug)]
pub(crate) struct Batch {
    /// In f32, of shape (samples, 1, height, width).
    pub(crate) images: Tensor<4>,
    /// One per image.
    pub(crate) labels: Tensor<1, Int>,
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
    pub(crate) fn train(&self, rng: &mut impl Rng, device: &Device) -> Vec<Batch> {
        let mut order = (0..TRAIN).collect::<Vec<_>>();
        order.shuffle(rng);
        order.chunks_exact(BATCH).map(|chosen| self.batch(chosen, device)).collect()
    }

    /// Returns the digits to test with.
    pub(crate) fn test(&self, device: &Device) -> Batch {
        self.batch(&(TRAIN..self.labels.len()).collect::<Vec<_>>(), device)
    }

    fn batch(&self, chosen: &[usize], device: &Device) -> Batch {
        let pixels = chosen.iter().flat_map(|&index| self.images[index]);
        let images = pixels.map(|pixel| f32::from(pixel) / WHITE).collect::<Vec<_>>();
        let labels = chosen.iter().map(|&index| i32::from(self.labels[index])).collect::<Vec<_>>();
        let samples = chosen.len();
        let images = TensorData::new(images, [samples, 1, SIDE, SIDE]);
        Batch {
            images: Tensor::from_data(images, device),
            labels: Tensor::from_data(TensorData::new(labels, [samples]), device),
        }
    }
}

/// Returns what follows the header of an IDX file of unsigned bytes.
fn body(file: &[u8], header: usize) -> Result<&[u8]> {
    ensure!(file.starts_with(&[0, 0, 8]), "this is no IDX file of unsigned bytes");
    file.get(header..).context("the file ends within its header")
}
