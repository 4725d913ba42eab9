use std::collections::HashSet;

use super::*;
use crate::Score;

const SMALL: Plan = Plan { size: 16, train: 6, test: 3, seed: 0 };

fn values(batch: &Batch) -> &[f32] {
    let Inputs::Images(values) = &batch.inputs else { panic!("scenes are images") };
    values
}

/// A change of any of these numbers changes every result that was measured with scenes.
#[test]
fn the_first_scenes_are_what_they_always_were() {
    let hash = |part, size| {
        let mut hasher = crc32fast::Hasher::new();
        for index in 0..4 {
            let scene = Scene::draw(Kind::SEGMENTATION, 0, part, index, size);
            hasher.update(&scene.pixels);
            hasher.update(&scene.labels);
        }
        hasher.finalize()
    };
    assert_eq!(
        [hash(Part::Train, 64), hash(Part::Test, 64), hash(Part::Train, 32)],
        [478_207_940, 3_146_962_118, 2_808_078_150]
    );
}

#[test]
fn a_scene_does_not_depend_on_how_many_there_are() {
    let more = Plan { train: 9, test: 7, ..SMALL };
    let [few, many] = [SMALL, more].map(|plan| Scenes::generate(plan).unwrap());
    assert_eq!(few.images.pixels[..6 * 768], many.images.pixels[..6 * 768]);
    assert_eq!(few.images.pixels[6 * 768..], many.images.pixels[9 * 768..][..3 * 768]);
    let other = Scenes::generate(Plan { seed: 1, ..SMALL }).unwrap();
    assert_ne!(few.images.pixels, other.images.pixels);
}

#[test]
fn no_scene_occurs_twice() {
    let scenes = Scenes::generate(Plan::default()).unwrap();
    let distinct: HashSet<_> = (0..480).map(|index| scenes.images.image(index)).collect();
    assert_eq!(distinct.len(), 480);
    let labels: HashSet<_> = (0..480).map(|index| scenes.labels(index)).collect();
    assert_eq!(labels.len(), 480);
}

#[test]
fn every_class_has_its_share() {
    let scenes = Scenes::generate(Plan::default()).unwrap();
    let area = 64 * 64;
    for (part, range) in [("train", 0..384 * area), ("test", 384 * area..480 * area)] {
        let labels = &scenes.labels[range];
        let share = |class| {
            labels.iter().filter(|&&label| label == class).count() as f64 / labels.len() as f64
        };
        assert!((0.8..0.9).contains(&share(0)), "{part}: background has {}", share(0));
        for class in 1..7 {
            let share = share(class);
            assert!((0.01..0.035).contains(&share), "{part}: class {class} has {share}");
        }
    }
    let weights = scenes.class_weights();
    assert!(weights[0] < 0.2, "{weights:?}");
    assert!(weights[1..].iter().all(|weight| (0.8..1.25).contains(weight)), "{weights:?}");
}

