//! The digits: embedded, or the user's own files in the same format.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};

use crate::idx;

/// Samples as rows of f32 features, of mean 0 and variance 1 over all training pixels.
#[derive(Clone, Debug)]
pub struct Samples {
    /// `labels.len() * features` values.
    pub values: Vec<f32>,
    /// The class of each sample.
    pub labels: Vec<u8>,
    /// The value of a black pixel.
    pub background: f32,
    /// Rows and columns of one sample.
    pub shape: [usize; 2],
}

impl Samples {
    /// Returns the number of values of one sample.
    pub fn features(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Appends sample `index` to `to`, seen through an affine map about its centre; what moves in
    /// from outside is black.
    pub fn append_warped(&self, index: usize, warp: &Warp, to: &mut Vec<f32>) {
        let [rows, columns] = self.shape;
        let image = &self.values[index * self.features()..][..self.features()];
        let pixel = |row: f32, column: f32| {
            let inside = row >= 0.0 && column >= 0.0;
            let (row, column) = (row as usize, column as usize);
            if inside && row < rows && column < columns {
                image[row * columns + column]
            } else {
                self.background
            }
        };
        let centre = [(rows - 1) as f32 / 2.0, (columns - 1) as f32 / 2.0];
        for place in 0..self.features() {
            let offset =
                [(place / columns) as f32 - centre[0], (place % columns) as f32 - centre[1]];
            let [row, column] = [0, 1].map(|i| {
                let [down, right] = warp.matrix[i];
                centre[i] + offset[i] + down * offset[0] + right * offset[1] + warp.shift[i]
            });
            // Bilinear between the four pixels around.
            let (top, left) = (row.floor(), column.floor());
            let (y, x) = (row - top, column - left);
            let above = (1.0 - x) * pixel(top, left) + x * pixel(top, left + 1.0);
            let below = (1.0 - x) * pixel(top + 1.0, left) + x * pixel(top + 1.0, left + 1.0);
            to.push((1.0 - y) * above + y * below);
        }
    }
}

/// A small affine map: the identity plus `matrix`, then `shift` in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Warp {
    /// Rows: what is added to a pixel's row and column, per pixel of distance down and right.
    pub matrix: [[f32; 2]; 2],
    /// Down and right.
    pub shift: [f32; 2],
}

/// A data set, split.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What networks learn from.
    pub train: Samples,
    /// What they are judged by.
    pub test: Samples,
    /// The number of classes.
    pub classes: usize,
}

/// The convention of the embedded digits: the last 397 are of other writers.
const EMBEDDED_TRAIN: usize = 1400;

const IMAGES: &[u8] = include_bytes!("../data/digits-images-idx3-ubyte");
const LABELS: &[u8] = include_bytes!("../data/digits-labels-idx1-ubyte");

impl Dataset {
    /// Checks that every value is a number, wherever the samples came from.
    ///
    /// # Errors
    ///
    /// A value is infinite or NaN; the error names the sample.
    pub fn check(&self) -> Result<()> {
        for (part, samples) in [("training", &self.train), ("test", &self.test)] {
            if let Some(place) = samples.values.iter().position(|x| !x.is_finite()) {
                let (sample, value) = (place / samples.features(), samples.values[place]);
                bail!("{part} sample {sample} contains {value}, which is no finite number");
            }
        }
        Ok(())
    }

    /// Returns the 8x8 digits that ship with this program.
    pub fn embedded() -> Result<Self> {
        Self::from_idx(IMAGES, LABELS, Some(EMBEDDED_TRAIN)).context("the embedded digits")
    }

