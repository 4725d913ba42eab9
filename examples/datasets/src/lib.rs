//! What networks learn from: digits, photographs, scenes to segment or to find objects in, text, customers and points of
//! a field, and how well they did.
//!
//! ```text
//! Source -> dyn Dataset -> train(chosen, View), test(range) -> Batch
//!                                                               |
//!                                         logits, labels -> Score -> accuracy, mean IoU
//!                       predictions, quantities -> Quantities -> explained variance, bias
//!                        samples, generated ones -> Sliced -> skill
//! ```
//!
//! A [`loader::Loader`] reads batches ahead, by several threads.
//!
//! ```
//! use std::sync::Arc;
//!
//! use adaloss_datasets::{
//!     Dataset, View,
//!     loader::{Loader, Options, Request},
//!     objects::Objects,
//!     scenes::Plan,
//! };
//!
//! # fn main() -> anyhow::Result<()> {
//! let plan = Plan { train: 8, test: 2, ..Objects::PLAN };
//! let dataset: Arc<dyn Dataset> = Arc::new(Objects::generate(plan)?);
//! let view = View { seed: 0, epoch: 0 };
//! let order = view.order(dataset.train_samples());
//! let step = |chosen: &[usize]| Request::Train { chosen: chosen.to_vec(), view };
//! let steps: Vec<Request> = order.chunks(4).map(step).collect();
//! let loader = Loader::new(Arc::clone(&dataset), Options { threads: 2, ahead: 1 })?;
//! for (nth, step) in steps.iter().enumerate() {
//!     let batch = loader.take(step, steps[nth + 1..].iter().cloned())?;
//!     assert_eq!((batch.samples, batch.objects.len()), (4, 4));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A data set keeps its samples as compactly as they came; only a [`Batch`] is f32.  Nothing here
//! depends on the order of calls: a batch is a function of what is asked for.

mod balance;
pub mod broken;
mod bytes;
pub mod camvid;
pub mod cifar;
pub mod coco;
pub mod customers;
pub mod detection;
pub mod digits;
mod folder;
pub mod generate;
pub mod helmholtz;
pub mod idx;
pub mod imagenet;
pub mod images;
pub mod loader;
mod meta;
pub mod metric;
pub mod object;
pub mod objects;
pub mod picture;
mod pose;
pub mod quantity;
pub mod scene;
pub mod scenes;
pub mod shape;
pub mod sliced;
pub mod source;
pub mod ssd;
pub mod sums;
pub mod text;
pub mod texture;
pub mod unlabelled;
pub mod view;
pub mod voc;
pub mod warp;

use std::ops::Range;

use anyhow::{Result, anyhow, bail, ensure};

pub use adaloss_photo as photo;
pub use broken::OnBroken;
pub use metric::Score;
pub use object::Object;
pub use quantity::Quantities;
pub use sliced::Sliced;
pub use source::{Source, Wanted};
pub use view::View;

/// The label of a pixel without class: it has no loss and is not judged.
pub const IGNORED: u32 = u32::MAX;

/// What the samples of a batch hold, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Inputs {
    /// Row-major, channels last, of mean 0 and variance 1 per channel over the training samples; or the features of a
    /// sample as one pixel.
    Images(Vec<f32>),
    /// Places in the vocabulary.
    Tokens(Vec<u32>),
}

/// Some samples and their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The samples.
    pub inputs: Inputs,
    /// One per image, per pixel (row-major) or per token, as [`Dataset::judged`] says; a class, or
    /// [`IGNORED`].
    pub labels: Vec<u32>,
    /// One per sample, where a quantity is learnt instead of a class; else none.
    pub quantities: Vec<f32>,
    /// One list per sample, where objects are to be found; else none.  A list is empty where there is no object.
    pub objects: Vec<Vec<Object>>,
    /// How many samples.
    pub samples: usize,
}

impl Batch {
    /// Returns samples that have neither labels, quantities nor objects.
    pub fn of(inputs: Inputs, samples: usize) -> Self {
        Self { inputs, labels: Vec::new(), quantities: Vec::new(), objects: Vec::new(), samples }
    }

    /// Puts the samples of another batch of the same data set behind those of this one.
    ///
    /// # Errors
    ///
    /// Its inputs are of another kind.
    pub fn append(&mut self, other: Self) -> Result<()> {
        match (&mut self.inputs, other.inputs) {
            (Inputs::Images(values), Inputs::Images(more)) => values.extend(more),
            (Inputs::Tokens(tokens), Inputs::Tokens(more)) => tokens.extend(more),
            _ => bail!("images and tokens are in no batch together"),
        }
        self.labels.extend(other.labels);
        self.quantities.extend(other.quantities);
        self.objects.extend(other.objects);
        self.samples += other.samples;
        Ok(())
    }

