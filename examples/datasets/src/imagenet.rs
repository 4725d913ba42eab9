//! ImageNet (ILSVRC 2012) from the user's folder: photographs with one label each.
//!
//! ```text
//! train/n01440764/n01440764_18.JPEG ...   a folder for each class, called by its WNID
//! val/n01440764/ILSVRC2012_val_00000293.JPEG ...   the same, or all 50,000 in one folder and beside it
//! ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt, meta.mat   the development kit; or
//! LOC_val_solution.csv   of Kaggle
//! ```
//!
//! Classes are numbered in the order of their WNIDs, as everyone's models have them; the development kit numbers them
//! otherwise, so that its labels mean nothing without its list of WNIDs.
//!
//! Training images are a piece of random size and shape, 224 by 224 pixels, and mirrored every other time; test images are the
//! middle 224 by 224 of what has 256 pixels along its shorter side (He et al., 2016, section 3.4; Szegedy et al., 2015,
//! section 6; the numbers are those of torchvision's `RandomResizedCrop` and of its references for classification).

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, RngExt};
use rayon::prelude::*;

use crate::{
    Batch, Dataset, Input, Inputs, Judged, View,
    broken::{Broken, OnBroken},
    folder::{Listing, is_photo, read_text},
    images::Normalisation,
    meta,
    photo::{Photo, Piece},
};

/// What a folder has to hold.
pub(crate) const EXPECTED: &str = "train/ with a folder of photographs for each class, and val/";
/// The development kit's numbers of the validation images' classes, one per line, from 1.
const TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
/// The WNIDs with those numbers, in a file of MATLAB's.
const META: &str = "meta.mat";
/// Where both are in the folder, unpacked as the development kit is.
const KIT: &str = "ILSVRC2012_devkit_t12/data";
/// Kaggle's list of the validation images, with the WNIDs of what is in them.
const SOLUTION: &str = "LOC_val_solution.csv";

/// How images are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Rows, and columns, of what a network sees.  The shorter side of a test image is 8/7 of it, as 256 is of 224.
    pub size: usize,
    /// What becomes of broken files.
    pub on_broken: OnBroken,
}

impl Default for Options {
    fn default() -> Self {
        Self { size: 224, on_broken: OnBroken::Stop }
    }
}

/// An image, by its place.
#[derive(Debug)]
struct Entry {
    /// Below `train` or `val`.
    path: Box<str>,
    class: u16,
}

/// Photographs with one label each, in files that are read when they are asked for.
#[derive(Debug)]
pub struct Imagenet {
    folder: PathBuf,
    options: Options,
    /// WNIDs, sorted.
    classes: Vec<String>,
    train: Vec<Entry>,
    test: Vec<Entry>,
    normalisation: Normalisation,
    broken: Broken,
}

impl Imagenet {
    /// Lists the images of a folder; none is opened.
    ///
    /// # Errors
    ///
    /// A folder or list is missing or empty, names another class than `train` has or another number of images than `val` has,
    /// or the size is not from 8 to 4096; the error says which.
    pub fn open(folder: &Path, options: Options) -> Result<Self> {
        let size = options.size;
        ensure!((8..=4096).contains(&size), "images can have 8 to 4096 rows, and not {size}");
        let train = folder.join("train");
        let val = folder.join("val");
        ensure!(
            train.is_dir() && val.is_dir(),
            "{} is no folder of ImageNet: {EXPECTED}, are expected in it",
            folder.display()
        );
        let classes = Listing::of(&train)?.folders;
        ensure!(
            (2..=usize::from(u16::MAX)).contains(&classes.len()),
            "{} has {} folders: one for each class, and at least two, are expected in it",
            train.display(),
            classes.len()
        );
        let listing = Listing::of(&val)?;
        let test = match listing.folders.is_empty() {
            true => of_lists(folder, &val, listing.files, &classes)?,
            false => of_folders(&val, &listing.folders, &classes)?,
        };
        Ok(Self {
            folder: folder.to_path_buf(),
            options,
            train: of_folders(&train, &classes, &classes)?,
            classes,
            test,
            normalisation: Normalisation::imagenet(),
            broken: Broken::new(options.on_broken),
        })
    }

    /// Returns the WNIDs of the classes, in their order.
    pub fn class_names(&self) -> &[String] {
        &self.classes
    }

    fn train_image(&self, index: usize, view: View) -> Result<(Photo, u32)> {
        let Entry { path, class } = &self.train[index];
        let photo = Photo::read(&self.folder.join("train").join(&**path))?;
        let mut generator = view.generator(index);
        let piece = random_piece(photo.width, photo.height, &mut generator);
        let mut seen = photo.resized(piece, self.options.size, self.options.size);
        if generator.random() {
            seen.mirror();
        }
        Ok((seen, u32::from(*class)))
    }

    fn test_image(&self, index: usize) -> Result<(Photo, u32)> {
        let Entry { path, class } = &self.test[index];
        let photo = Photo::read(&self.folder.join("val").join(&**path))?;
        let size = self.options.size;
        let all = whole_size(photo.width, photo.height, size * 8 / 7);
        Ok((photo.middle_of_resized(all, size, size), u32::from(*class)))
    }

