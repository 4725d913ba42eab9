//! CIFAR-10 and CIFAR-100 in their binary version, from the user's folder.
//!
//! A file is records without header: the labels, one byte each, then 1024 bytes of red, 1024 of green
//! and 1024 of blue, row-major.  Format: A. Krizhevsky, <https://www.cs.toronto.edu/~kriz/cifar.html>.

use std::{ops::Range, path::Path};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, RngExt};

use crate::{
    Batch, Dataset, Input, Inputs, Judged, View, bytes,
    images::{Images, Normalisation},
};

/// Rows, and columns.
const SIDE: usize = 32;
const AREA: usize = SIDE * SIDE;
/// Pixels by which training images are moved at most, each way.
const PADDING: usize = 4;

/// One of the two data sets.
#[derive(Debug)]
struct Layout {
    name: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    /// Training images per test image in each training file, as published.
    images_per_test_image: usize,
    /// What the labels of an image are called, and how many there are; the last is the class.
    labels: &'static [(&'static str, usize)],
}

const CIFAR_10: Layout = Layout {
    name: "CIFAR-10",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    images_per_test_image: 1,
    labels: &[("label", 10)],
};

const CIFAR_100: Layout = Layout {
    name: "CIFAR-100",
    train: &["train.bin"],
    test: "test.bin",
    images_per_test_image: 5,
    labels: &[("coarse label", 20), ("fine label", 100)],
};

impl Layout {
    /// Finds out which of the two a folder holds.
    fn detect(folder: &Path) -> Result<&'static Self> {
        let holds = |name: &str| folder.join(name).exists();
        let any = |layout: &Self| layout.train.iter().any(|name| holds(name)) || holds(layout.test);
        let shown = folder.display();
        ensure!(folder.is_dir(), "{shown} is no folder");
        match (any(&CIFAR_10), any(&CIFAR_100)) {
            (true, false) => Ok(&CIFAR_10),
            (false, true) => Ok(&CIFAR_100),
            (true, true) => bail!("{shown} holds files of both CIFAR-10 and CIFAR-100"),
            (false, false) => {
                let python = holds("data_batch_1") || holds("train");
                let hint = if python {
                    ": this is the Python version, and the binary is needed"
                } else {
                    ""
                };
                bail!(
                    "{shown} holds neither CIFAR-10 (data_batch_1.bin to data_batch_5.bin and \
                     test_batch.bin) nor CIFAR-100 (train.bin and test.bin){hint}"
                );
            }
        }
    }

    fn classes(&self) -> usize {
        self.labels[self.labels.len() - 1].1
    }

    /// Appends the images of a file, channels last, and their classes; returns how many.
    fn read(&self, bytes: &[u8], pixels: &mut Vec<u8>, classes: &mut Vec<u8>) -> Result<usize> {
        let record = self.labels.len() + 3 * AREA;
        let (images, rest) = (bytes.len() / record, bytes.len() % record);
        ensure!(
            rest == 0,
            "{} bytes are {images} images of {record} bytes and {rest} bytes of another",
            bytes.len()
        );
        ensure!(images > 0, "the file is empty");
        pixels.reserve(images * 3 * AREA);
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            let (labels, planes) = record.split_at(self.labels.len());
            for (&label, &(name, count)) in labels.iter().zip(self.labels) {
                ensure!(
                    usize::from(label) < count,
                    "image {index} has {name} {label}, and there are {count} from 0"
                );
            }
            classes.extend(labels.last());
            pixels.extend(
                (0..AREA).flat_map(|i| [planes[i], planes[AREA + i], planes[2 * AREA + i]]),
            );
        }
        Ok(images)
    }
}

/// Small photographs with one label each.
#[derive(Debug)]
pub struct Cifar {
    layout: &'static Layout,
    images: Images,
    labels: Vec<u8>,
    train: usize,
    normalisation: Normalisation,
    folder: String,
}

impl Cifar {
    /// Reads CIFAR-10 or CIFAR-100, whichever the folder holds.
    ///
    /// Files with fewer images than published are taken if all are shorter by the same factor.
    ///
    /// # Errors
    ///
    /// A file is missing, ends within an image, has a label out of range or has another number of
    /// images than the others ask for; the error names it.
    pub fn open(folder: &Path) -> Result<Self> {
        let layout = Layout::detect(folder)?;
        let (mut pixels, mut labels, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for name in layout.train.iter().chain([&layout.test]) {
            let path = folder.join(name);
            let bytes = bytes::read(&path)?;
            let count = layout
                .read(&bytes, &mut pixels, &mut labels)
                .with_context(|| format!("{} is no file of {}", path.display(), layout.name))?;
            counts.push(count);
        }
        let test = counts[layout.train.len()];
        for (name, &count) in layout.train.iter().zip(&counts) {
            let expected = test * layout.images_per_test_image;
            ensure!(
                count == expected,
                "in {}, {name} has {count} images, and {expected} belong to the {test} in {}: one \
                 of the two is cut short",
                folder.display(),
                layout.test
            );
        }
        let train = labels.len() - test;
        Ok(Self {
            layout,
            normalisation: Normalisation::of(&pixels[..train * 3 * AREA], 3)?,
            images: Images { height: SIDE, width: SIDE, channels: 3, pixels },
            labels,
            train,
            folder: folder.display().to_string(),
        })
    }

    fn labels_of(&self, samples: impl IntoIterator<Item = usize>) -> Vec<u32> {
        samples.into_iter().map(|index| u32::from(self.labels[index])).collect()
    }
}

impl Dataset for Cifar {
    fn describe(&self) -> String {
        let Layout { name, .. } = self.layout;
        format!(
            "{name}: {} training and {} test images of 32x32x3, {} classes, from {}",
            self.train,
            self.test_samples(),
            self.classes(),
            self.folder
        )
    }

