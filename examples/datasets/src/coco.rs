//! COCO, or another data set in its format, from the user's folder: photographs with objects.
//!
//! ```text
//! annotations/instances_train2017.json   what is in the images of train2017/
//! annotations/instances_val2017.json     what is in those of val2017/
//! train2017/000000000009.jpg ...
//! val2017/000000000139.jpg ...
//! ```
//!
//! One list whose name begins with `instances_train` and one with `instances_val` are expected; the rest of the name is that of the
//! folder with the images.  Classes are numbered in the order of their ids, without gaps.  A box is left, top, width and height in
//! pixels.  A crowd (`iscrowd`) is difficult: neither found nor missed, as in COCO's own evaluation.  Boxes without area, of which the
//! published lists have a few, are left out, and so are training images without objects.
//!
//! Lin et al. (2014), <https://cocodataset.org/#format-data>.

use std::{
    collections::HashMap,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;

use crate::{
    broken::Broken,
    detection::{Detection, Entry, Options, shares},
    folder::Listing,
    object::Object,
};

/// What a folder has to hold.
pub(crate) const EXPECTED: &str = "annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/ and val2017/, or \
                                   others than 2017,";

/// What is read of a list; the rest, outlines above all, is skipped and never held.
#[derive(Deserialize)]
struct List {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    width: usize,
    height: usize,
}

#[derive(Deserialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

/// Reads the lists of a folder; images are not opened.
///
/// # Errors
///
/// A list or a folder is missing, there are several, a list is no JSON of this format, the two have other classes; the size is not
/// from 8 to 4096; or an annotation is broken and not to be skipped: it is of no image or class, or outside its image.
pub fn open(folder: &Path, options: Options) -> Result<Detection> {
    let broken = Broken::new(options.on_broken);
    let (train_list, train_folder) = list_of(folder, "train")?;
    let (test_list, test_folder) = list_of(folder, "val")?;
    let (classes, mut train) = entries(&train_list, &train_folder, &broken)?;
    train.retain(|entry| !entry.objects.is_empty());
    let (others, test) = entries(&test_list, &test_folder, &broken)?;
    ensure!(
        classes == others,
        "{} and {} have other classes",
        train_list.display(),
        test_list.display()
    );
    Detection::new("COCO".to_owned(), folder, classes, options, [train, test], broken)
}

/// Finds the list of a part, and the name of its folder of images.
fn list_of(folder: &Path, part: &str) -> Result<(PathBuf, String)> {
    let annotations = folder.join("annotations");
    let expected =
        || format!("{} is no folder of COCO: {EXPECTED} are expected in it", folder.display());
    ensure!(annotations.is_dir(), expected());
    let of_part = |file: &String| {
        let name = file.strip_prefix("instances_")?.strip_suffix(".json")?;
        name.starts_with(part).then(|| name.to_owned())
    };
    let names: Vec<String> = Listing::of(&annotations)?.files.iter().filter_map(of_part).collect();
    match &names[..] {
        [] => bail!(expected()),
        [name] => {
            ensure!(folder.join(name).is_dir(), expected());
            Ok((annotations.join(format!("instances_{name}.json")), name.clone()))
        }
        _ => bail!(
            "{} has several lists to {part} with, {}: move all but one away",
            annotations.display(),
            names.join(" and ")
        ),
    }
}

/// Reads a list; returns the names of the classes, and the images in the order of their ids.
fn entries(list: &Path, folder: &str, broken: &Broken) -> Result<(Vec<String>, Vec<Entry>)> {
    let shown = list.display();
    let file = File::open(list).with_context(|| format!("{shown} cannot be read"))?;
    let List { mut images, annotations, mut categories } =
        serde_json::from_reader(BufReader::with_capacity(1 << 20, file))
            .with_context(|| format!("{shown} is no list of COCO's"))?;
    categories.sort_unstable_by_key(|category| category.id);
    let classes: HashMap<u64, u32> =
        categories.iter().zip(0..).map(|(category, class)| (category.id, class)).collect();
    ensure!(!classes.is_empty(), "{shown} has no categories");
    images.sort_unstable_by_key(|image| image.id);
    let places: HashMap<u64, usize> =
        images.iter().enumerate().map(|(place, image)| (image.id, place)).collect();
    let entry = |Image { file_name, width, height, .. }| Entry {
        path: format!("{folder}/{file_name}").into(),
        size: [width, height],
        objects: Vec::new(),
    };
    let mut entries: Vec<Entry> = images.into_iter().map(entry).collect();
    for annotation in annotations {
        let [_, _, width, height] = annotation.bbox;
        if width == 0.0 || height == 0.0 {
            continue;
        }
        let found = || {
            let place = *places
                .get(&annotation.image_id)
                .with_context(|| format!("no image has the id {}", annotation.image_id))?;
            let class = classes.get(&annotation.category_id);
            let class = *class
                .with_context(|| format!("no category has the id {}", annotation.category_id))?;
            let [left, top, width, height] = annotation.bbox;
            let bounds = shares([left, top, left + width, top + height], entries[place].size)?;
            Ok((place, Object { class, bounds, is_difficult: annotation.iscrowd != 0 }))
        };
        let found = found().map_err(|error: anyhow::Error| {
            anyhow!("{shown}, annotation {}: {error:#}", annotation.id)
        });
        if let Some((place, object)) = broken.keep(found)? {
            entries[place].objects.push(object);
        }
    }
    Ok((categories.into_iter().map(|category| category.name).collect(), entries))
}
