//! Data sets in files: what is written in each format is read as it was, and every mistake in a folder is named.

mod broken;
mod camvid;
mod cifar;
mod coco;
mod imagenet;
mod voc;

use std::{fmt::Debug, fs, path::Path};

use adaloss_datasets::{
    Batch, Dataset, Inputs, OnBroken, Source, View, Wanted,
    generate::{Format, generate},
    scene::{Kind, Part, Scene},
    scenes::Plan,
    source::Seen,
};
use anyhow::Result;
use tempfile::TempDir;

/// A few images of few pixels.
const PLAN: Plan = Plan { size: 48, train: 24, test: 9, seed: 0 };

const VIEW: View = View { seed: 3, epoch: 1 };

/// Returns a folder with a small data set in it.
fn generated(format: Format) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    generate(format, folder.path(), PLAN).unwrap();
    folder
}

/// Returns the scenes that a generated data set was made from: those that train, and those that test.
fn scenes(kind: Kind) -> [Vec<Scene>; 2] {
    let draw = |part, count| {
        (0..count).map(|nth| Scene::draw(kind, PLAN.seed, part, nth, PLAN.size)).collect()
    };
    [draw(Part::Train, PLAN.train), draw(Part::Test, PLAN.test)]
}

fn error<T: Debug>(result: Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

fn values(batch: &Batch) -> &[f32] {
    let Inputs::Images(values) = &batch.inputs else { panic!("these are images") };
    values
}

/// Changes a file.
fn changed(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Changes a text file, in which what is replaced has to occur.
fn replaced(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no {from}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Checks all samples, and that a batch is the batches of its parts: so they may be read in any order, by any number of threads.
fn assert_whole(dataset: &dyn Dataset) {
    let chosen: Vec<usize> = (0..dataset.train_samples()).rev().collect();
    let whole = dataset.train(&chosen, VIEW).unwrap();
    whole.check(dataset).unwrap();
    let (first, second) = chosen.split_at(chosen.len() / 3);
    let parts = [first, second].map(|part| dataset.train(part, VIEW).unwrap());
    assert_eq!(
        parts.iter().flat_map(values).collect::<Vec<_>>(),
        values(&whole).iter().collect::<Vec<_>>()
    );
    assert_eq!(
        parts.iter().flat_map(|part| &part.labels).collect::<Vec<_>>(),
        whole.labels.iter().collect::<Vec<_>>()
    );
    assert_eq!(
        parts.iter().flat_map(|part| &part.objects).collect::<Vec<_>>(),
        whole.objects.iter().collect::<Vec<_>>()
    );
    assert_ne!(dataset.train(&chosen, View { epoch: 2, ..VIEW }).unwrap().inputs, whole.inputs);
    assert_ne!(dataset.train(&chosen, View { seed: 4, ..VIEW }).unwrap().inputs, whole.inputs);
    let tests = dataset.test_samples();
    let test = dataset.test(0..tests).unwrap();
    test.check(dataset).unwrap();
    assert_eq!(test.samples, tests);
    assert_eq!(
        dataset.test(1..2).unwrap().labels,
        test.labels[dataset.labels_per_sample()..][..dataset.labels_per_sample()]
    );
    assert_eq!(dataset.test(tests..tests).unwrap().samples, 0);
    assert!(dataset.left_out().is_empty());
}

#[test]
fn a_folder_that_has_something_in_it_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "work").unwrap();
    for (name, format) in Format::ALL {
        assert_eq!(name.parse::<Format>().unwrap(), format);
        assert_eq!(format.to_string(), name);
        let error = error(generate(format, folder.path(), PLAN));
        assert!(
            error.ends_with("has files in it already: name an empty folder, or a new one"),
            "{error}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(
        error("pets".parse::<Format>()),
        "\"pets\" is none of cifar-10, imagenet, voc, coco, camvid"
    );
}

#[test]
fn impossible_plans_are_errors() {
    for (_, format) in Format::ALL {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            generate(format, folder.path(), Plan { train: 0, ..PLAN }).is_err()
                || format == Format::Cifar10
        );
        assert!(
            generate(format, folder.path(), Plan { size: 8, ..PLAN }).is_err()
                || format == Format::Cifar10
        );
    }
    let few = Plan { train: 2, ..PLAN };
    let folder = tempfile::tempdir().unwrap();
    assert!(
        error(generate(Format::Imagenet, folder.path(), few))
            .contains("2 training images are too few")
    );
}

#[test]
fn a_folder_is_known_by_what_it_holds() {
    let seen = Seen { size: Some(40), on_broken: OnBroken::Stop };
    let open = |folder: &TempDir, wanted| {
        let folder = folder.path().to_path_buf();
        Source::Folder { folder, wanted, seen }.open().map(|dataset| dataset.describe())
    };
    for (format, wanted, name) in [
        (Format::Cifar10, Wanted::Images, "CIFAR-10: "),
        (
            Format::Imagenet,
            Wanted::Images,
            "ImageNet: 24 training and 9 test images, seen at 40x40x3",
        ),
        (
            Format::Voc,
            Wanted::Objects,
            "Pascal VOC 2007 and 2012: 24 training and 9 test images, seen at 40x40x3",
        ),
        (Format::Coco, Wanted::Objects, "COCO: "),
        (Format::Camvid, Wanted::Scenes, "CamVid: "),
    ] {
        let folder = generated(format);
        let found = open(&folder, wanted).unwrap();
        assert!(found.starts_with(name), "{found}");
        let text = error(open(&folder, Wanted::Text));
        assert!(
            text.ends_with(
                "is a folder, which images are read from, and neither text nor what is generated is"
            ),
            "{text}"
        );
    }
    let empty = tempfile::tempdir().unwrap();
    for (wanted, expected) in [
        (
            Wanted::Images,
            [
                "for ImageNet train/ with a folder of photographs for each class, and val/ would be expected",
                "test_batch.bin",
            ],
        ),
        (Wanted::Scenes, ["train/, trainannot/, test/ and testannot/", "CamVid"]),
        (
            Wanted::Objects,
            ["VOCdevkit/VOC2007/ with Annotations/", "annotations/instances_train2017.json"],
        ),
    ] {
        let text = error(open(&empty, wanted));
        assert!(expected.iter().all(|expected| text.contains(expected)), "{text}");
    }
    let folder = empty.path().join("absent");
    let absent = Source::Folder { folder, wanted: Wanted::Images, seen }.open().map(|_| ());
    assert!(error(absent).ends_with("absent is no folder"));
}