    /// Checks what a network relies on: that the lengths are those of `dataset`, every value and quantity is a
    /// number, every token and label exists, and every object is within its image.
    ///
    /// # Errors
    ///
    /// The first violation, with the sample in which it lies, counted from the batch's first.
    pub fn check(&self, dataset: &dyn Dataset) -> Result<()> {
        let (length, places) = (self.input_length(), dataset.input().values());
        ensure!(
            length == self.samples * places,
            "{length} input values are no {} samples of {places}",
            self.samples
        );
        match (&self.inputs, dataset.input()) {
            (Inputs::Images(values), Input::Image { .. }) => {
                if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                    let value = values[at];
                    bail!("sample {} contains {value}, which is no finite number", at / places);
                }
            }
            (Inputs::Tokens(tokens), Input::Tokens { vocabulary, .. }) => {
                if let Some(at) = tokens.iter().position(|&token| token as usize >= vocabulary) {
                    bail!("sample {} contains token {} of {vocabulary}", at / places, tokens[at]);
                }
            }
            _ => bail!("the inputs are of another kind than those of the data set"),
        }
        self.check_labels(dataset)?;
        self.check_quantities(dataset)?;
        self.check_objects(dataset)
    }

    fn input_length(&self) -> usize {
        match &self.inputs {
            Inputs::Images(values) => values.len(),
            Inputs::Tokens(tokens) => tokens.len(),
        }
    }

    fn check_quantities(&self, dataset: &dyn Dataset) -> Result<()> {
        let expected = if dataset.judged() == Judged::Quantity { self.samples } else { 0 };
        ensure!(
            self.quantities.len() == expected,
            "{} quantities are not the {expected} of {} samples",
            self.quantities.len(),
            self.samples
        );
        if let Some(at) = self.quantities.iter().position(|value| !value.is_finite()) {
            bail!(
                "sample {at} has the quantity {}, which is no finite number",
                self.quantities[at]
            );
        }
        Ok(())
    }

    fn check_objects(&self, dataset: &dyn Dataset) -> Result<()> {
        let expected = if dataset.judged() == Judged::Objects { self.samples } else { 0 };
        ensure!(
            self.objects.len() == expected,
            "{} lists of objects are not the {expected} of {} samples",
            self.objects.len(),
            self.samples
        );
        for (sample, objects) in self.objects.iter().enumerate() {
            for (nth, object) in objects.iter().enumerate() {
                object
                    .check(dataset.classes())
                    .map_err(|error| anyhow!("object {nth} of sample {sample} has {error}"))?;
            }
        }
        Ok(())
    }

    fn check_labels(&self, dataset: &dyn Dataset) -> Result<()> {
        let places = dataset.labels_per_sample();
        ensure!(
            self.labels.len() == self.samples * places,
            "{} labels are not {places} for each of {} samples",
            self.labels.len(),
            self.samples
        );
        let classes = dataset.classes();
        let wrong = |&label: &u32| label as usize >= classes && label != IGNORED;
        if let Some(at) = self.labels.iter().position(wrong) {
            bail!("sample {} has label {} of {classes} classes", at / places, self.labels[at]);
        }
        Ok(())
    }
}

/// What one sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A picture.
    Image {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Values per pixel, side by side.
        channels: usize,
    },
    /// A piece of text.
    Tokens {
        /// Tokens per sample.
        length: usize,
        /// Tokens that exist.
        vocabulary: usize,
    },
}

impl Input {
    /// Returns the number of values, or of tokens, of one sample.
    pub fn values(self) -> usize {
        match self {
            Self::Image { height, width, channels } => height * width * channels,
            Self::Tokens { length, .. } => length,
        }
    }
}

/// What has a label of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// A whole image.
    PerSample,
    /// Each of its pixels.
    PerPixel,
    /// Each token of a text: the label is the token that follows.
    PerToken,
    /// A whole sample, which has a quantity and no label.
    Quantity,
    /// What is in a whole image: it has a list of objects, each with a class and a place, and no label.
    Objects,
    /// All samples together, by how near generated ones are to them: none has a label.
    Distribution,
}

/// Samples to learn from, and others to be judged by.
pub trait Dataset: Send + Sync {
    /// Returns one line for reports: name, sizes, source.
    fn describe(&self) -> String;

    /// Returns what one sample is.
    fn input(&self) -> Input;

    /// Returns the number of classes; 1 where a quantity or a distribution is learnt.  Where objects are to be found, the background is none of
    /// them.
    fn classes(&self) -> usize;

    /// Returns what has a label of its own.
    fn judged(&self) -> Judged;

    /// Returns the number of training samples of an epoch.
    fn train_samples(&self) -> usize;

    /// Returns the number of test samples.
    fn test_samples(&self) -> usize;

    /// Returns training samples as they are seen in an epoch: augmented by a pure function of seed,
    /// epoch and sample, so that those of two batches are those of the batch of both.
    ///
    /// # Errors
    ///
    /// A sample cannot be read, where samples lie in files of the user's and are not to be skipped ([`OnBroken`]); the error
    /// names the file.
    ///
    /// # Panics
    ///
    /// If a chosen sample is not below [`train_samples`](Self::train_samples).
    fn train(&self, chosen: &[usize], view: View) -> Result<Batch>;

    /// Returns test samples as they are; fewer than asked for, where broken ones are skipped.
    ///
    /// # Errors
    ///
    /// As [`train`](Self::train).
    ///
    /// # Panics
    ///
    /// If the range ends behind [`test_samples`](Self::test_samples).
    fn test(&self, range: Range<usize>) -> Result<Batch>;

    /// Tells whether samples are read from files when they are asked for, which takes so long that it is worth a [`loader::Loader`].
    fn reads_files(&self) -> bool {
        false
    }

    /// Returns the samples that were skipped so far since they cannot be read, sorted, each with its reason.
    fn left_out(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns a weight per class for the loss, or nothing where all weigh the same.
    fn class_weights(&self) -> Vec<f32> {
        Vec::new()
    }

    /// Returns the number of labels of one sample.
    fn labels_per_sample(&self) -> usize {
        match (self.judged(), self.input()) {
            (Judged::PerPixel, Input::Image { height, width, .. }) => height * width,
            (Judged::PerToken, Input::Tokens { length, .. }) => length,
            (Judged::Quantity | Judged::Objects | Judged::Distribution, _) => 0,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests;
