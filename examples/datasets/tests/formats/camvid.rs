use std::{fs, path::Path};

use adaloss_datasets::{
    Dataset, IGNORED, Input, OnBroken, camvid::Camvid, generate::Format, scene::Kind,
};
use anyhow::Result;
use tempfile::TempDir;

use crate::{PLAN, VIEW, assert_whole, changed, error, generated, scenes, values};

fn open(folder: &TempDir) -> Result<Camvid> {
    Camvid::open(folder.path(), OnBroken::Stop)
}

/// Writes a PNG file of one value per pixel.
fn write_mask(path: &Path, width: u32, height: u32, value: u8) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![value; (width * height) as usize]).unwrap();
}

#[test]
fn what_is_written_is_read() {
    let folder = generated(Format::Camvid);
    let camvid = open(&folder).unwrap();
    assert_eq!(camvid.input(), Input::Image { height: 36, width: 48, channels: 3 });
    assert_eq!(camvid.classes(), 11);
    let expected = "CamVid: 24 training and 9 test images of 36x48x3, 11 classes per pixel, from ";
    assert!(camvid.describe().starts_with(expected), "{}", camvid.describe());
    assert_whole(&camvid);
    let test = camvid.test(0..PLAN.test).unwrap();
    let [train, scenes] = scenes(Kind::SEGMENTATION);
    for ((scene, labels), values) in scenes
        .iter()
        .zip(test.labels.chunks_exact(36 * 48))
        .zip(values(&test).chunks_exact(36 * 48 * 3))
    {
        assert!(labels[..48].iter().all(|&label| label == IGNORED));
        let expected = scene.labels[48..36 * 48].iter().map(|&class| u32::from(class));
        assert_eq!(labels[48..], expected.collect::<Vec<_>>());
        let green = (f32::from(scene.pixels[301]) / 255.0 - 0.456) / 0.224;
        assert!((values[301] - green).abs() < 1e-5);
    }
    // The weight of a class is the median frequency over its own; the last four never occur.
    let weights = camvid.class_weights();
    assert_eq!(weights[7..], [0.0; 4]);
    let share = |class: u8| {
        let counts = train
            .iter()
            .map(|scene| scene.labels[48..36 * 48].iter().filter(|&&label| label == class).count());
        let there: Vec<usize> = counts.filter(|&count| count > 0).collect();
        there.iter().sum::<usize>() as f32 / (there.len() * 36 * 48) as f32
    };
    for class in 1..7 {
        let expected = weights[0] * share(0) / share(class);
        assert!((weights[usize::from(class)] / expected - 1.0).abs() < 1e-5, "{weights:?}");
    }
}

#[test]
fn images_are_mirrored_with_their_classes() {
    let folder = generated(Format::Camvid);
    let camvid = open(&folder).unwrap();
    let scene = &scenes(Kind::SEGMENTATION)[0][5];
    let of_row = |row: usize| scene.labels[row * 48..][..48].iter().map(|&class| u32::from(class));
    let mut mirrored = 0;
    for epoch in 0..40 {
        let batch = camvid.train(&[5], adaloss_datasets::View { epoch, ..VIEW }).unwrap();
        let row = |row: usize| batch.labels[row * 48..][..48].to_vec();
        let red = (f32::from(scene.pixels[20 * 48 * 3]) / 255.0 - 0.485) / 0.229;
        let is_mirrored = (values(&batch)[20 * 48 * 3] - red).abs() > 1e-5;
        for at in 1..36 {
            let expected: Vec<u32> =
                if is_mirrored { of_row(at).rev().collect() } else { of_row(at).collect() };
            assert_eq!(row(at), expected);
        }
        mirrored += usize::from(is_mirrored);
    }
    assert!((10..=30).contains(&mirrored), "{mirrored} of 40");
}

#[test]
fn mistakes_in_a_folder_are_named() {
    let empty = tempfile::tempdir().unwrap();
    let text = error(open(&empty));
    assert!(
        text.ends_with(
            "is no folder of CamVid: train/, trainannot/, test/ and testannot/ are expected in it"
        ),
        "{text}"
    );
    for part in ["train", "trainannot", "test", "testannot"] {
        fs::create_dir(empty.path().join(part)).unwrap();
    }
    assert!(
        error(open(&empty))
            .ends_with("train has no images: files that end in .png are expected in it")
    );

    let folder = generated(Format::Camvid);
    let mask = folder.path().join("trainannot/train_00003.png");
    write_mask(&mask, 48, 36, 12);
    let text = error(open(&folder));
    assert!(text.contains("trainannot/train_00003.png has the value 12 in row 0 and column 0: 11 classes are expected"), "{text}");
    write_mask(&mask, 40, 36, 1);
    let camvid = open(&folder).unwrap();
    let text = error(camvid.train(&[3], VIEW));
    assert!(
        text.contains("trainannot/train_00003.png has 40 x 36 pixels, and the others have 48 x 36"),
        "{text}"
    );
    fs::copy(folder.path().join("train/train_00003.png"), &mask).unwrap();
    assert!(error(open(&folder)).contains(
        "train_00003.png is no image of the classes of pixels: its pixels are Rgb of Eight bits"
    ));
    changed(&mask, |bytes| bytes.truncate(100));
    assert!(
        error(open(&folder)).contains("train_00003.png is no image of the classes of pixels: ")
    );
    fs::remove_file(&mask).unwrap();
    assert!(error(open(&folder)).ends_with(
        "trainannot/train_00003.png is missing: every image has its classes under its own name"
    ));
    write_mask(&mask, 48, 36, 1);
    fs::remove_file(folder.path().join("test/test_00002.png")).unwrap();
    assert!(error(open(&folder)).contains("test/test_00002.png is missing"));
}
