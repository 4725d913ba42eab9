//! The loss of detection: classes by cross entropy, with as many hard negatives as suffice, and offsets by smooth L1.

use std::cmp::Ordering;

use super::DefaultBoxes;
use crate::data::Object;

/// Boxes without an object whose loss counts, for each box with one.
const NEGATIVES: usize = 3;

/// What the boxes of one sample are to say: background is class 0, and classes of objects follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    /// The class of each box.
    pub classes: Vec<u32>,
    /// The offsets of each box with an object.
    pub offsets: Vec<[f64; 4]>,
}

impl Targets {
    /// Matches objects to default boxes.
    pub fn new(boxes: &DefaultBoxes, objects: &[Object]) -> Self {
        let bounds: Vec<_> = objects.iter().map(|object| object.bounds).collect();
        let found = boxes.matches(&bounds);
        let class = |found: &Option<usize>| found.map_or(0, |nth| objects[nth].class + 1);
        let offsets = |(nth, found): (usize, &Option<usize>)| {
            found.map_or([0.0; 4], |object| boxes.encode(nth, bounds[object]))
        };
        Self {
            classes: found.iter().map(class).collect(),
            offsets: found.iter().enumerate().map(offsets).collect(),
        }
    }

    fn positives(&self) -> usize {
        self.classes.iter().filter(|&&class| class > 0).count()
    }
}

/// A loss over some samples and its gradients, in the order of what it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiboxLoss {
    /// The sums of the losses of classes and of offsets.
    pub sums: [f64; 2],
    /// The boxes with an object, by which sum and gradients are to be divided.
    pub positives: usize,
    /// The gradient of the mean over the boxes with an object, by scores.
    pub scores: Vec<f32>,
    /// By offsets.
    pub offsets: Vec<f32>,
}

/// Returns the loss of some samples (Liu et al. 2016, section 2.2) as a mean over the boxes with an object of all of them, and its
/// gradients; without such a box both are zero.
///
/// `scores` has `classes + 1` logits for each box of each sample, background first, `offsets` four numbers.  The loss of boxes
/// without an object counts for the three times as many, in each sample, in which it is greatest; of equal ones for the first.
///
/// # Panics
///
/// If the lengths do not match.
pub fn multibox_loss(
    classes: usize,
    targets: &[Targets],
    scores: &[f32],
    offsets: &[f32],
) -> MultiboxLoss {
    let columns = classes + 1;
    let boxes = targets.first().map_or(0, |sample| sample.classes.len());
    assert_eq!(scores.len(), targets.len() * boxes * columns, "a row of scores for each box");
    assert_eq!(offsets.len(), targets.len() * boxes * 4, "four offsets for each box");
    let positives: usize = targets.iter().map(Targets::positives).sum();
    let mut loss = MultiboxLoss {
        sums: [0.0; 2],
        positives,
        scores: vec![0.0; scores.len()],
        offsets: vec![0.0; offsets.len()],
    };
    let share = 1.0 / positives.max(1) as f64;
    for (nth, sample) in targets.iter().enumerate() {
        let rows = nth * boxes..(nth + 1) * boxes;
        let of_box = |row: usize| &scores[row * columns..(row + 1) * columns];
        let counts = counting(sample, |at| entropy(of_box(rows.start + at), sample.classes[at]));
        for at in counts {
            let (row, class) = (rows.start + at, sample.classes[at]);
            loss.sums[0] += entropy(of_box(row), class);
            let gradients = &mut loss.scores[row * columns..(row + 1) * columns];
            for (to, (column, probability)) in
                gradients.iter_mut().zip(softmax(of_box(row)).enumerate())
            {
                let target = if column == class as usize { 1.0 } else { 0.0 };
                *to = ((probability - target) * share) as f32;
            }
            if class == 0 {
                continue;
            }
            for (axis, target) in sample.offsets[at].into_iter().enumerate() {
                let (value, slope) = smooth_l1(f64::from(offsets[row * 4 + axis]) - target);
                loss.sums[1] += value;
                loss.offsets[row * 4 + axis] = (slope * share) as f32;
            }
        }
    }
    loss
}

/// Returns the boxes of a sample whose loss of classes counts.
fn counting(sample: &Targets, loss: impl Fn(usize) -> f64) -> Vec<usize> {
    let boxes = 0..sample.classes.len();
    let (mut with, without): (Vec<_>, Vec<_>) = boxes.partition(|&at| sample.classes[at] > 0);
    let mut without: Vec<_> = without.into_iter().map(|at| (loss(at), at)).collect();
    // What is not a number is hardest.
    let harder = |a: &(f64, usize), b: &(f64, usize)| match (a.0.is_nan(), b.0.is_nan()) {
        (false, false) => b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)),
        (true, true) => a.1.cmp(&b.1),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    };
    let most = (NEGATIVES * with.len()).min(without.len());
    if 0 < most && most < without.len() {
        without.select_nth_unstable_by(most, harder);
    }
    without.truncate(most);
    with.extend(without.into_iter().map(|(_, at)| at));
    with.sort_unstable();
    with
}

/// Returns the cross entropy of a row of logits and a class.
fn entropy(row: &[f32], class: u32) -> f64 {
    let most = greatest(row);
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - most).exp()).sum();
    sum.ln() + most - f64::from(row[class as usize])
}

/// Returns the probabilities of a row of logits.
pub(super) fn softmax(row: &[f32]) -> impl Iterator<Item = f64> {
    let most = greatest(row);
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - most).exp()).sum();
    row.iter().map(move |&x| (f64::from(x) - most).exp() / sum)
}

