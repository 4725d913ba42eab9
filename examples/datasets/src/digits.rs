//! The digits: embedded, or the user's own files in the same format.

use std::{ops::Range, path::Path};

use anyhow::{Context, Result, ensure};

use crate::{
    Batch, Dataset, Input, Inputs, Judged, View, bytes, idx,
    images::{Images, Normalisation},
    warp::Reach,
};

/// The convention of the embedded digits: the last 397 are of other writers.
const EMBEDDED_TRAIN: usize = 1400;

const IMAGES: &[u8] = include_bytes!("../data/digits-images-idx3-ubyte");
const LABELS: &[u8] = include_bytes!("../data/digits-labels-idx1-ubyte");

/// How digits are split and augmented; what is not told is chosen for their number and size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Samples from the front that train; by default seven of nine.
    pub train: Option<usize>,
    /// Pixels by which training samples are moved at random, at most, each way.
    pub shift: Option<f32>,
    /// Entries of the matrix by which training samples are warped at random, at most.
    pub warp: Option<f32>,
}

/// Grey images with one label each.
#[derive(Clone, Debug)]
pub struct Digits {
    images: Images,
    labels: Vec<u8>,
    train: usize,
    classes: usize,
    normalisation: Normalisation,
    reach: Reach,
    source: String,
}

impl Digits {
    /// Returns the 8x8 digits that ship with this program.
    ///
    /// # Errors
    ///
    /// The options are impossible.
    pub fn embedded(options: Options) -> Result<Self> {
        let options = Options { train: options.train.or(Some(EMBEDDED_TRAIN)), ..options };
        Self::from_idx(IMAGES, LABELS, options, "embedded".to_owned())
            .context("the embedded digits")
    }

    /// Reads a pair of IDX files.
    ///
    /// # Errors
    ///
    /// A file cannot be read, the two are no data set, or the options are impossible for it.
    pub fn open(images: &Path, labels: &Path, options: Options) -> Result<Self> {
        let names = format!("{} and {}", images.display(), labels.display());
        Self::from_idx(
            &bytes::read(images)?,
            &bytes::read(labels)?,
            options,
            format!("from {names}"),
        )
        .with_context(|| format!("{names} are no data set"))
    }

    fn from_idx(images: &[u8], labels: &[u8], options: Options, source: String) -> Result<Self> {
        let images = idx::images(images).context("in the images")?;
        let labels = idx::labels(labels).context("in the labels")?;
        let (count, values) = (images.count, images.rows * images.columns);
        ensure!(count == labels.len(), "there are {count} images and {} labels", labels.len());
        ensure!(values > 0 && count >= 2, "there is nothing to learn from");
        let train = options.train.unwrap_or(count * 7 / 9);
        ensure!(
            (1..count).contains(&train),
            "{train} of {count} samples to train with leaves nothing to train or to test"
        );
        let classes = usize::from(labels.iter().copied().max().unwrap_or(0)) + 1;
        ensure!(classes >= 2, "every sample has the same label");
        let shift = options.shift.unwrap_or(Reach::usual_shift(images.rows));
        Ok(Self {
            reach: Reach::new(shift, options.warp.unwrap_or(Reach::WARP))?,
            normalisation: Normalisation::of(&images.pixels[..train * values], 1)?,
            images: Images {
                height: images.rows,
                width: images.columns,
                channels: 1,
                pixels: images.pixels.to_vec(),
            },
            labels: labels.to_vec(),
            train,
            classes,
            source,
        })
    }

    fn labels_of(&self, samples: impl IntoIterator<Item = usize>) -> Vec<u32> {
        samples.into_iter().map(|index| u32::from(self.labels[index])).collect()
    }
}

impl Dataset for Digits {
    fn describe(&self) -> String {
        let (train, test) = (self.train, self.test_samples());
        let Images { height, width, .. } = self.images;
        let Self { classes, source, .. } = self;
        format!(
            "digits: {train} training and {test} test images of {height}x{width}, {classes} \
             classes, {source}"
        )
    }

    fn input(&self) -> Input {
        self.images.input()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn judged(&self) -> Judged {
        Judged::PerSample
    }

    fn train_samples(&self) -> usize {
        self.train
    }

    fn test_samples(&self) -> usize {
        self.labels.len() - self.train
    }

    /// Each sample is moved, turned, stretched and sheared a little.
    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        let mut values = Vec::with_capacity(chosen.len() * self.images.values());
        let shape = [self.images.height, self.images.width];
        for &index in chosen {
            assert!(index < self.train, "{index} of {} training samples", self.train);
            let warp = self.reach.draw(&mut view.generator(index));
            warp.append(self.images.image(index), shape, &mut values);
        }
        values.iter_mut().for_each(|value| *value = self.normalisation.value(0, *value));
        let labels = self.labels_of(chosen.iter().copied());
        Ok(Batch { labels, ..Batch::of(Inputs::Images(values), chosen.len()) })
    }