    fn batch(&self, samples: impl Iterator<Item = Result<Option<(Photo, u32)>>>) -> Result<Batch> {
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for sample in samples {
            if let Some((photo, class)) = sample? {
                self.normalisation.append(&photo.pixels, &mut values);
                labels.push(class);
            }
        }
        let samples = labels.len();
        Ok(Batch { labels, ..Batch::of(Inputs::Images(values), samples) })
    }
}

impl Dataset for Imagenet {
    fn describe(&self) -> String {
        let Self { folder, options, train, test, .. } = self;
        format!(
            "ImageNet: {} training and {} test images, seen at {}x{}x3, {} classes, from {}",
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
        Judged::PerSample
    }

    fn train_samples(&self) -> usize {
        self.train.len()
    }

    fn test_samples(&self) -> usize {
        self.test.len()
    }

    /// Each image is a piece of random size and shape, mirrored every other time.
    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        let samples = self.train.len();
        self.batch(chosen.iter().map(|&index| {
            assert!(index < samples, "{index} of {samples} training images");
            let read = |index| self.train_image(index, view);
            self.broken.train(index, samples, view, read).map(Some)
        }))
    }

    fn test(&self, range: Range<usize>) -> Result<Batch> {
        self.batch(range.map(|index| self.broken.keep(self.test_image(index))))
    }

    fn reads_files(&self) -> bool {
        true
    }

    fn left_out(&self) -> Vec<String> {
        self.broken.left_out()
    }
}

/// Lists the photographs of folders that are called by their classes.
fn of_folders(folder: &Path, names: &[String], classes: &[String]) -> Result<Vec<Entry>> {
    let of_class = |name: &String| {
        let path = folder.join(name);
        let class = class_of(name, classes).with_context(|| path.display().to_string())?;
        let mut files = Listing::of(&path)?.files;
        files.retain(|file| is_photo(file));
        ensure!(
            !files.is_empty(),
            "{} is a class without photographs: files that end in .JPEG are expected in it",
            path.display()
        );
        let entry = |file: String| Entry { path: format!("{name}/{file}").into(), class };
        Ok(files.into_iter().map(entry).collect())
    };
    let entries: Vec<Vec<Entry>> = names.par_iter().map(of_class).collect::<Result<_>>()?;
    Ok(entries.into_iter().flatten().collect())
}

/// Gives the photographs of one folder the labels that lie beside it.
fn of_lists(
    folder: &Path,
    val: &Path,
    mut files: Vec<String>,
    classes: &[String],
) -> Result<Vec<Entry>> {
    files.retain(|file| is_photo(file));
    ensure!(
        !files.is_empty(),
        "{} has neither folders nor photographs: a folder for each class is expected in it, or files that end in .JPEG",
        val.display()
    );
    let solution = folder.join(SOLUTION);
    let kits = [folder.join(KIT), folder.to_path_buf()];
    if let Some(kit) = kits.iter().find(|kit| kit.join(TRUTH).exists()) {
        of_kit(&kit.join(TRUTH), &kit.join(META), files, classes)
    } else if solution.exists() {
        of_solution(&solution, files, classes)
    } else {
        bail!(
            "{} has no folders for classes, so that {KIT}/{TRUTH} and {META}, or {SOLUTION}, are expected in {}",
            val.display(),
            folder.display()
        )
    }
}

/// Takes the labels of the development kit: one per photograph, in the order of their names.
fn of_kit(truth: &Path, meta: &Path, files: Vec<String>, classes: &[String]) -> Result<Vec<Entry>> {
    let wnids = fs::read(meta).with_context(|| {
        format!(
            "the numbers in {} mean nothing without the classes that have them: {} cannot be read",
            truth.display(),
            meta.display()
        )
    })?;
    let wnids = meta::wnids(&wnids)
        .with_context(|| format!("{} is no list of ImageNet's classes", meta.display()))?;
    let numbers = read_text(truth)?;
    let count = numbers.lines().count();
    ensure!(
        count == files.len(),
        "{} has {count} lines, and there are {} photographs in val: one is expected for each, in the order of their names",
        truth.display(),
        files.len()
    );
    let mut entries = Vec::with_capacity(files.len());
    for (nth, (file, number)) in files.into_iter().zip(numbers.lines()).enumerate() {
        let class = || {
            let number: usize =
                number.trim().parse().with_context(|| format!("\"{number}\" is no number"))?;
            let wnid = number.checked_sub(1).and_then(|place| wnids.get(place));
            let wnid = wnid.with_context(|| {
                format!("{number} is none of the {} classes of {}", wnids.len(), meta.display())
            })?;
            class_of(wnid, classes)
        };
        let class = class().with_context(|| format!("{}, line {}", truth.display(), nth + 1))?;
        entries.push(Entry { path: file.into(), class });
    }
    Ok(entries)
}

