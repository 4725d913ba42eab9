//! Where samples come from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    Dataset, OnBroken,
    camvid::Camvid,
    cifar::Cifar,
    coco,
    customers::{self, Customers},
    detection,
    digits::{self, Digits},
    helmholtz::{self, Helmholtz},
    imagenet::{self, Imagenet},
    objects::Objects,
    scenes::{self, Scenes},
    text::Text,
    unlabelled::Unlabelled,
    voc,
};

/// What a network learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Images with one label each.
    Images,
    /// Images with one label per pixel.
    Scenes,
    /// Images with a list of objects each.
    Objects,
    /// Characters.
    Text,
    /// Customers with a value each.
    Customers,
    /// Points of a field that has a Helmholtz equation.
    Helmholtz,
    /// Images without labels, whose distribution is learnt.
    Distribution,
}

/// How samples of a folder are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Rows, and columns; by default those that were published for the data set.  CIFAR and CamVid are seen as they are.
    pub size: Option<usize>,
    /// What becomes of broken files.
    pub on_broken: OnBroken,
}

/// Where samples come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The digits that ship with this program.
    Embedded(digits::Options),
    /// A pair of IDX files.
    Idx {
        /// The file of images.
        images: PathBuf,
        /// The file of labels.
        labels: PathBuf,
        /// How they are split and augmented.
        options: digits::Options,
    },
    /// A folder of CIFAR-10 or CIFAR-100.
    Cifar(PathBuf),
    /// A folder of a published data set, which what it holds tells: CIFAR or ImageNet, CamVid, Pascal VOC or COCO.
    Folder {
        /// Where it is.
        folder: PathBuf,
        /// What is to be learnt from it.
        wanted: Wanted,
        /// How samples are seen.
        seen: Seen,
    },
    /// Generated.
    Scenes(scenes::Plan),
    /// Generated.
    Objects(scenes::Plan),
    /// A text file, or the text that ships with this program.
    Text {
        /// The file.
        file: Option<PathBuf>,
        /// Characters of a sample.
        length: usize,
    },
    /// Generated.
    Customers(customers::Plan),
    /// Generated.
    Helmholtz(helmholtz::Plan),
    /// Another source, without labels.
    Unlabelled(Box<Source>),
}

impl Source {
    /// Opens the data set.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or what it holds is no such data set; the error says what and where.
    pub fn open(&self) -> Result<Box<dyn Dataset>> {
        Ok(match self {
            Self::Embedded(options) => Box::new(Digits::embedded(*options)?),
            Self::Idx { images, labels, options } => {
                Box::new(Digits::open(images, labels, *options)?)
            }
            Self::Folder { folder, wanted, seen } => open_folder(folder, *wanted, *seen)?,
            Self::Cifar(folder) => Box::new(Cifar::open(folder)?),
            Self::Scenes(plan) => Box::new(Scenes::generate(*plan)?),
            Self::Objects(plan) => Box::new(Objects::generate(*plan)?),
            Self::Text { file: Some(file), length } => Box::new(Text::open(file, *length)?),
            Self::Text { file: None, length } => Box::new(Text::shipped(*length)?),
            Self::Customers(plan) => Box::new(Customers::generate(*plan)?),
            Self::Helmholtz(plan) => Box::new(Helmholtz::generate(*plan)?),
            Self::Unlabelled(source) => Box::new(Unlabelled::new(source.open()?)),
        })
    }
}

/// Opens whichever data set a folder holds, of those that can be wanted.
fn open_folder(folder: &Path, wanted: Wanted, seen: Seen) -> Result<Box<dyn Dataset>> {
    let Seen { size, on_broken } = seen;
    let shown = folder.display();
    ensure!(folder.is_dir(), "{shown} is no folder");
    let has = |name: &str| folder.join(name).is_dir();
    let of_objects =
        detection::Options { size: size.unwrap_or(detection::Options::default().size), on_broken };
    Ok(match wanted {
        Wanted::Images if has("train") || has("val") => {
            let size = size.unwrap_or(imagenet::Options::default().size);
            Box::new(Imagenet::open(folder, imagenet::Options { size, on_broken })?)
        }
        Wanted::Images => {
            let cifar = Cifar::open(folder);
            Box::new(cifar.with_context(|| {
                format!("for ImageNet {} would be expected in {shown}", imagenet::EXPECTED)
            })?)
        }
        Wanted::Scenes => Box::new(Camvid::open(folder, on_broken)?),
        Wanted::Objects if has("annotations") => Box::new(coco::open(folder, of_objects)?),
        Wanted::Objects if has("VOCdevkit") || has("VOC2007") => {
            Box::new(voc::open(folder, of_objects)?)
        }
        Wanted::Objects => bail!(
            "{shown} holds no data set with objects: for Pascal VOC {} is expected in it, for COCO {} are",
            voc::EXPECTED.trim_end_matches(','),
            coco::EXPECTED.trim_end_matches(',')
        ),
        Wanted::Distribution => {
            Box::new(Unlabelled::new(open_folder(folder, Wanted::Images, seen)?))
        }
        Wanted::Text | Wanted::Customers | Wanted::Helmholtz => {
            bail!(
                "{shown} is a folder, which images are read from, and neither text nor what is generated is"
            )
        }
    })
}
