use std::collections::HashSet;

use super::*;
use crate::scene::{Part, Scene};

const SMALL: Plan = Plan { size: 16, train: 6, test: 3, seed: 0 };

fn values(batch: &Batch) -> &[f32] {
    let Inputs::Images(values) = &batch.inputs else { panic!("scenes are images") };
    values
}

/// A change of any of these numbers changes every result that was measured with objects.
#[test]
fn the_first_images_are_what_they_always_were() {
    let hash = |part, size| {
        let mut hasher = crc32fast::Hasher::new();
        for index in 0..4 {
            let scene = Scene::draw(Kind::DETECTION, 0, part, index, size);
            hasher.update(&scene.pixels);
            for Object { class, bounds, is_difficult } in scene.objects {
                hasher.update(&class.to_le_bytes());
                bounds.iter().for_each(|side| hasher.update(&side.to_le_bytes()));
                hasher.update(&[u8::from(is_difficult)]);
            }
        }
        hasher.finalize()
    };
    assert_eq!(
        [hash(Part::Train, 64), hash(Part::Test, 64), hash(Part::Train, 96)],
        [4_281_317_780, 818_800_141, 1_941_201_469]
    );
}

/// Where a class occurs once in an image, its pixels are that object.
#[test]
fn bounds_are_those_of_the_pixels_that_are_seen() {
    let mut compared = 0;
    for index in 0..200 {
        let size = 48;
        let scene = Scene::draw(Kind::DETECTION, 3, Part::Train, index, size);
        for object in &scene.objects {
            object.check(Objects::CLASSES).unwrap();
            if scene.objects.iter().filter(|other| other.class == object.class).count() > 1 {
                continue;
            }
            let is_of_it = |&place: &usize| u32::from(scene.labels[place]) == 1 + object.class;
            let places: Vec<usize> = (0..size * size).filter(is_of_it).collect();
            let share = |place: Option<usize>| place.unwrap() as f32 / size as f32;
            let (columns, rows) = (
                || places.iter().map(|place| place % size),
                || places.iter().map(|place| place / size),
            );
            let [left, top] = [columns().min(), rows().min()].map(share);
            let [right, bottom] =
                [columns().max(), rows().max()].map(|last| share(last.map(|last| last + 1)));
            assert_eq!(object.bounds, [left, top, right, bottom]);
            compared += 1;
        }
    }
    assert!(compared > 300, "{compared}");
}

/// Several objects of all classes and many sizes, of which few are hidden.
#[test]
fn images_hold_what_is_said_of_them() {
    let objects = Objects::generate(Objects::PLAN).unwrap();
    let all: Vec<&Object> = objects.objects.iter().flatten().collect();
    let per_image = all.len() as f64 / objects.objects.len() as f64;
    assert!((3.0..3.6).contains(&per_image), "{per_image} objects per image");
    for class in 0..Objects::CLASSES as u32 {
        let of_class = all.iter().filter(|object| object.class == class).count();
        let share = of_class as f64 / all.len() as f64;
        assert!((0.14..0.19).contains(&share), "class {class} has {share}");
    }
    let difficult = all.iter().filter(|object| object.is_difficult).count() as f64;
    let share = difficult / all.len() as f64;
    assert!((0.05..0.15).contains(&share), "{share} are difficult");
    let easy = all.iter().filter(|object| !object.is_difficult);
    let areas = easy
        .map(|Object { bounds: [left, top, right, bottom], .. }| (right - left) * (bottom - top));
    let mut areas: Vec<f32> = areas.collect();
    areas.sort_unstable_by(f32::total_cmp);
    let [least, median, most] =
        [0.05, 0.5, 0.95].map(|share| areas[(areas.len() as f32 * share) as usize]);
    assert!(
        least < 0.04 && (0.06..0.12).contains(&median) && most > 0.18,
        "{least} {median} {most}"
    );
}

#[test]
fn batches_are_whole_and_repeatable() {
    let objects = Objects::generate(SMALL).unwrap();
    let view = View { seed: 1, epoch: 2 };
    let batch = objects.train(&[5, 0, 5], view).unwrap();
    batch.check(&objects).unwrap();
    assert_eq!(batch, objects.train(&[5, 0, 5], view).unwrap());
    assert_eq!(values(&batch)[..768], values(&batch)[2 * 768..]);
    assert_eq!(batch.objects[0], batch.objects[2]);
    let test = objects.test(1..3).unwrap();
    test.check(&objects).unwrap();
    assert_eq!(test.objects, objects.objects[7..9]);
    assert_eq!(objects.test(3..3).unwrap().samples, 0);
}

/// Returns the pixels within an object's bounds, in any order.
fn pixels_of(values: &[f32], object: &Object, size: usize) -> Vec<[u32; 3]> {
    let [left, top, right, bottom] = object.bounds.map(|side| (side * size as f32) as usize);
    let places = (top..bottom).flat_map(|row| (left..right).map(move |column| row * size + column));
    let bits = |place: usize| [0, 1, 2].map(|channel| values[place * 3 + channel].to_bits());
    let mut pixels: Vec<_> = places.map(bits).collect();
    pixels.sort_unstable();
    pixels
}

#[test]
fn objects_turn_with_their_pixels() {
    let objects = Objects::generate(Plan { size: 32, ..SMALL }).unwrap();
    let cut = |batch: &Batch| -> Vec<Vec<[u32; 3]>> {
        let pixels = |object| pixels_of(values(batch), object, 32);
        batch.objects[0].iter().map(pixels).collect()
    };
    let mut count = 0;
    for index in 0..6 {
        let (mut views, mut pieces) = (HashSet::new(), HashSet::new());
        for epoch in 0..100 {
            let batch = objects.train(&[index], View { seed: 0, epoch }).unwrap();
            pieces.insert(cut(&batch));
            views.insert(values(&batch).iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        }
        assert_eq!((views.len(), pieces.len()), (8, 1));
        count += pieces.iter().flatten().count();
    }
    assert!(count > 12, "{count}");
}
