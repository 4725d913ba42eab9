use std::{collections::BTreeMap, fs, path::Path};

use adaloss_datasets::{
    Dataset, OnBroken,
    generate::Format,
    imagenet::{Imagenet, Options},
    photo::Photo,
    scene::{Kind, Scene},
};
use anyhow::Result;
use tempfile::TempDir;

use crate::{PLAN, VIEW, assert_whole, changed, error, generated, scenes, values};

const KIT: &str = "ILSVRC2012_devkit_t12/data";

const OPTIONS: Options = Options { size: 32, on_broken: OnBroken::Stop };

fn open(folder: &TempDir) -> Result<Imagenet> {
    Imagenet::open(folder.path(), OPTIONS)
}

fn class_of(scene: &Scene) -> u32 {
    scene.objects[0].class
}

/// Puts the validation images into folders that are called by their classes.
fn sorted_into_folders(folder: &Path) {
    let classes = Imagenet::open(folder, OPTIONS).unwrap().class_names().to_vec();
    for (nth, scene) in scenes(Kind::CLASSIFICATION)[1].iter().enumerate() {
        let name = format!("ILSVRC2012_val_{:08}.JPEG", nth + 1);
        let to = folder.join("val").join(&classes[class_of(scene) as usize]);
        fs::create_dir_all(&to).unwrap();
        fs::rename(folder.join("val").join(&name), to.join(&name)).unwrap();
    }
    fs::remove_file(folder.join(KIT).join("ILSVRC2012_validation_ground_truth.txt")).unwrap();
}

#[test]
fn what_is_written_is_read() {
    let folder = generated(Format::Imagenet);
    let imagenet = open(&folder).unwrap();
    assert_eq!((imagenet.train_samples(), imagenet.test_samples()), (PLAN.train, PLAN.test));
    assert_eq!(imagenet.classes(), 6);
    let expected = "ImageNet: 24 training and 9 test images, seen at 32x32x3, 6 classes, from ";
    assert!(imagenet.describe().starts_with(expected), "{}", imagenet.describe());
    assert_whole(&imagenet);
    let [train, test] =
        scenes(Kind::CLASSIFICATION).map(|scenes| scenes.iter().map(class_of).collect::<Vec<_>>());
    assert_eq!(imagenet.test(0..PLAN.test).unwrap().labels, test);
    // Training images come class by class.
    let all: Vec<usize> = (0..PLAN.train).collect();
    let mut sorted = train;
    sorted.sort_unstable();
    assert_eq!(imagenet.train(&all, VIEW).unwrap().labels, sorted);
}

/// A test image is the middle of the file's, normalised as published.
#[test]
fn test_images_are_the_middle_of_the_file() {
    let folder = generated(Format::Imagenet);
    let imagenet = open(&folder).unwrap();
    for (nth, scene) in scenes(Kind::CLASSIFICATION)[1].iter().enumerate() {
        let photo =
            Photo::read(&folder.path().join(format!("val/ILSVRC2012_val_{:08}.JPEG", nth + 1)))
                .unwrap();
        let shorter = photo.width.min(photo.height);
        let all = [photo.width * 36 / shorter, photo.height * 36 / shorter];
        let middle = photo.middle_of_resized(all, 32, 32);
        let batch = imagenet.test(nth..nth + 1).unwrap();
        let back = |(place, value): (usize, &f32)| {
            let channel = place % 3;
            (value * [0.229, 0.224, 0.225][channel] + [0.485, 0.456, 0.406][channel]) * 255.0
        };
        for (found, expected) in values(&batch).iter().enumerate().map(back).zip(&middle.pixels) {
            assert!((found - f32::from(*expected)).abs() < 1e-3);
        }
        // The file holds the scene: its colours, where it is not one of the grey ones.
        let mean =
            |pixels: &[u8]| pixels.iter().map(|&x| f64::from(x)).sum::<f64>() / pixels.len() as f64;
        let rows = scene.pixels.chunks_exact(3 * PLAN.size).take(photo.height);
        let cut: Vec<u8> = rows.flat_map(|row| &row[..3 * photo.width]).copied().collect();
        assert!((mean(&photo.pixels) - mean(&cut)).abs() < 12.0, "image {nth}");
    }
}

