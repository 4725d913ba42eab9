//! Files that are broken behind a folder that is in order.

use std::{
    fs,
    path::{Path, PathBuf},
};

use adaloss_datasets::{
    Dataset, OnBroken, View, camvid::Camvid, coco, detection, generate::Format, imagenet,
    imagenet::Imagenet, voc,
};
use anyhow::Result;

use crate::{PLAN, VIEW, changed, error, generated};

const FORMATS: [Format; 4] = [Format::Imagenet, Format::Voc, Format::Coco, Format::Camvid];

fn open(format: Format, folder: &Path, on_broken: OnBroken) -> Result<Box<dyn Dataset>> {
    let options = detection::Options { size: 32, on_broken };
    Ok(match format {
        Format::Imagenet => {
            Box::new(Imagenet::open(folder, imagenet::Options { size: 32, on_broken })?)
        }
        Format::Voc => Box::new(voc::open(folder, options)?),
        Format::Coco => Box::new(coco::open(folder, options)?),
        Format::Camvid => Box::new(Camvid::open(folder, on_broken)?),
        Format::Cifar10 => unreachable!("its files are read when the folder is opened"),
    })
}

/// Returns two files of training images, and one of a test image.
fn images(format: Format, folder: &Path) -> [PathBuf; 3] {
    let listed = |name: &str| {
        let mut files: Vec<_> =
            fs::read_dir(folder.join(name)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    };
    let (train, test) = match format {
        Format::Imagenet => {
            let classes = listed("train");
            (listed(&format!("train/{}", classes[2].file_name().unwrap().display())), listed("val"))
        }
        Format::Voc => {
            let all = listed("VOCdevkit/VOC2007/JPEGImages");
            (all[..16].to_vec(), all[16..].to_vec())
        }
        Format::Coco => (listed("train2017"), listed("val2017")),
        _ => (listed("train"), listed("test")),
    };
    [train[0].clone(), train[1].clone(), test[4].clone()]
}

#[test]
fn a_broken_file_ends_what_asked_for_it_by_its_name() {
    for format in FORMATS {
        let folder = generated(format);
        let [first, second, test] = images(format, folder.path());
        changed(&first, |bytes| bytes.truncate(bytes.len() / 2));
        fs::remove_file(&second).unwrap_or_default();
        changed(&test, Vec::clear);
        if format == Format::Camvid {
            // What is missing is seen before anything is read.
            assert!(
                error(open(format, folder.path(), OnBroken::Stop).map(|_| ()))
                    .contains("is missing")
            );
            fs::write(&second, "").unwrap();
        }
        let dataset = open(format, folder.path(), OnBroken::Stop).unwrap();
        let mut named = Vec::new();
        for index in 0..dataset.train_samples() {
            if let Err(error) = dataset.train(&[index], VIEW) {
                named.push(format!("{error:#}"));
            }
        }
        let has = |path: &Path| named.iter().any(|text| text.contains(&*path.to_string_lossy()));
        // The folder of a class that has lost a file is one shorter.
        assert!(has(&first) && (format == Format::Imagenet || has(&second)), "{named:?}");
        assert!(
            named
                .iter()
                .all(|text| text.starts_with("a sample is broken, and was not to be skipped: "))
        );
        let text = error(dataset.test(0..PLAN.test));
        assert!(
            text.contains(&*test.to_string_lossy()) && text.ends_with("the file is empty"),
            "{text}"
        );
        assert!(dataset.left_out().is_empty());
    }
}

#[test]
fn broken_files_are_skipped_where_that_is_wanted_and_counted() {
    for format in FORMATS {
        let folder = generated(format);
        let [first, second, test] = images(format, folder.path());
        changed(&first, |bytes| bytes.truncate(bytes.len() / 2));
        fs::write(&second, "no image").unwrap();
        changed(&test, Vec::clear);
        let dataset = open(format, folder.path(), OnBroken::Skip).unwrap();
        let all: Vec<usize> = (0..dataset.train_samples()).collect();
        for epoch in 0..3 {
            let view = View { epoch, ..VIEW };
            let batch = dataset.train(&all, view).unwrap();
            batch.check(&*dataset).unwrap();
            assert_eq!(batch.samples, all.len());
            assert_eq!(dataset.train(&all, view).unwrap(), batch);
        }
        let batch = dataset.test(0..PLAN.test).unwrap();
        batch.check(&*dataset).unwrap();
        assert_eq!(batch.samples, PLAN.test - 1);
        let left_out = dataset.left_out();
        assert_eq!(left_out.len(), 3, "{left_out:?}");
        for (path, why) in
            [(&first, ""), (&second, "neither JPEG nor PNG"), (&test, "the file is empty")]
        {
            let name = path.to_string_lossy();
            assert!(
                left_out.iter().any(|text| text.contains(&*name) && text.contains(why)),
                "{left_out:?}"
            );
        }
    }
}

/// Annotations are read when a folder is opened.
#[test]
fn broken_annotations_are_skipped_too() {
    let folder = generated(Format::Voc);
    let annotations = folder.path().join("VOCdevkit/VOC2007/Annotations");
    changed(&annotations.join("000003.xml"), |bytes| bytes.truncate(90));
    fs::remove_file(annotations.join("000020.xml")).unwrap();
    let dataset = open(Format::Voc, folder.path(), OnBroken::Skip).unwrap();
    assert_eq!((dataset.train_samples(), dataset.test_samples()), (PLAN.train - 1, PLAN.test - 1));
    let left_out = dataset.left_out();
    assert!(
        left_out.len() == 2
            && left_out[0].contains("000003.xml")
            && left_out[1].contains("000020.xml"),
        "{left_out:?}"
    );

    let folder = generated(Format::Coco);
    let list = folder.path().join("annotations/instances_train2017.json");
    crate::replaced(&list, "\"bbox\":[", "\"bbox\":[9");
    let dataset = open(Format::Coco, folder.path(), OnBroken::Skip).unwrap();
    assert_eq!(dataset.left_out().len(), 1);
    assert!(dataset.left_out()[0].contains("instances_train2017.json, annotation 1: "));

    let folder = generated(Format::Camvid);
    for nth in 0..PLAN.train {
        fs::write(folder.path().join(format!("trainannot/train_{nth:05}.png")), "").unwrap();
    }
    let text = error(open(Format::Camvid, folder.path(), OnBroken::Skip).map(|_| ()));
    assert!(text.contains("no file of ") && text.contains("trainannot can be read: "), "{text}");
    assert!(
        text.contains("train_00023.png is no image of the classes of pixels: the file is empty"),
        "{text}"
    );
}
