//! Small data sets in the formats in which the published ones are distributed, for whoever has none of those at hand.
//!
//! What is in the images are the shapes of scenes, which stand for classes of the published names where a format has some.

use std::{
    fmt::{self, Display},
    fs,
    path::Path,
    str::FromStr,
};

use anyhow::{Context, Result, anyhow, ensure};
use jpeg_encoder::{ColorType, Encoder};
use serde_json::json;

use crate::{
    folder::Listing,
    meta,
    object::Object,
    photo::Photo,
    scene::{Kind, Scene},
    scenes::Plan,
    shape::Shape,
    voc,
};

/// The quality of JPEG files, of 100.
const QUALITY: u8 = 90;

/// A format in which a published data set is distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// CIFAR-10, binary version: 32 by 32 pixels, and the numbers of images are rounded up to those of its six files.
    Cifar10,
    /// ImageNet, with the validation images in one folder and the development kit beside it.  As in the published one some images
    /// are grey, some of four inks, and one is a PNG file whose name ends in .JPEG.
    Imagenet,
    /// Pascal VOC 2007 and 2012.
    Voc,
    /// COCO.
    Coco,
    /// CamVid.
    Camvid,
}

impl Format {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("cifar-10", Self::Cifar10),
        ("imagenet", Self::Imagenet),
        ("voc", Self::Voc),
        ("coco", Self::Coco),
        ("camvid", Self::Camvid),
    ];
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        let names = Self::ALL.map(|(known, _)| known).join(", ");
        found.map(|&(_, format)| format).with_context(|| format!("\"{name}\" is none of {names}"))
    }
}

impl Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, format)| format == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// Writes a data set into a folder, which is made if it does not exist: `size` pixels along the longer side of its images.
///
/// # Errors
///
/// The folder has something in it already, a file cannot be written, or the plan is impossible as that of
/// [`Scenes`](crate::scenes::Scenes) is.
pub fn generate(format: Format, folder: &Path, plan: Plan) -> Result<()> {
    let shown = folder.display();
    fs::create_dir_all(folder).with_context(|| format!("{shown} cannot be made"))?;
    let listing = Listing::of(folder)?;
    ensure!(
        listing.files.is_empty() && listing.folders.is_empty(),
        "{shown} has files in it already: name an empty folder, or a new one"
    );
    match format {
        Format::Cifar10 => cifar_10(folder, plan),
        Format::Imagenet => imagenet(folder, plan),
        Format::Voc => voc(folder, plan),
        Format::Coco => coco(folder, plan),
        Format::Camvid => camvid(folder, plan),
    }
}

/// An image with what is in it.
struct Picture {
    photo: Photo,
    /// In pixels: left, top, and behind right and bottom.
    objects: Vec<(Object, [usize; 4])>,
}

impl Picture {
    /// Cuts a square scene to another shape, as photographs have them: every other one is wide, the others high.
    fn of(scene: Scene, size: usize, nth: usize) -> Self {
        let shorter = (size - nth % 7 * size / 16).max(1);
        let [width, height] = if nth.is_multiple_of(2) { [size, shorter] } else { [shorter, size] };
        let rows = scene.pixels.chunks_exact(3 * size).take(height);
        let pixels = rows.flat_map(|row| &row[..3 * width]).copied().collect();
        let cut = |object: Object| {
            let [left, top, right, bottom] =
                object.bounds.map(|side| (side * size as f32).round() as usize);
            let cut = [left, top, right.min(width), bottom.min(height)];
            (cut[0] < cut[2] && cut[1] < cut[3]).then_some((object, cut))
        };
        let objects = scene.objects.into_iter().filter_map(cut).collect();
        Self { photo: Photo { width, height, pixels }, objects }
    }

    /// Draws the images of a kind: those that train, and those that test.
    fn draw(kind: Kind, plan: Plan) -> Result<[Vec<Self>; 2]> {
        let mut scenes = plan.draw(kind)?.into_iter().enumerate();
        let picture = |(nth, scene)| Self::of(scene, plan.size, nth);
        let train = scenes.by_ref().take(plan.train).map(picture).collect();
        Ok([train, scenes.map(picture).collect()])
    }
}

fn cifar_10(folder: &Path, plan: Plan) -> Result<()> {
    let per_file = plan.test.max(plan.train.div_ceil(5));
    let plan = Plan { size: 32, train: 5 * per_file, test: per_file, ..plan };
    let scenes = plan.draw(Kind::CLASSIFICATION)?;
    let names = (1..=5).map(|nth| format!("data_batch_{nth}.bin")).chain(["test_batch.bin".into()]);
    for (name, scenes) in names.zip(scenes.chunks(per_file)) {
        let mut bytes = Vec::new();
        for scene in scenes {
            bytes.push(class_of(scene) as u8);
            for channel in 0..3 {
                bytes.extend(scene.pixels.iter().skip(channel).step_by(3));
            }
        }
        write(&folder.join(name), &bytes)?;
    }
    Ok(())
}

