//! Data sets: IDX, CIFAR and text.

use std::path::Path;

use adaloss_datasets::{
    Dataset, cifar::Cifar, digits::Digits, digits::Options, text::Text, view::View,
};
use adaloss_fuzz::damage::damage;
use adaloss_oracle::inputs::SplitMix64;
use arbitrary::{Result, Unstructured};

use crate::Folder;

/// Checks that files become data sets whose every sample is in order, or errors that name a file.
pub fn datasets(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let mut u = Unstructured::new(rest);
    // Bytes that are too few are no finding.
    let _ = match first % 4 {
        0 => idx(&mut u),
        1 => cifar(&mut u),
        2 => raw_text(rest),
        _ => raw_idx(&mut u),
    };
}

/// Takes what opening files gave.
fn opened<D: Dataset>(result: std::result::Result<D, impl std::fmt::Display>, folder: &Path) {
    match result {
        Ok(dataset) => look(&dataset),
        Err(error) => {
            let text = format!("{error:#}");
            assert!(text.contains(&*folder.to_string_lossy()), "which file? {text}");
        }
    }
}

/// Looks at the first and the last samples.
fn look(dataset: &dyn Dataset) {
    assert!(!dataset.describe().is_empty() && dataset.classes() >= 2);
    let (train, test) = (dataset.train_samples(), dataset.test_samples());
    assert!(train > 0 && test > 0);
    let seen = dataset.train(&[0, train - 1], View { seed: 1, epoch: 0 });
    let seen = seen.expect("these data sets are in memory");
    seen.check(dataset).expect("training samples in order");
    for range in [0..1, test - 1..test] {
        let seen = dataset.test(range).expect("these data sets are in memory");
        seen.check(dataset).expect("test samples in order");
    }
}

/// Well-formed IDX files, damaged.
fn idx(u: &mut Unstructured<'_>) -> Result<()> {
    let (count, rows, columns) =
        (u.int_in_range(0..=12_u32)?, u.int_in_range(0..=5_u32)?, u.int_in_range(0..=5_u32)?);
    let mut generator = SplitMix64(u.arbitrary()?);
    let mut images = vec![0, 0, 8, 3];
    [count, rows, columns].iter().for_each(|size| images.extend(size.to_be_bytes()));
    images.extend((0..count * rows * columns).map(|_| generator.word() as u8));
    let mut labels = vec![0, 0, 8, 1];
    labels.extend(count.to_be_bytes());
    let classes = u.int_in_range(1..=11)?;
    labels.extend((0..count).map(|_| generator.below(classes) as u8));
    if u.arbitrary()? {
        (images, labels) = (damage(u, &images)?, damage(u, &labels)?);
    }
    digits(u, &images, &labels)
}

/// Any bytes as IDX files.
fn raw_idx(u: &mut Unstructured<'_>) -> Result<()> {
    let images: Vec<u8> = u.arbitrary()?;
    let labels: Vec<u8> = u.arbitrary()?;
    digits(u, &images, &labels)
}

fn digits(u: &mut Unstructured<'_>, images: &[u8], labels: &[u8]) -> Result<()> {
    let folder = Folder::new();
    let (images, labels) = (folder.write("images", images), folder.write("labels", labels));
    let mut some = |value: f32| Ok(if u.ratio(1, 3)? { Some(value) } else { None });
    let (shift, warp) = (some(0.5)?, some(0.1)?);
    let train = if u.ratio(1, 3)? { Some(u.int_in_range(0..=13)?) } else { None };
    opened(Digits::open(&images, &labels, Options { train, shift, warp }), folder.0.path());
    Ok(())
}

/// The files of CIFAR-10 or CIFAR-100 with a few images, some of them damaged or missing.
fn cifar(u: &mut Unstructured<'_>) -> Result<()> {
    const TEN: [&str; 6] = [
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "test_batch.bin",
    ];
    const HUNDRED: [&str; 2] = ["train.bin", "test.bin"];
    let is_ten = u.arbitrary()?;
    let (names, labels): (&[&str], &[usize]) =
        if is_ten { (&TEN, &[10]) } else { (&HUNDRED, &[20, 100]) };
    let images = u.int_in_range(0..=2)?;
    let mut generator = SplitMix64(u.arbitrary()?);
    let folder = Folder::new();
    for name in names {
        let times = if !is_ten && *name == "train.bin" { 5 } else { 1 };
        let mut bytes = Vec::new();
        for _ in 0..images * times {
            bytes.extend(labels.iter().map(|&count| generator.below(count) as u8));
            bytes.extend((0..3 * 1024).map(|_| generator.word() as u8));
        }
        if u.ratio(1, 6)? {
            bytes = damage(u, &bytes)?;
        }
        if !u.ratio(1, 20)? {
            folder.write(name, &bytes);
        }
    }
    opened(Cifar::open(folder.0.path()), folder.0.path());
    Ok(())
}

/// Any bytes as a text.
fn raw_text(bytes: &[u8]) -> Result<()> {
    let Some((&length, text)) = bytes.split_first() else { return Ok(()) };
    let folder = Folder::new();
    let path = folder.write("text", text);
    opened(Text::open(&path, usize::from(length) % 9), folder.0.path());
    Ok(())
}
