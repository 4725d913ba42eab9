//! From what a network says of its default boxes to detections.

use super::{Bounds, DefaultBoxes, multibox::softmax, overlap};

/// The least probability of a detection.
const LEAST: f64 = 0.01;
/// The overlap from which on the less probable of two boxes of one class is left out.
const SAME: f32 = 0.45;
/// Boxes of a class that are looked at in an image, and detections that are left of all classes.
const MOST: [usize; 2] = [400, 200];

/// What was found in an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Of what class, from 0 and without the background.
    pub class: u32,
    /// How probable it is.
    pub score: f64,
    /// Where, within the image.
    pub bounds: Bounds,
}

/// Returns what was found in one image, the most probable first: of each class the boxes of at least 1 %, less those that overlap a
/// more probable one by 0.45 or more, and of all of these the first 200 (Liu et al. 2016, section 3.6).
///
/// # Panics
///
/// If there are not `classes + 1` scores and four offsets for each box.
pub fn detect(
    boxes: &DefaultBoxes,
    classes: usize,
    scores: &[f32],
    offsets: &[f32],
) -> Vec<Detection> {
    assert_eq!(scores.len(), boxes.len() * (classes + 1), "a row of scores for each box");
    let offsets = offsets.as_chunks::<4>().0;
    assert_eq!(offsets.len(), boxes.len(), "four offsets for each box");
    let mut of_classes: Vec<Vec<(f64, usize)>> = vec![Vec::new(); classes];
    for (nth, row) in scores.chunks_exact(classes + 1).enumerate() {
        for (candidates, probability) in of_classes.iter_mut().zip(softmax(row).skip(1)) {
            if probability >= LEAST {
                candidates.push((probability, nth));
            }
        }
    }
    let within = |nth: usize| boxes.decode(nth, offsets[nth]).map(|bound| bound.clamp(0.0, 1.0));
    let mut found: Vec<Detection> = Vec::new();
    for (class, mut candidates) in (0..).zip(of_classes) {
        candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let first = found.len();
        for (score, nth) in candidates.into_iter().take(MOST[0]) {
            let bounds = within(nth);
            if found[first..].iter().all(|other| overlap(other.bounds, bounds) < SAME) {
                found.push(Detection { class, score, bounds });
            }
        }
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(MOST[1]);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::MapBoxes;

    fn boxes() -> DefaultBoxes {
        let (extent, step, ratios) = ([2, 2], [0.5, 0.5], Vec::new());
        DefaultBoxes::new(&[MapBoxes { extent, step, scale: 0.4, next_scale: 0.5, ratios }])
    }

    /// Boxes 0 and 1 have one centre and overlap by 0.8; box 2 lies beside them.
    #[test]
    fn the_less_probable_of_two_boxes_of_a_class_is_left_out() {
        let boxes = boxes();
        let mut scores = vec![[9.0, 0.0, 0.0]; boxes.len()];
        scores[0] = [0.0, 2.0, 0.0];
        scores[1] = [0.0, 3.0, 1.0];
        scores[2] = [0.0, 1.0, 0.0];
        let found = detect(&boxes, 2, scores.as_flattened(), &vec![0.0; 4 * boxes.len()]);
        let e = |x: f64| x.exp();
        let sum = 1.0 + e(3.0) + e(1.0);
        let summary: Vec<_> = found.iter().map(|of| (of.class, of.bounds)).collect();
        let at = |nth: usize| boxes.bounds()[nth];
        // Of class 1 box 1 is the most probable, then 2 (0 is the same object, less probable in this class).
        assert_eq!(summary, [(0, at(1)), (0, at(2)), (1, at(2)), (1, at(1))]);
        assert!((found[0].score - e(3.0) / sum).abs() < 1e-12);
    }

    #[test]
    fn detections_end_at_the_image_and_nothing_is_found_in_nothing() {
        let boxes = boxes();
        let mut offsets = vec![0.0; 4 * boxes.len()];
        offsets[0] = -20.0; // two of its widths to the left
        let mut scores = vec![[9.0, 0.0]; boxes.len()];
        assert_eq!(detect(&boxes, 1, scores.as_flattened(), &offsets), []);
        scores[0] = [0.0, 9.0];
        let found = detect(&boxes, 1, scores.as_flattened(), &offsets);
        assert_eq!((found.len(), found[0].bounds[0], found[0].bounds[2]), (1, 0.0, 0.0));
        assert_eq!(detect(&boxes, 1, vec![f32::NAN; 16].as_slice(), &offsets), []);
    }
}