    /// Reads a pair of IDX files; `train` samples from the front train, by default seven of nine.
    pub fn open(images: &Path, labels: &Path, train: Option<usize>) -> Result<Self> {
        let read = |path: &Path| {
            fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        Self::from_idx(&read(images)?, &read(labels)?, train).with_context(|| {
            format!("{} and {} are no data set", images.display(), labels.display())
        })
    }

    fn from_idx(images: &[u8], labels: &[u8], train: Option<usize>) -> Result<Self> {
        let images = idx::images(images).context("in the images")?;
        let labels = idx::labels(labels).context("in the labels")?;
        ensure!(
            images.count == labels.len(),
            "there are {} images and {} labels",
            images.count,
            labels.len()
        );
        let features = images.rows * images.columns;
        ensure!(features > 0 && images.count >= 2, "there is nothing to learn from");
        let train = train.unwrap_or(images.count * 7 / 9);
        ensure!(
            (1..images.count).contains(&train),
            "{train} of {} samples to train with leaves nothing to train or to test",
            images.count
        );
        let classes = usize::from(labels.iter().copied().max().unwrap_or(0)) + 1;
        ensure!(classes >= 2, "every sample has the same label");
        let (mean, deviation) = normalisation(&images.pixels[..train * features]);
        ensure!(deviation > 0.0, "every pixel of the training samples is the same");
        let normal = |pixel: u8| (f32::from(pixel) - mean) / deviation;
        let samples = |range: std::ops::Range<usize>| Samples {
            values: images.pixels[range.start * features..range.end * features]
                .iter()
                .map(|&pixel| normal(pixel))
                .collect(),
            background: normal(0),
            labels: labels[range].to_vec(),
            shape: [images.rows, images.columns],
        };
        Ok(Self { train: samples(0..train), test: samples(train..images.count), classes })
    }
}

/// Returns the mean and standard deviation of pixels.
fn normalisation(pixels: &[u8]) -> (f32, f32) {
    let count = pixels.len() as f64;
    let mean = pixels.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = pixels.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    (mean as f32, variance.sqrt() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_digits_are_what_their_notice_says() {
        let digits = Dataset::embedded().unwrap();
        assert_eq!((digits.train.labels.len(), digits.test.labels.len()), (1400, 397));
        assert_eq!((digits.train.features(), digits.classes), (64, 10));
        let pixels = &digits.train.values;
        let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
        let square = pixels.iter().map(|x| x * x).sum::<f32>() / pixels.len() as f32;
        assert!(mean.abs() < 1e-3 && (square - 1.0).abs() < 1e-3);
    }

    #[test]
    fn a_warped_sample_is_interpolated() {
        let samples = Samples {
            values: vec![1.0, 2.0, 3.0, 4.0],
            labels: vec![0],
            background: 0.0,
            shape: [2, 2],
        };
        let warped = |warp: Warp| {
            let mut to = Vec::new();
            samples.append_warped(0, &warp, &mut to);
            to
        };
        let shifted = |shift| warped(Warp { shift, ..Warp::default() });
        assert_eq!(warped(Warp::default()), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(shifted([-1.0, 0.0]), [0.0, 0.0, 1.0, 2.0]);
        assert_eq!(shifted([0.0, 0.5]), [1.5, 1.0, 3.5, 2.0]);
        // A quarter turn: rows become columns.
        let turn = warped(Warp { matrix: [[-1.0, 1.0], [-1.0, -1.0]], shift: [0.0; 2] });
        assert_eq!(turn, [2.0, 4.0, 1.0, 3.0]);
    }

    #[test]
    fn impossible_splits_and_mismatches_are_errors() {
        for train in [0, 1797, 5000] {
            assert!(Dataset::from_idx(IMAGES, LABELS, Some(train)).is_err());
        }
        let fewer = [&[0, 0, 8, 1, 0, 0, 0, 2][..], &[1, 2]].concat();
        let error = format!("{:#}", Dataset::from_idx(IMAGES, &fewer, None).unwrap_err());
        assert!(error.contains("1797 images and 2 labels"), "{error}");
    }

    #[test]
    fn a_value_that_is_no_number_is_found() {
        let mut digits = Dataset::embedded().unwrap();
        assert!(digits.check().is_ok());
        digits.train.values[64 * 3 + 5] = f32::NAN;
        let error = digits.check().unwrap_err().to_string();
        assert_eq!(error, "training sample 3 contains NaN, which is no finite number");
    }

    #[test]
    fn a_missing_file_is_named() {
        let nowhere = Path::new("no-such-file");
        let error = format!("{:#}", Dataset::open(nowhere, nowhere, None).unwrap_err());
        assert!(error.contains("no-such-file cannot be read"), "{error}");
    }
}