fn greatest(row: &[f32]) -> f64 {
    row.iter().fold(f64::NEG_INFINITY, |most, &x| most.max(x.into()))
}

/// Returns the smooth L1 of an error, and its slope (Girshick 2015): half the square within 1, and the magnitude less a half beyond.
fn smooth_l1(error: f64) -> (f64, f64) {
    if error.abs() < 1.0 {
        (0.5 * error * error, error)
    } else {
        (error.abs() - 0.5, error.signum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::MapBoxes;

    fn boxes() -> DefaultBoxes {
        // No box overlaps another one of its pixel by half.
        let (extent, step, ratios) = ([4, 4], [0.25, 0.25], vec![3.0]);
        DefaultBoxes::new(&[MapBoxes { extent, step, scale: 0.2, next_scale: 0.5, ratios }])
    }

    fn object(class: u32, bounds: [f32; 4]) -> Object {
        Object { class, bounds, is_difficult: false }
    }

    #[test]
    fn targets_are_classes_behind_the_background() {
        let boxes = boxes();
        let bounds = boxes.bounds()[20];
        let targets = Targets::new(&boxes, &[object(1, bounds)]);
        assert_eq!((targets.classes[20], targets.positives()), (2, 1));
        assert!(targets.offsets[20].iter().all(|x| x.abs() < 1e-5), "{:?}", targets.offsets[20]);
        assert_eq!(Targets::new(&boxes, &[]).positives(), 0);
    }

    /// One box with an object, five without: of these the three with the least logit of the background count.
    #[test]
    fn the_hardest_negatives_count() {
        let targets = Targets { classes: vec![0, 1, 0, 0, 0, 0], offsets: vec![[0.0; 4]; 6] };
        let background = [1.0, 0.0, -1.0, 3.0, -1.0, 0.5];
        let scores: Vec<f32> = background.into_iter().flat_map(|x| [x, 0.0]).collect();
        let loss = multibox_loss(1, &[targets], &scores, &[0.0; 24]);
        let counted: Vec<_> = (0..6).filter(|row| loss.scores[2 * row] != 0.0).collect();
        assert_eq!(counted, [1, 2, 4, 5]);
        let entropy = |x: f64| (1.0 + (-x).exp()).ln();
        let expected = 2.0_f64.ln() + 2.0 * entropy(-1.0) + entropy(0.5);
        assert!((loss.sums[0] - expected).abs() < 1e-12, "{:?} {expected}", loss.sums);
    }

    /// The gradients are the slopes of the loss over the boxes with an object, by central differences.
    #[test]
    fn gradients_are_slopes() {
        let boxes = boxes();
        let objects = [
            vec![object(0, [0.1, 0.1, 0.4, 0.3]), object(1, [0.5, 0.5, 0.9, 0.8])],
            vec![object(1, [0.2, 0.6, 0.5, 0.95])],
        ];
        let targets = objects.map(|of| Targets::new(&boxes, &of));
        let length = 2 * boxes.len();
        let wave = |nth: usize| (nth as f32 * 0.37).sin() * 1.5;
        let scores: Vec<f32> = (0..3 * length).map(wave).collect();
        let offsets: Vec<f32> = (0..4 * length).map(|nth| wave(nth + 7) * 2.0).collect();
        let loss = multibox_loss(2, &targets, &scores, &offsets);
        let mean = |loss: &MultiboxLoss| (loss.sums[0] + loss.sums[1]) / loss.positives as f64;
        assert!(loss.positives >= 3);
        let step = 1e-3;
        let slope = |of: &dyn Fn(f32) -> f64| (of(step) - of(-step)) / (2.0 * f64::from(step));
        let mut checked = 0;
        for nth in (0..scores.len()).step_by(5) {
            let found = slope(&|by| {
                let mut scores = scores.clone();
                scores[nth] += by;
                mean(&multibox_loss(2, &targets, &scores, &offsets))
            });
            // Where a box is mined on one side only, the slope is none.
            if (found - f64::from(loss.scores[nth])).abs() < 1e-3 {
                checked += usize::from(loss.scores[nth] != 0.0);
            }
        }
        assert!(checked >= 6, "{checked}");
        for nth in 0..offsets.len() {
            let found = slope(&|by| {
                let mut offsets = offsets.clone();
                offsets[nth] += by;
                mean(&multibox_loss(2, &targets, &scores, &offsets))
            });
            assert!((found - f64::from(loss.offsets[nth])).abs() < 1e-3, "offset {nth}");
        }
    }

    #[test]
    fn without_objects_there_is_no_loss() {
        let boxes = boxes();
        let targets = [Targets::new(&boxes, &[])];
        let (scores, offsets) = (vec![1.0; 2 * boxes.len()], vec![1.0; 4 * boxes.len()]);
        let loss = multibox_loss(1, &targets, &scores, &offsets);
        assert_eq!((loss.sums, loss.positives), ([0.0; 2], 0));
        assert!(loss.scores.iter().chain(&loss.offsets).all(|&x| x == 0.0));
    }

    /// A logit that is NaN reaches the loss, so that the step is not used.
    #[test]
    fn what_is_not_a_number_is_not_hidden() {
        let targets = Targets { classes: vec![1, 0, 0, 0, 0], offsets: vec![[0.0; 4]; 5] };
        let mut scores = vec![0.0; 10];
        scores[9] = f32::NAN;
        let loss = multibox_loss(1, &[targets], &scores, &[0.0; 20]);
        assert!(loss.sums[0].is_nan() && loss.scores[8].is_nan());
    }
}