    fn input(&self) -> Input {
        self.images.input()
    }

    fn classes(&self) -> usize {
        self.layout.classes()
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

    /// Each image is moved by up to four pixels and mirrored every other time.
    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        let mut values = Vec::with_capacity(chosen.len() * self.images.values());
        let mut image = Vec::with_capacity(self.images.values());
        for &index in chosen {
            assert!(index < self.train, "{index} of {} training images", self.train);
            image.clear();
            self.normalisation.append(self.images.image(index), &mut image);
            Crop::draw(&mut view.generator(index)).append(&image, &mut values);
        }
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

/// A piece of a padded image, as large as the image was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Crop {
    /// The first row of the piece in the padded image; `PADDING` is that of the image itself.
    top: usize,
    left: usize,
    mirrored: bool,
}

impl Crop {
    fn draw(generator: &mut impl Rng) -> Self {
        let mut place = || generator.random_range(0..=2 * PADDING);
        let (top, left) = (place(), place());
        Self { top, left, mirrored: generator.random() }
    }

    /// Appends the piece; the padding is the mean, 0, as in He et al. (2015, section 4.2).
    fn append(self, image: &[f32], to: &mut Vec<f32>) {
        let inside = |place: usize| place.checked_sub(PADDING).filter(|&place| place < SIDE);
        for (row, column) in (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| (row, column))) {
            let column = if self.mirrored { SIDE - 1 - column } else { column };
            match (inside(row + self.top), inside(column + self.left)) {
                (Some(row), Some(column)) => {
                    to.extend_from_slice(&image[(row * SIDE + column) * 3..][..3]);
                }
                _ => to.extend([0.0; 3]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use std::fs;

    use super::*;

    /// Bytes of which no two places have the same by design.
    fn record(labels: &[u8], number: usize) -> Vec<u8> {
        let pixels = (0..3 * AREA).map(|i| ((i * 7 + number * 31) % 251) as u8);
        labels.iter().copied().chain(pixels).collect()
    }

    /// A folder with `images` in each file, times five for the training file of CIFAR-100.
    fn folder(layout: &Layout, images: usize) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut number = 0;
        let mut file = |name: &str, images: usize| {
            let mut bytes = Vec::new();
            for _ in 0..images {
                let labels = layout.labels.iter().map(|&(_, count)| (number % count) as u8);
                bytes.extend(record(&labels.collect::<Vec<_>>(), number));
                number += 1;
            }
            fs::write(folder.path().join(name), bytes).unwrap();
        };
        layout.train.iter().for_each(|name| file(name, images * layout.images_per_test_image));
        file(layout.test, images);
        folder
    }

    fn values(batch: Batch) -> Vec<f32> {
        let Inputs::Images(values) = batch.inputs else { panic!("CIFAR is images") };
        values
    }

    fn error(folder: &Path) -> String {
        format!("{:#}", Cifar::open(folder).unwrap_err())
    }

    #[test]
    fn files_in_the_format_are_read() {
        for layout in [&CIFAR_10, &CIFAR_100] {
            let folder = folder(layout, 4);
            let cifar = Cifar::open(folder.path()).unwrap();
            assert_eq!((cifar.train_samples(), cifar.test_samples()), (20, 4));
            assert_eq!(cifar.classes(), layout.classes());
            assert!(cifar.describe().starts_with(layout.name), "{}", cifar.describe());
            let test = cifar.test(1..3).unwrap();
            test.check(&cifar).unwrap();
            assert_eq!(test.labels, [21, 22].map(|i| i % layout.classes() as u32));
            // Green of the third pixel of test image 1, which is image 21.
            let expected = f32::from(record(&[], 21)[AREA + 2]);
            assert_eq!(values(test)[2 * 3 + 1], cifar.normalisation.value(1, expected));
        }
    }

    #[test]
    fn training_images_are_moved_and_mirrored() {
        let folder = folder(&CIFAR_10, 2);
        let cifar = Cifar::open(folder.path()).unwrap();
        let view = View { seed: 1, epoch: 2 };
        let seen = cifar.train(&[3, 0, 3], view).unwrap();
        seen.check(&cifar).unwrap();
        assert_eq!(seen.labels, [3, 0, 3]);
        let seen = values(seen);
        assert_eq!(seen[..3072], seen[2 * 3072..]);
        let views =
            (0..20).map(|epoch| values(cifar.train(&[3], View { seed: 1, epoch }).unwrap()));
        let views: std::collections::HashSet<Vec<u32>> =
            views.map(|view| view.iter().map(|x| x.to_bits()).collect()).collect();
        assert!(views.len() > 15, "20 epochs saw only {} views", views.len());
    }

    #[test]
    fn a_crop_is_the_image_moved_then_mirrored() {
        let image: Vec<f32> = (0..3072).map(|i| 1.0 + i as f32).collect();
        let cropped = |top, left, mirrored| {
            let mut to = Vec::new();
            Crop { top, left, mirrored }.append(&image, &mut to);
            assert_eq!(to.len(), 3072);
            to
        };
        assert_eq!(cropped(PADDING, PADDING, false), image);
        let mirrored = cropped(PADDING, PADDING, true);
        assert_eq!(mirrored[..3], image[31 * 3..32 * 3]);
        let corner = cropped(0, 0, false);
        assert!(corner[..PADDING * 96 + PADDING * 3].iter().all(|&x| x == 0.0));
        assert_eq!(corner[(PADDING * SIDE + PADDING) * 3..][..3], image[..3]);
        let other = cropped(8, 8, false);
        assert_eq!(other[..3], image[(4 * SIDE + 4) * 3..][..3]);
        assert_eq!(other[3069..], [0.0; 3]);
    }

    #[test]
    fn a_missing_file_is_named() {
        for (layout, gone) in [(&CIFAR_10, "data_batch_4.bin"), (&CIFAR_100, "test.bin")] {
            let folder = folder(layout, 1);
            fs::remove_file(folder.path().join(gone)).unwrap();
            let error = error(folder.path());
            assert!(error.contains(gone) && error.contains("cannot be read"), "{error}");
        }
    }

    #[test]
    fn a_folder_of_something_else_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(error(&folder.path().join("absent")).contains("is no folder"));
        assert!(error(folder.path()).ends_with("(train.bin and test.bin)"));
        fs::write(folder.path().join("data_batch_1"), "").unwrap();
        assert!(error(folder.path()).contains("this is the Python version"));
        fs::write(folder.path().join("data_batch_1.bin"), "").unwrap();
        fs::write(folder.path().join("train.bin"), "").unwrap();
        assert!(error(folder.path()).contains("both CIFAR-10 and CIFAR-100"));
    }

    /// Changes one file and returns its path.
    fn corrupted(folder: &TempDir, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let path = folder.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_file_that_ends_within_an_image_is_an_error() {
        for cut in [1, 3072, 3073 + 5] {
            let folder = folder(&CIFAR_10, 2);
            corrupted(&folder, "data_batch_2.bin", |bytes| bytes.truncate(bytes.len() - cut));
            let error = error(folder.path());
            assert!(error.contains("data_batch_2.bin") && error.contains("of another"), "{error}");
        }
        let folder = folder(&CIFAR_100, 1);
        corrupted(&folder, "test.bin", |bytes| bytes.push(0));
        assert!(error(folder.path()).contains("3075 bytes are 1 images of 3074 bytes and 1 bytes"));
    }

    #[test]
    fn an_empty_file_is_an_error() {
        let folder = folder(&CIFAR_10, 1);
        corrupted(&folder, "test_batch.bin", Vec::clear);
        assert!(
            error(folder.path())
                .contains("test_batch.bin is no file of CIFAR-10: the file is empty")
        );
    }

    #[test]
    fn a_file_that_is_cut_between_images_is_an_error() {
        let ten = folder(&CIFAR_10, 2);
        corrupted(&ten, "data_batch_5.bin", |bytes| bytes.truncate(3073));
        let error_10 = error(ten.path());
        assert!(
            error_10.contains("data_batch_5.bin has 1 images, and 2 belong to the 2"),
            "{error_10}"
        );
        let hundred = folder(&CIFAR_100, 2);
        corrupted(&hundred, "test.bin", |bytes| bytes.truncate(3074));
        let error_100 = error(hundred.path());
        assert!(
            error_100.contains("train.bin has 10 images, and 5 belong to the 1"),
            "{error_100}"
        );
    }

    #[test]
    fn a_label_out_of_range_is_an_error() {
        let ten = folder(&CIFAR_10, 3);
        corrupted(&ten, "data_batch_1.bin", |bytes| bytes[2 * 3073] = 10);
        assert!(error(ten.path()).contains("image 2 has label 10, and there are 10 from 0"));
        for (place, what) in [(0, "coarse label 100"), (1, "fine label 100")] {
            let hundred = folder(&CIFAR_100, 1);
            corrupted(&hundred, "train.bin", |bytes| bytes[place] = 100);
            let error = error(hundred.path());
            assert!(error.contains(&format!("image 0 has {what}")), "{error}");
        }
    }

    #[test]
    fn images_without_contrast_are_an_error() {
        let folder = folder(&CIFAR_10, 1);
        for name in CIFAR_10.train {
            corrupted(&folder, name, |bytes| bytes.fill(0));
        }
        assert!(error(folder.path()).contains("every pixel"));
    }
}
