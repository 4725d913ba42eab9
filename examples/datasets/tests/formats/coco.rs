use std::fs;

use adaloss_datasets::{
    Dataset, OnBroken, coco,
    detection::{Detection, Options},
    generate::Format,
    voc,
};
use anyhow::Result;
use tempfile::TempDir;

use crate::{PLAN, assert_whole, error, generated, replaced};

const OPTIONS: Options = Options { size: 64, on_broken: OnBroken::Stop };

fn open(folder: &TempDir) -> Result<Detection> {
    coco::open(folder.path(), OPTIONS)
}

#[test]
fn what_is_written_is_read() {
    let folder = generated(Format::Coco);
    let coco = open(&folder).unwrap();
    // One image has lost its only object where it was cut.
    assert_eq!((coco.train_samples(), coco.test_samples()), (PLAN.train - 1, PLAN.test));
    assert_eq!(coco.class_names(), ["disc", "bar", "triangle", "star", "ring", "cross"]);
    assert!(coco.describe().starts_with("COCO: "), "{}", coco.describe());
    assert_whole(&coco);
    // The same pictures in the other format have the same objects.
    let folder = generated(Format::Voc);
    let voc = voc::open(folder.path(), OPTIONS).unwrap();
    assert_eq!(coco.test(0..PLAN.test).unwrap().objects, voc.test(0..PLAN.test).unwrap().objects);
}

#[test]
fn another_folder_is_told_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let expected = "is no folder of COCO: annotations/instances_train2017.json, annotations/instances_val2017.json, \
                    train2017/ and val2017/, or others than 2017, are expected in it";
    assert!(error(open(&folder)).ends_with(expected));
    let folder = generated(Format::Coco);
    let annotations = folder.path().join("annotations");
    fs::copy(
        annotations.join("instances_val2017.json"),
        annotations.join("instances_val2014.json"),
    )
    .unwrap();
    assert!(error(open(&folder)).ends_with(
        "annotations has several lists to val with, val2014 and val2017: move all but one away"
    ));
    fs::remove_file(annotations.join("instances_val2014.json")).unwrap();
    fs::rename(folder.path().join("val2017"), folder.path().join("val")).unwrap();
    assert!(error(open(&folder)).ends_with(expected));
}

#[test]
fn mistakes_in_a_list_are_named() {
    let folder = generated(Format::Coco);
    let path = folder.path().join("annotations/instances_train2017.json");
    let list = fs::read_to_string(&path).unwrap();
    let open_with = |from: &str, to: &str| {
        fs::write(&path, &list).unwrap();
        replaced(&path, from, to);
        error(open(&folder))
    };
    for (from, to, what) in [
        ("\"images\"", "\"pictures\"", "is no list of COCO's: missing field `images`"),
        ("\"bbox\":[", "\"bbox\":[1,", "is no list of COCO's: "),
        ("\"bbox\":[", "\"bbox\":[9", ", annotation 1: the box from ("),
        ("\"category_id\":", "\"category_id\":9", ", annotation 1: no category has the id 9"),
        ("\"image_id\":9", "\"image_id\":8", ", annotation 1: no image has the id 8"),
        ("\"name\":\"disc\"", "\"name\":\"plate\"", "have other classes"),
        ("\"categories\":[", "\"categories\":[], \"others\":[", "has no categories"),
    ] {
        let text = open_with(from, to);
        assert!(text.contains("instances_train2017.json") && text.contains(what), "{text}");
    }
    fs::write(&path, &list[..list.len() / 2]).unwrap();
    assert!(
        error(open(&folder))
            .contains("instances_train2017.json is no list of COCO's: EOF while parsing")
    );
    fs::remove_file(&path).unwrap();
    assert!(error(open(&folder)).contains("is no folder of COCO"));
}

/// The published lists have a few boxes without width or height.
#[test]
fn boxes_without_area_are_left_out() {
    let folder = generated(Format::Coco);
    let count =
        |folder: &TempDir| open(folder).unwrap().test(0..PLAN.test).unwrap().objects.concat().len();
    let all = count(&folder);
    let path = folder.path().join("annotations/instances_val2017.json");
    let list = fs::read_to_string(&path).unwrap();
    let from = list.find("\"bbox\":[").unwrap();
    let to = from + list[from..].find(']').unwrap();
    fs::write(&path, format!("{}\"bbox\":[3,4,0,5{}", &list[..from], &list[to..])).unwrap();
    assert_eq!(count(&folder), all - 1);
}