fn imagenet(folder: &Path, plan: Plan) -> Result<()> {
    let wnid = |class: usize| format!("n{:08}", 1_000_000 + 37 * class);
    // The development kit numbers classes in another order than that of their WNIDs.
    let kit: Vec<usize> = (0..Shape::ALL.len()).rev().collect();
    let (mut train, mut truth) = ([0; Shape::ALL.len()], String::new());
    for (nth, scene) in plan.draw(Kind::CLASSIFICATION)?.into_iter().enumerate() {
        let class = class_of(&scene);
        let photo = Picture::of(scene, plan.size, nth).photo;
        let bytes = if nth == 3 { png_of(&photo)? } else { odd_jpeg(&photo, nth)? };
        let path = match nth.checked_sub(plan.train) {
            None => {
                train[class] += 1;
                format!("train/{0}/{0}_{1}.JPEG", wnid(class), train[class])
            }
            Some(nth) => {
                let number = kit.iter().position(|&other| other == class).unwrap_or_default() + 1;
                truth.push_str(&format!("{number}\n"));
                format!("val/ILSVRC2012_val_{:08}.JPEG", nth + 1)
            }
        };
        write(&folder.join(path), &bytes)?;
    }
    ensure!(
        train.iter().all(|&count| count > 0),
        "{} training images are too few: each of {} classes has to occur among them",
        plan.train,
        train.len()
    );
    let wnids: Vec<String> = kit.into_iter().map(wnid).collect();
    let kit = folder.join("ILSVRC2012_devkit_t12/data");
    write(&kit.join("ILSVRC2012_validation_ground_truth.txt"), truth.as_bytes())?;
    write(&kit.join("meta.mat"), &meta::written(wnids.iter().map(String::as_str)))
}

fn voc(folder: &Path, plan: Plan) -> Result<()> {
    let [train, test] = Picture::draw(Kind::DETECTION, plan)?;
    // A third of those that train are of the second year, whose images have other names.
    let second = train.len() / 3;
    let first = train.len() - second;
    let name = |year: &str, nth: usize| match year {
        "VOC2007" => format!("{:06}", nth + 1),
        _ => format!("2012_{:06}", nth + 1),
    };
    let parts = [
        ("VOC2007", "trainval", 0, &train[..first]),
        ("VOC2007", "test", first, &test[..]),
        ("VOC2012", "trainval", 0, &train[first..]),
    ];
    for (year, list, offset, pictures) in parts {
        if pictures.is_empty() {
            continue;
        }
        let folder = folder.join("VOCdevkit").join(year);
        let mut names = String::new();
        for (nth, picture) in pictures.iter().enumerate() {
            let name = name(year, offset + nth);
            names.push_str(&format!("{name}\n"));
            write(&folder.join(format!("JPEGImages/{name}.jpg")), &jpeg_of(&picture.photo)?)?;
            let annotation = annotation(year, &name, picture);
            write(&folder.join(format!("Annotations/{name}.xml")), annotation.as_bytes())?;
        }
        write(&folder.join(format!("ImageSets/Main/{list}.txt")), names.as_bytes())?;
    }
    Ok(())
}

/// Returns an annotation of Pascal VOC, whose pixels are counted from 1.
fn annotation(year: &str, name: &str, picture: &Picture) -> String {
    let Photo { width, height, .. } = picture.photo;
    let mut text = format!(
        "<annotation>\n\t<folder>{year}</folder>\n\t<filename>{name}.jpg</filename>\n\t<size>\n\t\t<width>{width}</width>\n\t\t\
         <height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n"
    );
    for (Object { class, is_difficult, .. }, [left, top, right, bottom]) in &picture.objects {
        text.push_str(&format!(
            "\t<object>\n\t\t<name>{}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n\t\t<difficult>{}</difficult>\n\
             \t\t<bndbox>\n\t\t\t<xmin>{}</xmin>\n\t\t\t<ymin>{}</ymin>\n\t\t\t<xmax>{right}</xmax>\n\t\t\t<ymax>{bottom}</ymax>\n\
             \t\t</bndbox>\n\t</object>\n",
            voc::CLASSES[*class as usize],
            u8::from(*is_difficult),
            left + 1,
            top + 1
        ));
    }
    text + "</annotation>\n"
}