    fn test(&self, range: Range<usize>) -> Result<Batch> {
        let mut values = Vec::with_capacity(range.len() * self.images.values());
        let samples = || range.clone().map(|index| self.train + index);
        samples().for_each(|i| self.normalisation.append(self.images.image(i), &mut values));
        let labels = self.labels_of(samples());
        Ok(Batch { labels, ..Batch::of(Inputs::Images(values), range.len()) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn values(batch: Batch) -> Vec<f32> {
        let Inputs::Images(values) = batch.inputs else { panic!("digits are images") };
        values
    }

    fn error(result: Result<Digits>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    fn from_idx(images: &[u8], labels: &[u8], train: Option<usize>) -> Result<Digits> {
        let options = Options { train, ..Options::default() };
        Digits::from_idx(images, labels, options, String::new())
    }

    #[test]
    fn the_embedded_digits_are_what_their_notice_says() {
        let digits = Digits::embedded(Options::default()).unwrap();
        assert_eq!((digits.train_samples(), digits.test_samples()), (1400, 397));
        assert_eq!(digits.input(), Input::Image { height: 8, width: 8, channels: 1 });
        assert_eq!(
            digits.describe(),
            "digits: 1400 training and 397 test images of 8x8, 10 classes, embedded"
        );
        let test = digits.test(0..397).unwrap();
        test.check(&digits).unwrap();
        // The bytes of the files, by another way.
        let first = f32::from(IMAGES[16 + 1400 * 64 + 3]);
        assert_eq!(test.labels[0], u32::from(LABELS[8 + 1400]));
        assert_eq!(values(test)[3], digits.normalisation.value(0, first));
    }

    #[test]
    fn training_samples_have_mean_0_and_variance_1() {
        let still = Options { shift: Some(0.0), warp: Some(0.0), ..Options::default() };
        let digits = Digits::embedded(still).unwrap();
        let all: Vec<_> = (0..1400).collect();
        let pixels = values(digits.train(&all, View { seed: 3, epoch: 4 }).unwrap());
        let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
        let square = pixels.iter().map(|x| x * x).sum::<f32>() / pixels.len() as f32;
        assert!(mean.abs() < 1e-3 && (square - 1.0).abs() < 1e-3, "{mean} {square}");
    }

    #[test]
    fn a_warp_is_a_function_of_seed_epoch_and_sample() {
        let digits = Digits::embedded(Options::default()).unwrap();
        let seen =
            |seed, epoch, chosen: &[usize]| digits.train(chosen, View { seed, epoch }).unwrap();
        let both = seen(1, 2, &[7, 1399]);
        both.check(&digits).unwrap();
        assert_eq!(both.labels, [7, 1399].map(|i: usize| u32::from(LABELS[8 + i])));
        assert_eq!(values(both)[64..], values(seen(1, 2, &[1399])));
        assert_ne!(seen(1, 2, &[7]), seen(1, 3, &[7]));
        assert_ne!(seen(1, 2, &[7]), seen(2, 2, &[7]));
    }

    #[test]
    fn impossible_splits_and_mismatches_are_errors() {
        for train in [0, 1797, 5000] {
            assert!(from_idx(IMAGES, LABELS, Some(train)).is_err());
        }
        let fewer = [&[0, 0, 8, 1, 0, 0, 0, 2][..], &[1, 2]].concat();
        assert!(error(from_idx(IMAGES, &fewer, None)).contains("1797 images and 2 labels"));
        let warp = Options { warp: Some(f32::NAN), ..Options::default() };
        assert!(error(Digits::embedded(warp)).contains("warped by 0 or more"));
    }

    #[test]
    fn nothing_to_learn_is_an_error() {
        let images = |count, pixels: &[u8]| {
            [&[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 1, 0, 0, 0, 1], pixels].concat()
        };
        let labels = |labels: &[u8]| [&[0, 0, 8, 1, 0, 0, 0, labels.len() as u8], labels].concat();
        let of = |pixels: &[u8], classes: &[u8]| {
            error(from_idx(&images(classes.len() as u8, pixels), &labels(classes), None))
        };
        assert!(of(&[1], &[1]).contains("nothing to learn from"));
        assert!(of(&[1, 2, 3], &[0, 0, 0]).contains("the same label"));
        assert!(of(&[5, 5, 5], &[0, 1, 2]).contains("every pixel"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let nowhere = Path::new("no-such-file");
        let error = error(Digits::open(nowhere, nowhere, Options::default()));
        assert!(error.contains("no-such-file cannot be read"), "{error}");
    }

    #[test]
    fn files_in_the_format_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (images, labels) = (folder.path().join("images"), folder.path().join("labels"));
        fs::write(&images, IMAGES).unwrap();
        fs::write(&labels, LABELS).unwrap();
        let digits = Digits::open(&images, &labels, Options::default()).unwrap();
        assert_eq!((digits.train_samples(), digits.test_samples()), (1397, 400));
        assert!(digits.describe().ends_with("labels"), "{}", digits.describe());
        fs::write(&images, &IMAGES[..IMAGES.len() - 1]).unwrap();
        let error = error(Digits::open(&images, &labels, Options::default()));
        assert!(error.contains("in the images") && error.contains("115007 follow"), "{error}");
    }
}