/// Takes the labels of Kaggle's list: a name without its end, a comma, and a WNID before anything else.
fn of_solution(solution: &Path, files: Vec<String>, classes: &[String]) -> Result<Vec<Entry>> {
    let text = read_text(solution)?;
    let mut labels = BTreeMap::new();
    // Behind the line that names the columns.
    for (nth, line) in text.lines().enumerate().skip(1) {
        let wnid = || {
            let (name, seen) = line.split_once(',').context("there is no comma")?;
            let wnid = seen.split_whitespace().next().context("no class follows the comma")?;
            Ok::<_, anyhow::Error>((name, class_of(wnid, classes)?))
        };
        let (name, class) =
            wnid().with_context(|| format!("{}, line {}", solution.display(), nth + 1))?;
        labels.insert(name, class);
    }
    let entry = |file: String| {
        let stem = file.rsplit_once('.').map_or(&*file, |(stem, _)| stem);
        let class = labels.get(stem);
        let class =
            *class.with_context(|| format!("{} has no line for {file}", solution.display()))?;
        Ok(Entry { path: file.into(), class })
    };
    files.into_iter().map(entry).collect()
}

/// Returns the number of a class.
fn class_of(wnid: &str, classes: &[String]) -> Result<u16> {
    let place = classes.binary_search_by(|class| class.as_str().cmp(wnid));
    place
        .ok()
        .and_then(|place| u16::try_from(place).ok())
        .with_context(|| format!("\"{wnid}\" is none of the {} classes of train", classes.len()))
}

/// Returns the size of a photograph whose shorter side is to be so many pixels; the other is rounded down.
fn whole_size(width: usize, height: usize, shorter: usize) -> [usize; 2] {
    let longer = shorter * width.max(height) / width.min(height);
    if width <= height { [shorter, longer] } else { [longer, shorter] }
}

/// Draws a piece of a photograph: 8 to 100 per cent of its area, three times as wide as four high to four as three.
///
/// After ten draws that do not fit, the middle of the photograph, as wide or as high as the shapes allow.
fn random_piece(width: usize, height: usize, generator: &mut impl Rng) -> Piece {
    let area = (width * height) as f64;
    let [narrowest, widest] = [3.0 / 4.0, 4.0 / 3.0];
    for _ in 0..10 {
        let share: f64 = generator.random_range(0.08..=1.0);
        let shape = generator.random_range(f64::ln(narrowest)..=f64::ln(widest)).exp();
        let [across, down] =
            [share * area * shape, share * area / shape].map(|x| x.sqrt().round() as usize);
        if (1..=width).contains(&across) && (1..=height).contains(&down) {
            let top = generator.random_range(0..=height - down);
            let left = generator.random_range(0..=width - across);
            return Piece { left, top, width: across, height: down };
        }
    }
    let [wide, high] = [width as f64, height as f64];
    let across = wide.min((high * widest).round()).max(1.0) as usize;
    let down = high.min((wide / narrowest).round()).max(1.0) as usize;
    Piece { left: (width - across) / 2, top: (height - down) / 2, width: across, height: down }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_side_is_as_long_as_asked() {
        assert_eq!(whole_size(500, 375, 256), [341, 256]);
        assert_eq!(whole_size(375, 500, 256), [256, 341]);
        assert_eq!(whole_size(100, 100, 256), [256, 256]);
        assert_eq!(whole_size(1, 20_000, 256), [256, 5_120_000]);
    }

    /// Large pieces and narrow ones fit less often than others.
    #[test]
    fn pieces_have_the_sizes_and_shapes_that_were_published() {
        let pieces: Vec<Piece> = (0..20_000)
            .map(|sample| random_piece(500, 375, &mut View { seed: 0, epoch: 0 }.generator(sample)))
            .collect();
        let mean = |of: &dyn Fn(&Piece) -> f64| pieces.iter().map(of).sum::<f64>() / 20_000.0;
        for Piece { left, top, width, height } in &pieces {
            assert!(*width >= 1 && *height >= 1 && left + width <= 500 && top + height <= 375);
        }
        let area = |piece: &Piece| (piece.width * piece.height) as f64 / 187_500.0;
        let shape = |piece: &Piece| (piece.width as f64 / piece.height as f64).ln();
        // torchvision 0.29.2 draws a mean area of 0.435 and a mean logarithm of shapes of 0.031, of as many pieces.
        assert!((0.425..0.445).contains(&mean(&area)), "{}", mean(&area));
        assert!((0.022..0.042).contains(&mean(&shape)), "{}", mean(&shape));
        assert!(pieces.iter().all(|piece| (0.07..=1.0).contains(&area(piece))));
        assert!(pieces.iter().all(|piece| shape(piece).abs() < (4.0_f64 / 3.0).ln() + 0.03));
    }

    /// No piece of a strip has a shape that is allowed.
    #[test]
    fn a_strip_gets_its_middle() {
        let generator = &mut View { seed: 0, epoch: 0 }.generator(0);
        let piece = random_piece(1000, 3, generator);
        assert_eq!(piece, Piece { left: 498, top: 0, width: 4, height: 3 });
        let piece = random_piece(3, 1000, generator);
        assert_eq!(piece, Piece { left: 0, top: 498, width: 3, height: 4 });
        assert_eq!(random_piece(1, 1, generator), Piece { left: 0, top: 0, width: 1, height: 1 });
    }
}
