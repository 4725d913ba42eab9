//! Where samples come from.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    Dataset,
    cifar::Cifar,
    customers::{self, Customers},
    digits::{self, Digits},
    objects::Objects,
    scenes::{self, Scenes},
    text::Text,
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
            Self::Cifar(folder) => Box::new(Cifar::open(folder)?),
            Self::Scenes(plan) => Box::new(Scenes::generate(*plan)?),
            Self::Objects(plan) => Box::new(Objects::generate(*plan)?),
            Self::Text { file: Some(file), length } => Box::new(Text::open(file, *length)?),
            Self::Text { file: None, length } => Box::new(Text::shipped(*length)?),
            Self::Customers(plan) => Box::new(Customers::generate(*plan)?),
        })
    }
}