fn coco(folder: &Path, plan: Plan) -> Result<()> {
    // As in the published lists, ids begin with 1 and have gaps.
    let categories = Shape::ALL.iter().enumerate();
    let categories: Vec<_> = categories
        .map(|(class, shape)| json!({ "id": 1 + 2 * class, "name": format!("{shape:?}").to_lowercase(), "supercategory": "shape" }))
        .collect();
    let mut id = 0;
    for (part, pictures) in
        ["train2017", "val2017"].into_iter().zip(Picture::draw(Kind::DETECTION, plan)?)
    {
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for (nth, Picture { photo, objects }) in pictures.iter().enumerate() {
            let image = 9 + 7 * nth;
            let name = format!("{image:012}.jpg");
            write(&folder.join(part).join(&name), &jpeg_of(photo)?)?;
            images.push(json!({ "id": image, "file_name": name, "width": photo.width, "height": photo.height }));
            for (object, [left, top, right, bottom]) in objects {
                id += 1;
                let (width, height) = (right - left, bottom - top);
                annotations.push(json!({
                    "id": id,
                    "image_id": image,
                    "category_id": 1 + 2 * object.class,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": u8::from(object.is_difficult),
                    "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                }));
            }
        }
        let list = json!({ "info": {}, "images": images, "annotations": annotations, "categories": categories });
        let path = folder.join(format!("annotations/instances_{part}.json"));
        write(&path, &serde_json::to_vec(&list)?)?;
    }
    Ok(())
}

fn camvid(folder: &Path, plan: Plan) -> Result<()> {
    let mut scenes = plan.draw(Kind::SEGMENTATION)?.into_iter();
    let Plan { size, train, test, .. } = plan;
    for (part, count) in [("train", train), ("test", test)] {
        for (nth, scene) in scenes.by_ref().take(count).enumerate() {
            // Three quarters as high as wide, as the published images are.
            let (width, height) = (size, (size * 3 / 4).max(1));
            let pixels = scene.pixels[..3 * width * height].to_vec();
            let mut classes = scene.labels[..width * height].to_vec();
            // What lies at the upper edge is no class.
            classes[..width].fill(11);
            let name = format!("{part}_{nth:05}.png");
            let photo = Photo { width, height, pixels };
            write(&folder.join(part).join(&name), &png_of(&photo)?)?;
            let mask = png(&classes, width, height, png::ColorType::Grayscale)?;
            write(&folder.join(format!("{part}annot")).join(&name), &mask)?;
        }
    }
    Ok(())
}

/// Returns the class of a scene with one shape: that of the shape, from 0.
fn class_of(scene: &Scene) -> usize {
    scene.objects.first().map_or(0, |object| object.class as usize)
}

/// Returns a JPEG file of one of the kinds that occur among ImageNet's.
fn odd_jpeg(photo: &Photo, nth: usize) -> Result<Vec<u8>> {
    let pixels = photo.pixels.as_chunks().0.iter();
    match nth % 16 {
        5 => {
            let grey = pixels.map(|&[red, green, blue]: &[u8; 3]| {
                ((2 * u32::from(red) + 5 * u32::from(green) + u32::from(blue)) / 8) as u8
            });
            jpeg(&grey.collect::<Vec<_>>(), photo, ColorType::Luma, false)
        }
        kind @ (9 | 13) => {
            let inks = pixels.flat_map(|&[red, green, blue]: &[u8; 3]| {
                // Black is what all three inks share, and they are the rest of what is left.
                let most = red.max(green).max(blue).max(1);
                let ink = |value: u8| (255 - u32::from(value) * 255 / u32::from(most)) as u8;
                [ink(red), ink(green), ink(blue), 255 - most]
            });
            let kind = if kind == 9 { ColorType::Cmyk } else { ColorType::CmykAsYcck };
            jpeg(&inks.collect::<Vec<_>>(), photo, kind, false)
        }
        1 => jpeg(&photo.pixels, photo, ColorType::Rgb, true),
        _ => jpeg_of(photo),
    }
}

fn jpeg_of(photo: &Photo) -> Result<Vec<u8>> {
    jpeg(&photo.pixels, photo, ColorType::Rgb, false)
}

/// Returns values as a JPEG file of a photograph's size.
fn jpeg(values: &[u8], photo: &Photo, kind: ColorType, is_progressive: bool) -> Result<Vec<u8>> {
    let [width, height] = [photo.width, photo.height].map(u16::try_from);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.set_progressive(is_progressive);
    encoder.encode(values, width?, height?, kind).map_err(|error| anyhow!("{error}"))?;
    Ok(bytes)
}

fn png_of(photo: &Photo) -> Result<Vec<u8>> {
    png(&photo.pixels, photo.width, photo.height, png::ColorType::Rgb)
}

/// Returns values of 8 bits as a PNG file.
pub(crate) fn png(
    values: &[u8],
    width: usize,
    height: usize,
    kind: png::ColorType,
) -> Result<Vec<u8>> {
    let [width, height] = [width, height].map(u32::try_from);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width?, height?);
    encoder.set_color(kind);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(values)?;
    writer.finish()?;
    Ok(bytes)
}

/// Writes a file, and makes the folders that it lies in.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, bytes)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}
