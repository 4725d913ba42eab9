//! Pascal VOC 2007 and 2012 from the user's folder: photographs with objects of 20 classes.
//!
//! ```text
//! VOCdevkit/VOC2007/ImageSets/Main/trainval.txt, test.txt   the numbers of images, one per line
//! VOCdevkit/VOC2007/Annotations/000005.xml                  what is in an image
//! VOCdevkit/VOC2007/JPEGImages/000005.jpg
//! VOCdevkit/VOC2012/...                                     the same without test.txt
//! ```
//!
//! Trained with is `trainval` of 2007, and of 2012 where it is there (16,551 images together); tested with `test` of 2007 (4,952).
//!
//! A box is `xmin, ymin, xmax, ymax` in pixels that are counted from 1, the last one included, so that its bounds are
//! `xmin - 1, ymin - 1, xmax, ymax`.  Everingham et al. (2010); the development kits' `VOCcode/VOCreadrecxml.m` and
//! `VOCevaldet.m`, whose areas are those.  Implementations of SSD take `xmax - 1` instead, one pixel less.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use roxmltree::{Document, Node};

use crate::{
    broken::Broken,
    detection::{Detection, Entry, Options, shares},
    folder::read_text,
    object::Object,
};

/// What a folder has to hold.
pub(crate) const EXPECTED: &str = "VOCdevkit/VOC2007/ with Annotations/, ImageSets/Main/ and JPEGImages/, and VOC2012/ beside VOC2007/ \
                                   if it is to train as well,";

/// The classes, in their order.
pub const CLASSES: [&str; 20] = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// Reads the annotations of a folder, which is `VOCdevkit` or has it in it; images are not opened.
///
/// # Errors
///
/// A folder or a list is missing or empty, or the size is not from 8 to 4096; or annotations are broken and not to be skipped:
/// they cannot be read, have no size, or an object without a class of the 20, without a box or with one outside the image.  The
/// error names the file.
pub fn open(folder: &Path, options: Options) -> Result<Detection> {
    let inside = folder.join("VOCdevkit");
    let kit = if inside.is_dir() { inside } else { folder.to_path_buf() };
    let first = kit.join("VOC2007/ImageSets/Main");
    ensure!(
        first.is_dir(),
        "{} is no folder of Pascal VOC: {EXPECTED} is expected in it",
        folder.display()
    );
    let broken = Broken::new(options.on_broken);
    let has_second = kit.join("VOC2012").is_dir();
    let mut train = part(&kit, "VOC2007", "trainval", &broken)?;
    if has_second {
        train.extend(part(&kit, "VOC2012", "trainval", &broken)?);
    }
    let test = part(&kit, "VOC2007", "test", &broken)?;
    let name = if has_second { "Pascal VOC 2007 and 2012" } else { "Pascal VOC 2007" };
    let classes = CLASSES.map(str::to_owned).to_vec();
    Detection::new(name.to_owned(), &kit, classes, options, [train, test], broken)
}

/// Reads the annotations of the images that a list names.
fn part(kit: &Path, year: &str, list: &str, broken: &Broken) -> Result<Vec<Entry>> {
    let list = kit.join(format!("{year}/ImageSets/Main/{list}.txt"));
    let text = read_text(&list)?;
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(!names.is_empty(), "{} names no image", list.display());
    let entry = |name: &&str| {
        let path = kit.join(format!("{year}/Annotations/{name}.xml"));
        let read = || {
            let text = read_text(&path)?;
            let (size, objects) = annotation(&text)
                .with_context(|| format!("{} is no annotation of Pascal VOC", path.display()))?;
            Ok(Entry { path: format!("{year}/JPEGImages/{name}.jpg").into(), size, objects })
        };
        broken.keep(read())
    };
    let entries: Vec<_> = names.par_iter().map(entry).collect::<Result<_>>()?;
    Ok(entries.into_iter().flatten().collect())
}

/// Returns the columns and rows of an image, and its objects, from an annotation in XML.
///
/// # Errors
///
/// The text is no XML, or what it says is missing, no number or outside the image.
pub fn annotation(text: &str) -> Result<([usize; 2], Vec<Object>)> {
    let document = Document::parse(text)?;
    let root = document.root_element();
    ensure!(root.has_tag_name("annotation"), "it begins with <{}>", root.tag_name().name());
    let size = child(root, "size")?;
    let [width, height] = ["width", "height"].map(|side| -> Result<usize> {
        let side = number(size, side)?;
        ensure!(side >= 1.0 && side.fract() == 0.0, "its size is {side}");
        Ok(side as usize)
    });
    let size = [width?, height?];
    let objects = root.children().filter(|node| node.has_tag_name("object")).enumerate();
    let objects = objects.map(|(nth, node)| {
        object(node, size).with_context(|| format!("object {nth}, in line {}", line(node)))
    });
    Ok((size, objects.collect::<Result<_>>()?))
}

/// Reads one object; parts of a person have boxes of their own, further inside.
fn object(node: Node<'_, '_>, size: [usize; 2]) -> Result<Object> {
    let name = text(child(node, "name")?);
    let class = CLASSES.iter().position(|&class| class == name);
    let class = class.with_context(|| format!("\"{name}\" is none of the 20 classes"))?;
    let bounds = child(node, "bndbox")?;
    let side = |name| number(bounds, name);
    let [left, top] = [side("xmin")? - 1.0, side("ymin")? - 1.0];
    let bounds = shares([left, top, side("xmax")?, side("ymax")?], size)?;
    let difficult = node.children().find(|node| node.has_tag_name("difficult"));
    Ok(Object {
        class: class as u32,
        bounds,
        is_difficult: difficult.is_some_and(|node| text(node) == "1"),
    })
}

/// Returns a child by its name.
fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Result<Node<'a, 'input>> {
    let child = node.children().find(|child| child.has_tag_name(name));
    child.with_context(|| format!("<{}> has no <{name}>", node.tag_name().name()))
}

/// Returns the number in a child.
fn number(node: Node<'_, '_>, name: &str) -> Result<f64> {
    let text = text(child(node, name)?);
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.with_context(|| format!("<{name}> is \"{text}\", which is no number"))
}

fn text<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or_default().trim()
}

fn line(node: Node<'_, '_>) -> u32 {
    node.document().text_pos_at(node.range().start).row
}
