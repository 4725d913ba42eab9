//! How well predictions meet labels.

use crate::{IGNORED, Judged};

/// Counts predictions, batch by batch, and condenses them into one number.
///
/// Counts are integers, so that neither the order of batches nor their size matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    classes: usize,
    judged: Judged,
    /// A row per true class; a column per predicted one, and a last one for no prediction.
    confusion: Vec<u64>,
}

impl Score {
    /// Returns a score of nothing yet.
    ///
    /// # Panics
    ///
    /// If there are no classes.
    pub fn new(classes: usize, judged: Judged) -> Self {
        assert!(classes > 0, "nothing can be judged without classes");
        Self { classes, judged, confusion: vec![0; classes * (classes + 1)] }
    }

    /// Counts a batch: `logits` has one row of all classes per label.
    ///
    /// A row predicts the class whose logit is greater than all others; one with NaN, or with more
    /// than one greatest logit, predicts nothing, which is wrong.  Labels of [`IGNORED`] count not.
    ///
    /// # Panics
    ///
    /// If the lengths do not match, or a label is neither a class nor ignored.
    pub fn add(&mut self, logits: &[f32], labels: &[u32]) {
        assert_eq!(logits.len(), labels.len() * self.classes, "one row of logits per label");
        for (row, &label) in logits.chunks_exact(self.classes).zip(labels) {
            if label != IGNORED {
                assert!((label as usize) < self.classes, "label {label} of {}", self.classes);
                let predicted = predicted(row).unwrap_or(self.classes);
                self.confusion[label as usize * (self.classes + 1) + predicted] += 1;
            }
        }
    }

    /// Returns what [`value`](Self::value) is: the name of the field.
    pub fn name(&self) -> &'static str {
        match self.judged {
            Judged::PerSample | Judged::PerToken => "accuracy",
            Judged::PerPixel => "mean IoU",
            Judged::Quantity => "explained variance",
            Judged::Objects => "mean average precision",
            Judged::Distribution => "sliced Wasserstein skill",
        }
    }

    /// Returns the mean intersection over union if pixels are judged, else the accuracy; from 0 to
    /// 1, and 0 of nothing; neither a quantity, which [`Quantities`](crate::Quantities) judges, nor objects, nor a distribution, which
    /// [`Sliced`](crate::Sliced) judges, have labels to predict.
    pub fn value(&self) -> f64 {
        match self.judged {
            Judged::PerSample
            | Judged::PerToken
            | Judged::Quantity
            | Judged::Objects
            | Judged::Distribution => self.accuracy(),
            Judged::PerPixel => {
                let of_classes: Vec<_> = self.intersections_over_unions().flatten().collect();
                of_classes.iter().sum::<f64>() / of_classes.len().max(1) as f64
            }
        }
    }

    /// Returns the share of labels that were predicted; 0 of nothing.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes).map(|class| self.count(class, class)).sum();
        right as f64 / self.judged_labels().max(1) as f64
    }

    /// Returns how many labels were judged.
    pub fn judged_labels(&self) -> u64 {
        self.confusion.iter().sum()
    }

    /// Returns, per class, how many labels both have and were predicted to have it over how many do
    /// either; nothing for a class that is absent from both.
    pub fn intersections_over_unions(&self) -> impl Iterator<Item = Option<f64>> {
        (0..self.classes).map(|class| {
            let both = self.count(class, class);
            let labelled: u64 = (0..=self.classes).map(|column| self.count(class, column)).sum();
            let predicted: u64 = (0..self.classes).map(|row| self.count(row, class)).sum();
            let either = labelled + predicted - both;
            (either > 0).then(|| both as f64 / either as f64)
        })
    }

    /// Returns all counts, which add up over the parts of what is judged.
    pub fn counts(&self) -> &[u64] {
        &self.confusion
    }

    /// Takes counts that were added up elsewhere; all zero where they are not as many.
    pub fn set_counts(&mut self, mut counts: Vec<u64>) {
        counts.resize(self.confusion.len(), 0);
        self.confusion = counts;
    }

    fn count(&self, label: usize, predicted: usize) -> u64 {
        self.confusion[label * (self.classes + 1) + predicted]
    }
}

