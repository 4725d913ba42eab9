//! Images of another data set without their labels.

use std::ops::Range;

use anyhow::Result;

use crate::{Batch, Dataset, Input, Judged, View};

/// The samples of another data set, whose distribution is learnt: they have no labels.
pub struct Unlabelled(Box<dyn Dataset>);

impl Unlabelled {
    /// Leaves the labels of a data set out.
    pub fn new(dataset: Box<dyn Dataset>) -> Self {
        Self(dataset)
    }
}

/// Leaves out what is known of each sample.
fn unlabelled(Batch { inputs, samples, .. }: Batch) -> Batch {
    Batch::of(inputs, samples)
}

impl Dataset for Unlabelled {
    fn describe(&self) -> String {
        format!("{}, without labels", self.0.describe())
    }

    fn input(&self) -> Input {
        self.0.input()
    }

    fn classes(&self) -> usize {
        1
    }

    fn judged(&self) -> Judged {
        Judged::Distribution
    }

    fn train_samples(&self) -> usize {
        self.0.train_samples()
    }

    fn test_samples(&self) -> usize {
        self.0.test_samples()
    }

    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        self.0.train(chosen, view).map(unlabelled)
    }

    fn test(&self, range: Range<usize>) -> Result<Batch> {
        self.0.test(range).map(unlabelled)
    }

    fn reads_files(&self) -> bool {
        self.0.reads_files()
    }

    fn left_out(&self) -> Vec<String> {
        self.0.left_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digits::{Digits, Options};

    #[test]
    fn samples_are_the_same_and_have_no_labels() {
        let digits = Digits::embedded(Options::default()).unwrap();
        let unlabelled = Unlabelled::new(Box::new(digits.clone()));
        let view = View { seed: 1, epoch: 2 };
        let (mut with, without) =
            (digits.train(&[5, 7], view).unwrap(), unlabelled.train(&[5, 7], view).unwrap());
        assert_eq!(with.labels.len(), 2);
        with.labels.clear();
        assert_eq!(with, without);
        without.check(&unlabelled).unwrap();
        unlabelled.test(0..397).unwrap().check(&unlabelled).unwrap();
        assert_eq!(unlabelled.labels_per_sample(), 0);
        assert!(unlabelled.describe().ends_with("embedded, without labels"));
    }
}
