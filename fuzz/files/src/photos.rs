//! Photographs, annotations, and folders of published data sets in which files are damaged.

use std::{fs, path::Path, sync::LazyLock};

use adaloss_datasets::{
    Dataset, Object, OnBroken, Source, View, Wanted,
    generate::{Format, generate},
    photo::{Mask, Photo},
    scenes::Plan,
    source::Seen,
    voc,
};
use adaloss_fuzz::damage::damage;
use arbitrary::{Result, Unstructured};

use crate::Folder;

/// A small data set in a format: what is to be learnt, and its files.
struct Whole {
    wanted: Wanted,
    /// Paths below the folder, with forward slashes, and contents.
    files: Vec<(String, Vec<u8>)>,
}

/// One of each format.
static WHOLE: LazyLock<Vec<Whole>> = LazyLock::new(|| {
    let all = [
        (Format::Imagenet, Wanted::Images, 24),
        (Format::Voc, Wanted::Objects, 4),
        (Format::Coco, Wanted::Objects, 3),
        (Format::Camvid, Wanted::Scenes, 3),
    ];
    let whole = |(format, wanted, train)| {
        let folder = Folder::new();
        let plan = Plan { size: 16, train, test: 2, seed: 0 };
        generate(format, folder.0.path(), plan).expect("room for a few images");
        let mut files = Vec::new();
        collect(folder.0.path(), "", &mut files);
        Whole { wanted, files }
    };
    all.into_iter().map(whole).collect()
});

/// Reads all files below a folder, in the order of their paths.
fn collect(folder: &Path, below: &str, files: &mut Vec<(String, Vec<u8>)>) {
    let entries = fs::read_dir(folder.join(below)).expect("a folder that was just made");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .collect();
    names.sort();
    for name in names {
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        match folder.join(&path).is_dir() {
            true => collect(folder, &path, files),
            false => {
                let bytes = fs::read(folder.join(&path)).expect("a file that was just written");
                files.push((path, bytes));
            }
        }
    }
}

/// Checks that bytes become images and annotations that are what they claim to be, or errors, and that a folder with damaged files
/// is read or refused by the name of one.
pub fn photos(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let mut u = Unstructured::new(rest);
    // Bytes that are too few are no finding.
    let _ = match first % 4 {
        0 => image(rest),
        1 => annotation(rest),
        2 => damaged_file(&mut u),
        _ => damaged_folder(&mut u),
    };
}

/// Any bytes as an image.
fn image(bytes: &[u8]) -> Result<()> {
    if let Ok(photo) = Photo::decode(bytes) {
        assert!(photo.width > 0 && photo.height > 0);
        assert_eq!(photo.pixels.len(), 3 * photo.width * photo.height);
        assert_eq!(Photo::decode(bytes).expect("it was read before"), photo);
        let seen = photo.resized(photo.whole(), 7, 5);
        assert_eq!(seen.pixels.len(), 3 * 7 * 5);
    }
    if let Ok(mask) = Mask::decode(bytes) {
        assert_eq!(mask.classes.len(), mask.width * mask.height);
    }
    Ok(())
}

/// Any text as an annotation.
fn annotation(bytes: &[u8]) -> Result<()> {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok((_, objects)) = voc::annotation(text)
    {
        let check = |object: &Object| object.check(20).expect("a box within the image");
        objects.iter().for_each(check);
    }
    Ok(())
}

/// One file of a data set, damaged.
fn damaged_file(u: &mut Unstructured<'_>) -> Result<()> {
    let whole = u.choose(&WHOLE)?;
    let (_, bytes) = u.choose(&whole.files)?;
    let bytes = damage(u, bytes)?;
    image(&bytes)?;
    annotation(&bytes)
}

/// A data set with a few files that are damaged or gone.
fn damaged_folder(u: &mut Unstructured<'_>) -> Result<()> {
    let whole = u.choose(&WHOLE)?;
    let mut files = whole.files.clone();
    for _ in 0..u.int_in_range(0..=3)? {
        let place = u.choose_index(files.len())?;
        if u.ratio(1, 8)? {
            files.remove(place);
        } else {
            files[place].1 = damage(u, &files[place].1)?;
        }
    }
    let folder = Folder::new();
    for (path, bytes) in &files {
        let path = folder.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("room for a folder");
        fs::write(path, bytes).expect("room for a file");
    }
    let on_broken = if u.arbitrary()? { OnBroken::Skip } else { OnBroken::Stop };
    let seen = Seen { size: Some(u.int_in_range(8..=20)?), on_broken };
    let path = folder.0.path().to_path_buf();
    let shown = path.to_string_lossy().into_owned();
    match (Source::Folder { folder: path, wanted: whole.wanted, seen }).open() {
        Ok(dataset) => look(&*dataset, &shown),
        Err(error) => assert_named(&error, &shown),
    }
    Ok(())
}

/// Looks at all samples: in order, or an error that names a file.
fn look(dataset: &dyn Dataset, folder: &str) {
    let all: Vec<usize> = (0..dataset.train_samples()).collect();
    let view = View { seed: 1, epoch: 0 };
    for batch in [dataset.train(&all, view), dataset.test(0..dataset.test_samples())] {
        match batch {
            Ok(batch) => batch.check(dataset).expect("samples in order"),
            Err(error) => assert_named(&error, folder),
        }
    }
    assert!(dataset.left_out().iter().all(|text| text.contains(folder)));
}

fn assert_named(error: &impl std::fmt::Display, folder: &str) {
    let text = format!("{error:#}");
    assert!(text.contains(folder), "which file? {text}");
}