/// Returns the class whose logit is greater than all others.
fn predicted(row: &[f32]) -> Option<usize> {
    let (mut best, mut greatest) = (None, f32::NEG_INFINITY);
    for (class, &logit) in row.iter().enumerate() {
        if logit.is_nan() {
            return None;
        }
        if logit > greatest {
            (best, greatest) = (Some(class), logit);
        } else if logit == greatest {
            best = None;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits that predict these classes, of three.
    fn logits(predicted: &[usize]) -> Vec<f32> {
        let row = |&class: &usize| (0..3).map(move |i| if i == class { 2.0 } else { -1.0 });
        predicted.iter().flat_map(row).collect()
    }

    fn score(judged: Judged, predicted: &[usize], labels: &[u32]) -> Score {
        let mut score = Score::new(3, judged);
        score.add(&logits(predicted), labels);
        score
    }

    #[test]
    fn accuracy_is_the_share_of_right_predictions() {
        for judged in [Judged::PerSample, Judged::PerToken] {
            let score = score(judged, &[0, 1, 2, 2, 0], &[0, 1, 2, 1, IGNORED]);
            assert_eq!((score.value(), score.name()), (0.75, "accuracy"));
            assert_eq!(score.judged_labels(), 4);
        }
    }

    #[test]
    fn mean_iou_is_that_of_the_confusion_matrix() {
        // Class 0: 2 of 3; class 1: 1 of 3; class 2: 1 of 2.
        let score = score(Judged::PerPixel, &[0, 0, 0, 1, 1, 2, 2], &[0, 0, 1, 1, 2, 2, IGNORED]);
        let of_classes: Vec<_> = score.intersections_over_unions().collect();
        assert_eq!(of_classes, [Some(2.0 / 3.0), Some(1.0 / 3.0), Some(0.5)]);
        assert!((score.value() - 0.5).abs() < 1e-15);
        assert_eq!(score.name(), "mean IoU");
    }

    #[test]
    fn absent_classes_are_left_out_but_wrongly_predicted_ones_are_not() {
        assert_eq!(score(Judged::PerPixel, &[0, 1], &[0, 1]).value(), 1.0);
        assert_eq!(score(Judged::PerPixel, &[0, 2], &[0, 0]).value(), 0.25);
    }

    #[test]
    fn batches_add_up_in_any_order_and_size() {
        let (predicted, labels) = ([0, 1, 2, 0, 1, 2], [0, 1, 1, 2, 1, 0]);
        let whole = score(Judged::PerPixel, &predicted, &labels);
        let mut parts = Score::new(3, Judged::PerPixel);
        for i in [5, 0, 3, 1, 2, 4] {
            parts.add(&logits(&predicted[i..=i]), &labels[i..=i]);
        }
        parts.add(&[], &[]);
        assert_eq!(whole, parts);
    }

    #[test]
    fn what_is_no_prediction_is_wrong() {
        let rows: [[f32; 3]; 5] = [
            [f32::NAN; 3],
            [9.0, f32::NAN, 0.0], // NaN hides whether 9 is the greatest
            [1.0, 1.0, 0.0],      // as undecided as a network that knows nothing
            [f32::INFINITY, f32::INFINITY, 0.0],
            [f32::NEG_INFINITY; 3],
        ];
        for judged in [Judged::PerSample, Judged::PerPixel, Judged::PerToken] {
            let mut score = Score::new(3, judged);
            score.add(rows.as_flattened(), &[0; 5]);
            assert_eq!((score.value(), score.judged_labels()), (0.0, 5));
        }
        // Without a prediction, no other class is blamed.
        let mut score = Score::new(3, Judged::PerPixel);
        score.add(&[&logits(&[0, 1])[..], &[f32::NAN; 3]].concat(), &[0, 1, 1]);
        assert_eq!(score.value(), 0.75);
    }

    #[test]
    fn infinite_logits_can_predict() {
        assert_eq!(predicted(&[f32::INFINITY, 0.0, f32::NEG_INFINITY]), Some(0));
        assert_eq!(predicted(&[f32::NEG_INFINITY, 0.0]), Some(1));
    }

    #[test]
    fn nothing_scores_0() {
        for judged in [Judged::PerSample, Judged::PerPixel, Judged::PerToken] {
            assert_eq!(score(judged, &[], &[]).value(), 0.0);
            assert_eq!(score(judged, &[1], &[IGNORED]).value(), 0.0);
        }
    }

    #[test]
    #[should_panic(expected = "label 3 of 3")]
    fn a_label_that_does_not_exist_panics() {
        let _ = score(Judged::PerSample, &[0], &[3]);
    }
}