#[test]
fn labels_may_be_folders_or_a_list_of_kaggle() {
    let folder = generated(Format::Imagenet);
    let labels = |folder: &TempDir| -> BTreeMap<String, u32> {
        let imagenet = open(folder).unwrap();
        let batch = imagenet.test(0..PLAN.test).unwrap();
        let images = values(&batch).chunks_exact(32 * 32 * 3).map(|image| format!("{image:?}"));
        images.zip(batch.labels.iter().copied()).collect()
    };
    let of_kit = labels(&folder);
    assert_eq!(of_kit.len(), PLAN.test);
    let classes = open(&folder).unwrap().class_names().to_vec();
    let [_, tests] = scenes(Kind::CLASSIFICATION);
    let lines = tests.iter().enumerate().map(|(nth, scene)| {
        format!("ILSVRC2012_val_{:08},{} 1 2 3 4 \n", nth + 1, classes[class_of(scene) as usize])
    });
    let list = "ImageId,PredictionString\n".to_owned() + &lines.rev().collect::<String>();
    fs::rename(
        folder.path().join(KIT).join("ILSVRC2012_validation_ground_truth.txt"),
        folder.path().join("truth"),
    )
    .unwrap();
    fs::write(folder.path().join("LOC_val_solution.csv"), &list).unwrap();
    assert_eq!(labels(&folder), of_kit);
    let missing = list.replace("ILSVRC2012_val_00000004,", "ILSVRC2012_val_00000444,");
    fs::write(folder.path().join("LOC_val_solution.csv"), missing).unwrap();
    assert!(
        error(open(&folder))
            .ends_with("LOC_val_solution.csv has no line for ILSVRC2012_val_00000004.JPEG")
    );
    fs::write(folder.path().join("LOC_val_solution.csv"), "a,b\nILSVRC2012_val_00000001\n")
        .unwrap();
    assert!(error(open(&folder)).ends_with("LOC_val_solution.csv, line 2: there is no comma"));
    fs::rename(
        folder.path().join("truth"),
        folder.path().join(KIT).join("ILSVRC2012_validation_ground_truth.txt"),
    )
    .unwrap();
    sorted_into_folders(folder.path());
    assert_eq!(labels(&folder), of_kit);
}

#[test]
fn another_folder_is_told_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let expected = "is no folder of ImageNet: train/ with a folder of photographs for each class, and val/, are expected in it";
    assert!(error(open(&folder)).ends_with(expected));
    fs::create_dir_all(folder.path().join("train/n01440764")).unwrap();
    assert!(error(open(&folder)).ends_with(expected));
    fs::create_dir_all(folder.path().join("val")).unwrap();
    assert!(error(open(&folder)).ends_with(
        "train has 1 folders: one for each class, and at least two, are expected in it"
    ));
    fs::create_dir_all(folder.path().join("train/n01443537")).unwrap();
    assert!(error(open(&folder)).contains("val has neither folders nor photographs"));
}

#[test]
fn mistakes_in_a_folder_are_named() {
    let folder = generated(Format::Imagenet);
    let path = |name: &str| folder.path().join(name);
    let empty = path("train/n09999999");
    fs::create_dir(&empty).unwrap();
    let text = error(open(&folder));
    assert!(text.contains("train/n09999999 is a class without photographs"), "{text}");
    fs::remove_dir(&empty).unwrap();

    let truth = path(KIT).join("ILSVRC2012_validation_ground_truth.txt");
    changed(&truth, |bytes| bytes.truncate(bytes.len() - 2));
    let text = error(open(&folder));
    assert!(
        text.contains("ground_truth.txt has 8 lines, and there are 9 photographs in val"),
        "{text}"
    );
    changed(&truth, |bytes| bytes.extend(b"7\n"));
    let text = error(open(&folder));
    assert!(text.contains("ground_truth.txt, line 9: 7 is none of the 6 classes of"), "{text}");
    changed(&truth, |bytes| *bytes.iter_mut().rev().nth(1).unwrap() = b'x');
    assert!(error(open(&folder)).contains("line 9: \"x\" is no number"));
    changed(&truth, |bytes| *bytes.iter_mut().rev().nth(1).unwrap() = b'1');
    open(&folder).unwrap();

    let meta = path(KIT).join("meta.mat");
    let list = fs::read(&meta).unwrap();
    changed(&meta, |bytes| {
        let at = bytes.windows(4).position(|bytes| bytes == b"n\x000\0").unwrap();
        bytes[at] = b'm';
    });
    let text = error(open(&folder));
    assert!(
        text.contains("line ") && text.contains(" is none of the 6 classes of train"),
        "{text}"
    );
    fs::write(&meta, &list[..list.len() / 2]).unwrap();
    let text = error(open(&folder));
    assert!(
        text.contains("meta.mat is no list of ImageNet's classes: it ends within an element"),
        "{text}"
    );
    fs::remove_file(&meta).unwrap();
    let text = error(open(&folder));
    assert!(
        text.contains("mean nothing without the classes that have them")
            && text.contains("meta.mat cannot be read"),
        "{text}"
    );
    fs::write(&meta, list).unwrap();
    // Beside the images the two do as well.
    fs::rename(&truth, path("ILSVRC2012_validation_ground_truth.txt")).unwrap();
    fs::rename(&meta, path("meta.mat")).unwrap();
    open(&folder).unwrap();
    let truth = path("ILSVRC2012_validation_ground_truth.txt");

    fs::remove_file(&truth).unwrap();
    let text = error(open(&folder));
    assert!(text.contains("ILSVRC2012_validation_ground_truth.txt and meta.mat, or LOC_val_solution.csv, are expected in"), "{text}");
    fs::create_dir(path("val/n09999999")).unwrap();
    assert!(
        error(open(&folder))
            .contains("val/n09999999: \"n09999999\" is none of the 6 classes of train")
    );
    for size in [7, 4097] {
        let options = Options { size, ..OPTIONS };
        assert!(error(Imagenet::open(folder.path(), options)).contains("8 to 4096 rows"));
    }
}
