use std::fs;

use adaloss_datasets::{
    Dataset, Object, OnBroken,
    detection::{Detection, Options},
    generate::Format,
    scene::Kind,
    voc,
};
use anyhow::Result;
use tempfile::TempDir;

use crate::{PLAN, assert_whole, changed, error, generated, replaced, scenes};

const OPTIONS: Options = Options { size: 64, on_broken: OnBroken::Stop };

fn open(folder: &TempDir) -> Result<Detection> {
    voc::open(folder.path(), OPTIONS)
}

#[test]
fn what_is_written_is_read() {
    let folder = generated(Format::Voc);
    let voc = open(&folder).unwrap();
    assert_eq!((voc.train_samples(), voc.test_samples()), (PLAN.train, PLAN.test));
    assert_eq!(voc.class_names(), voc::CLASSES);
    let expected = "Pascal VOC 2007 and 2012: 24 training and 9 test images, seen at 64x64x3, objects of 20 classes, from ";
    assert!(voc.describe().starts_with(expected), "{}", voc.describe());
    assert_whole(&voc);
    // The folder itself may be named, and without 2012 there are two thirds.
    let kit = folder.path().join("VOCdevkit");
    assert_eq!(voc::open(&kit, OPTIONS).unwrap().describe(), voc.describe());
    fs::remove_dir_all(kit.join("VOC2012")).unwrap();
    let first = open(&folder).unwrap();
    assert_eq!((first.train_samples(), first.test_samples()), (16, 9));
    assert!(first.describe().starts_with("Pascal VOC 2007: "));
}

/// The bounds of the test images' objects are those of the scenes, pixel by pixel: the images are the upper left of them.
#[test]
fn bounds_are_those_that_were_drawn() {
    let folder = generated(Format::Voc);
    let voc = open(&folder).unwrap();
    let test = voc.test(0..PLAN.test).unwrap();
    let mut count = 0;
    for (nth, (scene, found)) in scenes(Kind::DETECTION)[1].iter().zip(&test.objects).enumerate() {
        let nth = PLAN.train + nth;
        let shorter = PLAN.size - nth % 7 * PLAN.size / 16;
        let (width, height) =
            if nth.is_multiple_of(2) { (PLAN.size, shorter) } else { (shorter, PLAN.size) };
        let mut expected = Vec::new();
        for &Object { class, bounds, is_difficult } in &scene.objects {
            let pixel = |side: f32| (side * PLAN.size as f32).round();
            let [left, top, right, bottom] = bounds.map(pixel);
            let (right, bottom) = (right.min(width as f32), bottom.min(height as f32));
            if left < right && top < bottom {
                let bounds = [
                    left / width as f32,
                    top / height as f32,
                    right / width as f32,
                    bottom / height as f32,
                ];
                expected.push(Object { class, bounds, is_difficult });
            }
        }
        assert_eq!(found, &expected, "image {nth}");
        count += found.len();
    }
    assert!(count > 15, "{count}");
}

#[test]
fn another_folder_is_told_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let text = error(open(&folder));
    assert!(
        text.ends_with(
            "is no folder of Pascal VOC: VOCdevkit/VOC2007/ with Annotations/, ImageSets/Main/ and JPEGImages/, and \
             VOC2012/ beside VOC2007/ if it is to train as well, is expected in it"
        ),
        "{text}"
    );
    let folder = generated(Format::Voc);
    let lists = folder.path().join("VOCdevkit/VOC2007/ImageSets/Main");
    fs::write(lists.join("trainval.txt"), " \n").unwrap();
    assert!(error(open(&folder)).ends_with("trainval.txt names no image"));
    fs::remove_file(lists.join("test.txt")).unwrap();
    fs::write(lists.join("trainval.txt"), "000001\n").unwrap();
    assert!(error(open(&folder)).contains("ImageSets/Main/test.txt cannot be read"));
}

#[test]
fn mistakes_in_an_annotation_are_named() {
    let whole = generated(Format::Voc);
    let path = whole.path().join("VOCdevkit/VOC2007/Annotations/000002.xml");
    let annotation = fs::read_to_string(&path).unwrap();
    let open_with = |from: &str, to: &str| {
        fs::write(&path, &annotation).unwrap();
        replaced(&path, from, to);
        error(open(&whole))
    };
    let named = |text: &str, what: &str| {
        assert!(
            text.contains("Annotations/000002.xml is no annotation of Pascal VOC: ")
                && text.contains(what),
            "{text}"
        );
    };
    named(&open_with("bndbox", "box"), "expected 'box' tag");
    named(&open_with("<bndbox>", "<box>"), "expected 'box' tag");
    fs::write(&path, annotation.replace("bndbox>", "box>")).unwrap();
    named(&error(open(&whole)), "object 0, in line 10: <object> has no <bndbox>");
    named(&open_with("<xmin>", "<xmin>x"), "object 0, in line 10: <xmin> is \"x");
    named(&open_with("<width>", "<width>0."), "its size is 0.");
    for (from, to, what) in [
        ("size>", "sizes>", "<annotation> has no <size>"),
        ("annotation>", "annotations>", "it begins with <annotations>"),
        ("name>", "names>", "object 0, in line 10: <object> has no <name>"),
    ] {
        fs::write(&path, annotation.replace(from, to)).unwrap();
        named(&error(open(&whole)), what);
    }
    for (from, to) in [("<xmax>", "<xmax>1"), ("<ymin>", "<ymin>99")] {
        named(&open_with(from, to), "which is no area of an image of ");
    }
    let class =
        voc::CLASSES.iter().find(|class| annotation.contains(&format!("<name>{class}<"))).unwrap();
    named(
        &open_with(&format!("<name>{class}"), "<name>unicorn"),
        "\"unicorn\" is none of the 20 classes",
    );
    fs::write(&path, &annotation[..annotation.len() / 2]).unwrap();
    named(&error(open(&whole)), "");
    fs::remove_file(&path).unwrap();
    assert!(error(open(&whole)).contains("Annotations/000002.xml cannot be read"));
}

#[test]
fn an_image_of_another_size_is_broken() {
    let folder = generated(Format::Voc);
    let images = folder.path().join("VOCdevkit/VOC2007/JPEGImages");
    fs::copy(images.join("000001.jpg"), images.join("000018.jpg")).unwrap();
    let voc = open(&folder).unwrap();
    let text = error(voc.test(0..3));
    assert!(
        text.contains("000018.jpg has 48 x 48 pixels, and its objects are those of an image of "),
        "{text}"
    );
    changed(&images.join("000018.jpg"), |bytes| bytes.truncate(600));
    assert!(error(voc.test(0..3)).contains("000018.jpg is no photograph: it is truncated"));
}