/// The classes' mean colours, from the training scenes.
fn mean_colours(scenes: &Scenes) -> [[f32; 3]; Scenes::CLASSES] {
    let (mut sums, mut counts) = ([[0.0; 3]; Scenes::CLASSES], [0.0; Scenes::CLASSES]);
    for (pixel, &label) in scenes.images.pixels.chunks_exact(3).zip(&scenes.labels) {
        let class = usize::from(label);
        counts[class] += 1.0;
        sums[class].iter_mut().zip(pixel).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    std::array::from_fn(|class| sums[class].map(|sum| (sum / counts[class]) as f32))
}

/// If the mean colour of a shape told its class, the classes' mean colours would differ.
#[test]
fn colour_does_not_give_the_class_away() {
    let means = mean_colours(&Scenes::generate(Plan::default()).unwrap());
    for channel in 0..3 {
        let mean = means[1..].iter().map(|colour| colour[channel]).sum::<f32>() / 6.0;
        // The colours of single shapes spread by about 40 grey levels, and some 200 shapes are of
        // each class.
        let near = |colour: &[f32; 3]| (colour[channel] - mean).abs() < 12.0;
        assert!(means[1..].iter().all(near), "{means:?}");
    }
}

/// What knows nothing of shapes stays far below a network's mean IoU of more than 0.5.
#[test]
fn constants_and_colours_alone_score_badly() {
    let scenes = Scenes::generate(Plan::default()).unwrap();
    let test = scenes.test(0..96).unwrap();
    let one = |class| std::array::from_fn::<f32, 7, _>(|i| f32::from(u8::from(i == class)));
    for class in 0..7 {
        let mut score = Score::new(7, Judged::PerPixel);
        score.add(&one(class).repeat(test.labels.len()), &test.labels);
        assert!(score.value() < 0.15, "always {class}: {}", score.value());
    }
    let means = mean_colours(&scenes);
    let distance = |pixel: &[u8], mean: &[f32; 3]| -> f32 {
        pixel.iter().zip(mean).map(|(&x, m)| (f32::from(x) - m).powi(2)).sum()
    };
    let pixels = scenes.images.pixels[384 * 64 * 64 * 3..].chunks_exact(3);
    let nearest: Vec<_> = pixels.flat_map(|p| means.each_ref().map(|m| -distance(p, m))).collect();
    let mut score = Score::new(7, Judged::PerPixel);
    score.add(&nearest, &test.labels);
    assert!(score.value() < 0.25, "nearest mean colour: {}", score.value());
}

#[test]
fn batches_are_whole_and_repeatable() {
    let scenes = Scenes::generate(SMALL).unwrap();
    let view = View { seed: 1, epoch: 2 };
    let batch = scenes.train(&[5, 0, 5], view).unwrap();
    batch.check(&scenes).unwrap();
    assert_eq!(batch, scenes.train(&[5, 0, 5], view).unwrap());
    let (first, last) = (&values(&batch)[..768], &values(&batch)[2 * 768..]);
    assert_eq!(first, last);
    assert_eq!(batch.labels[..256], batch.labels[512..]);
    let test = scenes.test(1..3).unwrap();
    test.check(&scenes).unwrap();
    assert_eq!(test.samples, 2);
    assert_eq!(values(&test)[..768], values(&scenes.test(1..2).unwrap())[..]);
    assert_eq!(scenes.test(3..3).unwrap().samples, 0);
}

#[test]
#[should_panic(expected = "6 of 6 training scenes")]
fn test_scenes_do_not_train() {
    let _ = Scenes::generate(SMALL).unwrap().train(&[6], View { seed: 0, epoch: 0 });
}

#[test]
fn training_values_have_mean_0_and_variance_1() {
    let scenes = Scenes::generate(SMALL).unwrap();
    let batch = scenes.train(&[0, 1, 2, 3, 4, 5], View { seed: 0, epoch: 0 }).unwrap();
    for channel in 0..3 {
        let of_channel = || values(&batch).iter().skip(channel).step_by(3);
        let mean = of_channel().sum::<f32>() / 1536.0;
        let square = of_channel().map(|x| x * x).sum::<f32>() / 1536.0;
        assert!(mean.abs() < 1e-4 && (square - 1.0).abs() < 1e-4, "{mean} {square}");
    }
}

#[test]
fn labels_turn_with_their_pixels() {
    let scenes = Scenes::generate(SMALL).unwrap();
    // Pixels and labels as pairs: any pose keeps the pairs and moves them together.
    let pairs = |batch: &Batch| -> Vec<([u32; 3], u32)> {
        let pixels = values(batch).chunks_exact(3);
        let bits = pixels.map(|p| [p[0].to_bits(), p[1].to_bits(), p[2].to_bits()]);
        bits.zip(batch.labels.iter().copied()).collect()
    };
    let mut seen = HashSet::new();
    let mut sorted = HashSet::new();
    for epoch in 0..100 {
        let mut pairs = pairs(&scenes.train(&[2], View { seed: 0, epoch }).unwrap());
        seen.insert(pairs.clone());
        pairs.sort_unstable();
        sorted.insert(pairs);
    }
    assert_eq!((seen.len(), sorted.len()), (8, 1));
}

#[test]
fn impossible_plans_are_errors() {
    for plan in [
        Plan { size: 15, ..SMALL },
        Plan { size: 513, ..SMALL },
        Plan { train: 0, ..SMALL },
        Plan { test: 0, ..SMALL },
        Plan { train: 100_001, ..SMALL },
    ] {
        assert!(Scenes::generate(plan).is_err(), "{plan:?}");
    }
}
