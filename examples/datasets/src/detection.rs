//! Photographs with objects to be found, in files that are read when they are asked for: Pascal VOC and COCO.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail, ensure};

use crate::{
    Batch, Dataset, Input, Inputs, Judged, View,
    broken::{Broken, OnBroken},
    images::Normalisation,
    object::Object,
    photo::Photo,
    ssd,
};

/// By how many pixels an object may leave its image, as some do that people drew: it is cut off there.
const TOLERANCE: f64 = 1.0;

/// How images are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Rows, and columns, of what a network sees: 300 and 512 are published.
    pub size: usize,
    /// What becomes of broken files.
    pub on_broken: OnBroken,
}

impl Default for Options {
    fn default() -> Self {
        Self { size: 300, on_broken: OnBroken::Stop }
    }
}

/// An image and what is in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Below the data set's folder.
    pub(crate) path: Box<str>,
    /// Columns and rows, as the annotations have them.
    pub(crate) size: [usize; 2],
    pub(crate) objects: Vec<Object>,
}

/// Photographs with objects: training images as SSD sees them ([`ssd::augmented`]), test images resized to a square; both
/// minus the means of VGG's inputs, 123, 117 and 104 of 255, in the order red, green and blue.
#[derive(Debug)]
pub struct Detection {
    /// What it is, for reports.
    name: String,
    folder: PathBuf,
    classes: Vec<String>,
    options: Options,
    train: Vec<Entry>,
    test: Vec<Entry>,
    normalisation: Normalisation,
    broken: Broken,
}

impl Detection {
    pub(crate) fn new(
        name: String,
        folder: &Path,
        classes: Vec<String>,
        options: Options,
        [train, test]: [Vec<Entry>; 2],
        broken: Broken,
    ) -> Result<Self> {
        let size = options.size;
        ensure!((8..=4096).contains(&size), "images can have 8 to 4096 rows, and not {size}");
        for (part, entries) in [("train", &train), ("test", &test)] {
            let left_out = broken.left_out();
            let reason = match left_out.is_empty() {
                true => String::new(),
                false => format!(": {} are broken, {} for one", left_out.len(), left_out[0]),
            };
            ensure!(
                !entries.is_empty(),
                "{} has no image to {part} with{reason}",
                folder.display()
            );
        }
        Ok(Self {
            name,
            folder: folder.to_path_buf(),
            classes,
            options,
            train,
            test,
            normalisation: Normalisation::published(ssd::MEANS.map(f32::from), [1.0; 3]),
            broken,
        })
    }

    /// Returns the names of the classes, in their order.
    pub fn class_names(&self) -> &[String] {
        &self.classes
    }

    /// Reads an image, which has to be of the size for which its objects were drawn.
    fn read(&self, entry: &Entry) -> Result<Photo> {
        let path = self.folder.join(&*entry.path);
        let photo = Photo::read(&path)?;
        let [width, height] = entry.size;
        ensure!(
            (photo.width, photo.height) == (width, height),
            "{} has {} x {} pixels, and its objects are those of an image of {width} x {height}",
            path.display(),
            photo.width,
            photo.height
        );
        Ok(photo)
    }

    fn batch(
        &self,
        samples: impl Iterator<Item = Result<Option<(Photo, Vec<Object>)>>>,
    ) -> Result<Batch> {
        let (mut values, mut objects) = (Vec::new(), Vec::new());
        for sample in samples {
            if let Some((photo, found)) = sample? {
                self.normalisation.append(&photo.pixels, &mut values);
                objects.push(found);
            }
        }
        let samples = objects.len();
        Ok(Batch { objects, ..Batch::of(Inputs::Images(values), samples) })
    }
}

impl Dataset for Detection {
    fn describe(&self) -> String {
        let Self { name, folder, options, train, test, .. } = self;
        format!(
            "{name}: {} training and {} test images, seen at {}x{}x3, objects of {} classes, from {}",
            train.len(),
            test.len(),
            options.size,
            options.size,
            self.classes.len(),
            folder.display()
        )
    }

    fn input(&self) -> Input {
        Input::Image { height: self.options.size, width: self.options.size, channels: 3 }
    }

    fn classes(&self) -> usize {
        self.classes.len()
    }

    fn judged(&self) -> Judged {
        Judged::Objects
    }

    fn train_samples(&self) -> usize {
        self.train.len()
    }

    fn test_samples(&self) -> usize {
        self.test.len()
    }

    /// Each image is distorted, put into a larger one, cut and mirrored, as SSD sees it.
    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        let samples = self.train.len();
        self.batch(chosen.iter().map(|&index| {
            assert!(index < samples, "{index} of {samples} training images");
            let read = |index: usize| {
                let entry = &self.train[index];
                let generator = &mut view.generator(index);
                Ok(ssd::augmented(&self.read(entry)?, &entry.objects, self.options.size, generator))
            };
            self.broken.train(index, samples, view, read).map(Some)
        }))
    }

    fn test(&self, range: Range<usize>) -> Result<Batch> {
        let size = self.options.size;
        self.batch(self.test[range].iter().map(|entry| {
            let photo = self.broken.keep(self.read(entry))?;
            let seen = photo.map(|photo| photo.resized(photo.whole(), size, size));
            Ok(seen.map(|seen| (seen, entry.objects.clone())))
        }))
    }

    fn reads_files(&self) -> bool {
        true
    }

    fn left_out(&self) -> Vec<String> {
        self.broken.left_out()
    }
}

/// Returns left, top, right and bottom, in pixels from the image's left and upper edge, as shares of its size.
///
/// # Errors
///
/// They are no area, or leave the image by more than a pixel.
pub(crate) fn shares(
    [left, top, right, bottom]: [f64; 4],
    [width, height]: [usize; 2],
) -> Result<[f32; 4]> {
    let within = |from: f64, to: f64, size: usize| {
        let size = size as f64;
        let is_within = -TOLERANCE <= from && from < to && to <= size + TOLERANCE;
        let shares = [from, to].map(|side| (side / size).clamp(0.0, 1.0) as f32);
        is_within.then_some(shares).filter(|[from, to]| from < to)
    };
    match (within(left, right, width), within(top, bottom, height)) {
        (Some([left, right]), Some([top, bottom])) => Ok([left, top, right, bottom]),
        _ => bail!(
            "the box from ({left}, {top}) to ({right}, {bottom}), which is no area of an image of {width} x {height}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_shares_of_their_image() {
        assert_eq!(shares([10.0, 5.0, 20.0, 50.0], [40, 50]).unwrap(), [0.25, 0.1, 0.5, 1.0]);
        // As people draw: up to a pixel outside.
        assert_eq!(shares([-1.0, 0.0, 40.5, 50.0], [40, 50]).unwrap(), [0.0, 0.0, 1.0, 1.0]);
        for sides in [
            [-1.1, 0.0, 9.0, 9.0],
            [0.0, 0.0, 9.0, 51.1],
            [9.0, 0.0, 9.0, 9.0],
            [0.0, 9.0, 9.0, 8.0],
            [40.0, 0.0, 41.0, 9.0],
            [f64::NAN, 0.0, 9.0, 9.0],
            [0.0, 0.0, f64::INFINITY, 9.0],
        ] {
            let error = shares(sides, [40, 50]).unwrap_err().to_string();
            assert!(error.ends_with("which is no area of an image of 40 x 50"), "{error}");
        }
        assert!(shares([0.0, 0.0, 1.0, 1.0], [0, 0]).is_err());
    }
}
