//! How well objects are detected: the average precision of PASCAL VOC.

use super::{Detection, overlap};
use crate::data::Object;

/// The overlap from which on a detection is right.
const RIGHT: f32 = 0.5;

/// How precision is averaged over recall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Over the recalls 0, 0.1, ... 1: that of VOC 2007, by which published results on it are given.
    ElevenPoints,
    /// The area below the curve: that of VOC since 2010.
    Area,
}

/// Counts detections, image by image, and condenses them into one number.
///
/// An image's part depends on no other image, so that parts can be counted apart and put together in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AveragePrecision {
    classes: Vec<Counted>,
}

/// What was counted of a class.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counted {
    /// Objects to be found, difficult ones left out.
    objects: u64,
    /// The probability of each detection, and whether it is right.
    detections: Vec<(f64, bool)>,
}

impl AveragePrecision {
    /// Begins to count.
    pub fn new(classes: usize) -> Self {
        Self { classes: vec![Counted::default(); classes] }
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Counts an image: its detections, the most probable first, and its objects.
    ///
    /// A detection is right if the object of its class that it overlaps most is overlapped by 0.5 or more and was not found by a
    /// more probable one.  One that overlaps a difficult object so does not count.
    pub fn add(&mut self, detections: &[Detection], objects: &[Object]) {
        for object in objects.iter().filter(|object| !object.is_difficult) {
            if let Some(of) = self.classes.get_mut(object.class as usize) {
                of.objects += 1;
            }
        }
        let mut is_found = vec![false; objects.len()];
        for detection in detections {
            let of_class = |(_, object): &(usize, &Object)| object.class == detection.class;
            let mut best = (0.0, None);
            for (nth, object) in objects.iter().enumerate().filter(of_class) {
                let shared = overlap(detection.bounds, object.bounds);
                if shared > best.0 {
                    best = (shared, Some(nth));
                }
            }
            let is_right = match best {
                (shared, Some(nth)) if shared >= RIGHT => {
                    if objects[nth].is_difficult {
                        continue;
                    }
                    !std::mem::replace(&mut is_found[nth], true)
                }
                _ => false,
            };
            if let Some(of) = self.classes.get_mut(detection.class as usize) {
                of.detections.push((detection.score, is_right));
            }
        }
    }

    /// Returns the average precision of a class, from 0 to 1; nothing of a class without objects.
    pub fn of_class(&self, class: usize, rule: Rule) -> Option<f64> {
        let Counted { objects, detections } = self.classes.get(class)?;
        if *objects == 0 {
            return None;
        }
        let mut sorted = detections.clone();
        // Among equally probable ones wrong detections come first: no order of images makes a result better.
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut right = 0_u64;
        let mut curve: Vec<(f64, f64)> = (1_u64..)
            .zip(&sorted)
            .map(|(count, &(_, is_right))| {
                right += u64::from(is_right);
                (right as f64 / *objects as f64, right as f64 / count as f64)
            })
            .collect();
        // The precision at a recall is the greatest at that recall or a higher one.
        let mut most = 0.0_f64;
        for (_, precision) in curve.iter_mut().rev() {
            most = most.max(*precision);
            *precision = most;
        }
        Some(match rule {
            Rule::ElevenPoints => {
                let at = |tenth: u32| {
                    let reached = |&&(recall, _): &&(f64, f64)| recall * 10.0 >= tenth.into();
                    curve.iter().find(reached).map_or(0.0, |&(_, precision)| precision)
                };
                (0..=10).map(at).sum::<f64>() / 11.0
            }
            Rule::Area => {
                let mut before = 0.0;
                let part = |&(recall, precision): &(f64, f64)| {
                    let width = recall - before;
                    before = recall;
                    width * precision
                };
                curve.iter().map(part).sum()
            }
        })
    }

    /// Returns the mean over the classes that have objects, from 0 to 1; 0 of nothing.
    pub fn mean(&self, rule: Rule) -> f64 {
        let of_classes: Vec<f64> =
            (0..self.classes.len()).filter_map(|class| self.of_class(class, rule)).collect();
        of_classes.iter().sum::<f64>() / of_classes.len().max(1) as f64
    }

    /// Returns what was counted as bytes, for [`add_bytes`](Self::add_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (class, Counted { objects, detections }) in (0_u64..).zip(&self.classes) {
            for word in [class, *objects, detections.len() as u64] {
                bytes.extend(word.to_le_bytes());
            }
            for &(score, is_right) in detections {
                bytes.extend(score.to_le_bytes());
                bytes.extend(u64::from(is_right).to_le_bytes());
            }
        }
        bytes
    }

    /// Adds what [`to_bytes`](Self::to_bytes) returned elsewhere, one part or several; a part that is cut off counts as far as it goes.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        while let (Some(class), Some(objects), Some(count)) =
            (words.next(), words.next(), words.next())
        {
            let Some(of) = self.classes.get_mut(class as usize) else { return };
            of.objects += objects;
            for _ in 0..count {
                let (Some(score), Some(is_right)) = (words.next(), words.next()) else { return };
                of.detections.push((f64::from_bits(score), is_right != 0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: [f32; 4] = [0.1, 0.1, 0.3, 0.3];
    const THERE: [f32; 4] = [0.5, 0.5, 0.9, 0.9];

    fn object(class: u32, bounds: [f32; 4]) -> Object {
        Object { class, bounds, is_difficult: false }
    }

    fn detection(class: u32, score: f64, bounds: [f32; 4]) -> Detection {
        Detection { class, score, bounds }
    }

    /// Right, wrong, right: precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1.
    #[test]
    fn precision_is_averaged_by_both_rules() {
        let mut found = AveragePrecision::new(1);
        let detections = [
            detection(0, 0.9, HERE),
            detection(0, 0.8, [0.0, 0.8, 0.1, 0.9]),
            detection(0, 0.7, THERE),
        ];
        found.add(&detections, &[object(0, HERE), object(0, THERE)]);
        let area = 0.5 * 1.0 + 0.5 * (2.0 / 3.0);
        assert!((found.of_class(0, Rule::Area).unwrap() - area).abs() < 1e-12);
        // Recalls 0 to 0.5 at precision 1, 0.6 to 1 at 2/3.
        let points = (6.0 + 5.0 * 2.0 / 3.0) / 11.0;
        assert!((found.of_class(0, Rule::ElevenPoints).unwrap() - points).abs() < 1e-12);
    }

    #[test]
    fn an_object_is_found_once_and_a_difficult_one_does_not_count() {
        let mut found = AveragePrecision::new(2);
        let difficult = Object { is_difficult: true, ..object(0, THERE) };
        let detections = [
            detection(0, 0.9, THERE), // of the difficult one
            detection(0, 0.8, HERE),
            detection(0, 0.7, HERE), // again
            detection(1, 0.6, HERE), // of another class
        ];
        found.add(&detections, &[object(0, HERE), difficult]);
        assert_eq!(found.classes[0].objects, 1);
        assert_eq!(found.classes[0].detections, [(0.8, true), (0.7, false)]);
        assert_eq!(found.of_class(1, Rule::Area), None);
        // Over the classes that have objects.
        assert_eq!(found.mean(Rule::Area), 1.0);
    }

    #[test]
    fn parts_add_up_in_any_order() {
        let images = [
            (vec![detection(0, 0.9, HERE)], vec![object(0, HERE)]),
            (vec![detection(0, 0.95, THERE), detection(1, 0.9, HERE)], vec![object(1, HERE)]),
        ];
        let parts = images.map(|(detections, objects)| {
            let mut part = AveragePrecision::new(2);
            part.add(&detections, &objects);
            part.to_bytes()
        });
        let together = |order: [usize; 2]| {
            let mut all = AveragePrecision::new(2);
            order.iter().for_each(|&part| all.add_bytes(&parts[part]));
            [Rule::Area, Rule::ElevenPoints].map(|rule| all.mean(rule))
        };
        assert_eq!(together([0, 1]), together([1, 0]));
        // One wrong before the right one of class 0, and class 1 without a fault.
        assert_eq!(together([0, 1])[0], 0.75);
        let mut cut = AveragePrecision::new(2);
        cut.add_bytes(&parts[1][..parts[1].len() - 3]);
        assert_eq!(cut.classes[1].objects, 1);
    }

    #[test]
    fn nothing_is_worth_nothing() {
        assert_eq!(AveragePrecision::new(3).mean(Rule::Area), 0.0);
        let mut missed = AveragePrecision::new(1);
        missed.add(&[], &[object(0, HERE)]);
        assert_eq!(missed.of_class(0, Rule::ElevenPoints), Some(0.0));
    }
}
