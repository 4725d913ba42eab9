//! Files that cannot be read, and what becomes of them.

use std::{
    collections::BTreeSet,
    fmt::{self, Display},
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use rand::RngExt;

use crate::view::{View, generator};

/// In how many draws another sample has to be found for one that cannot be read.  Where a hundred in a row are broken, the disk
/// is, or the folder is no data set.
const DRAWS: u64 = 100;

/// What becomes of a sample whose file is broken or gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBroken {
    /// It ends what asked for it, with an error that names the file.
    #[default]
    Stop,
    /// It is left out: in training another sample is taken instead, which seed, epoch and the broken sample decide; a test has
    /// one sample less.
    Skip,
}

impl FromStr for OnBroken {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "stop" => Ok(Self::Stop),
            "skip" => Ok(Self::Skip),
            _ => bail!("\"{name}\" is neither stop nor skip"),
        }
    }
}

impl Display for OnBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Skip => "skip",
        })
    }
}

/// The samples of a data set that could not be read, each once, whenever it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    on_broken: OnBroken,
    /// What was left out, and why.
    left_out: Mutex<BTreeSet<String>>,
}

impl Broken {
    /// Returns a record of nothing yet.
    pub(crate) fn new(on_broken: OnBroken) -> Self {
        Self { on_broken, left_out: Mutex::default() }
    }

    /// Returns what was read, or nothing where it is broken and to be left out.
    pub(crate) fn keep<T>(&self, read: Result<T>) -> Result<Option<T>> {
        match (read, self.on_broken) {
            (Ok(read), _) => Ok(Some(read)),
            (Err(error), OnBroken::Stop) => {
                Err(error.context("a sample is broken, and was not to be skipped"))
            }
            (Err(error), OnBroken::Skip) => {
                self.lock().insert(format!("{error:#}"));
                Ok(None)
            }
        }
    }

    /// Reads one of `samples` training samples, or another one in its place.
    pub(crate) fn train<T>(
        &self,
        sample: usize,
        samples: usize,
        view: View,
        read: impl Fn(usize) -> Result<T>,
    ) -> Result<T> {
        if let Some(read) = self.keep(read(sample))? {
            return Ok(read);
        }
        let mut instead = generator(b"instead-", [view.seed, view.epoch, sample as u64]);
        for _ in 0..DRAWS {
            if let Some(read) = self.keep(read(instead.random_range(0..samples)))? {
                return Ok(read);
            }
        }
        let first = self.lock().first().cloned().unwrap_or_default();
        Err(anyhow::Error::msg(first)).with_context(|| {
            format!(
                "none of {DRAWS} samples that were drawn for a broken one can be read; one of them"
            )
        })
    }

    /// Returns what was left out so far, sorted, each with its reason.
    pub(crate) fn left_out(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    const VIEW: View = View { seed: 1, epoch: 2 };

    /// Reads samples of which those that three divides are broken.
    fn read(sample: usize) -> Result<usize> {
        ensure!(!sample.is_multiple_of(3), "{sample} is broken");
        Ok(sample)
    }

    #[test]
    fn a_broken_sample_ends_what_asked_for_it() {
        let broken = Broken::new(OnBroken::Stop);
        assert_eq!(broken.train(4, 10, VIEW, read).unwrap(), 4);
        let error = format!("{:#}", broken.train(3, 10, VIEW, read).unwrap_err());
        assert_eq!(error, "a sample is broken, and was not to be skipped: 3 is broken");
        assert!(broken.left_out().is_empty());
    }

    #[test]
    fn another_sample_is_taken_instead_and_always_the_same() {
        let broken = Broken::new(OnBroken::Skip);
        let instead = |view| broken.train(3, 10, view, read).unwrap();
        let seen: BTreeSet<_> = (0..50).map(|epoch| instead(View { seed: 0, epoch })).collect();
        assert_eq!(seen, BTreeSet::from([1, 2, 4, 5, 7, 8]));
        assert_eq!(instead(VIEW), instead(VIEW));
        assert_eq!(broken.keep(read(5)).unwrap(), Some(5));
        assert_eq!(broken.keep(read(9)).unwrap(), None);
        // Each once.
        let left_out = ["0 is broken", "3 is broken", "6 is broken", "9 is broken"];
        assert_eq!(broken.left_out(), left_out);
    }

    #[test]
    fn a_data_set_of_which_nothing_can_be_read_is_an_error() {
        let broken = Broken::new(OnBroken::Skip);
        let nothing = |sample: usize| -> Result<()> { bail!("{sample} is broken") };
        let error = format!("{:#}", broken.train(7, 10, VIEW, nothing).unwrap_err());
        assert_eq!(
            error,
            "none of 100 samples that were drawn for a broken one can be read; one of them: 0 is broken"
        );
    }

    #[test]
    fn names_are_read_as_they_are_shown() {
        for on_broken in [OnBroken::Stop, OnBroken::Skip] {
            assert_eq!(on_broken.to_string().parse::<OnBroken>().unwrap(), on_broken);
        }
        assert!("drop".parse::<OnBroken>().is_err());
    }
}
