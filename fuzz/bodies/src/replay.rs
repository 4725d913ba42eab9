//! A target as an ordinary test.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
};

use adaloss_oracle::inputs::SplitMix64;

use crate::corpus;

/// The most bytes of a generated input.
const LONGEST: usize = 700;

/// Runs a target with every input of the pack `corpus/name.tar` and every file of `crashes/name` below
/// a folder, then with `generated` inputs that are the same each time: random bytes, and known
/// inputs with some bytes changed.
///
/// # Panics
///
/// The target found something: then the input is named, and one that is not kept yet becomes a file
/// in `artifacts/name`.  Or there is no corpus, or a damaged one.
pub fn replay(folder: &Path, name: &str, target: impl Fn(&[u8]), generated: u64) {
    let pack = folder.join("corpus").join(name).with_extension("tar");
    let mut inputs = Vec::new();
    for input in corpus::read(&pack).unwrap_or_else(|error| panic!("{error:#}")) {
        run(&target, &input.bytes, || format!("{} of {}", input.name, pack.display()));
        inputs.push(input.bytes);
    }
    for path in files(&folder.join("crashes").join(name)) {
        let bytes = fs::read(&path).expect("a readable file");
        run(&target, &bytes, || path.display().to_string());
        inputs.push(bytes);
    }
    let mut generator = SplitMix64(0xf00d);
    for nth in 0..generated {
        let bytes = match nth % 2 {
            0 => random(&mut generator),
            _ => changed(&inputs[generator.below(inputs.len())], &mut generator),
        };
        run(&target, &bytes, || {
            let artifacts = folder.join("artifacts").join(name);
            let path = artifacts.join(format!("generated-{nth}"));
            let kept = fs::create_dir_all(&artifacts).and_then(|()| fs::write(&path, &bytes));
            format!("{} ({kept:?})", path.display())
        });
    }
}

/// Runs a target with random bytes that are the same each time.
///
/// # Panics
///
/// The target found something: then the input is printed.
pub fn generated(target: impl Fn(&[u8]), inputs: u64) {
    let mut generator = SplitMix64(0xf00d);
    for nth in 0..inputs {
        let bytes = random(&mut generator);
        run(&target, &bytes, || format!("input {nth}: {bytes:?}"));
    }
}

/// Runs a target with files, such as those that a fuzzer has found, and says what became of each.
///
/// Without a file it says what it wants.
///
/// # Panics
///
/// The target found something, after the file was named.
pub fn reproduce(
    target: impl Fn(&[u8]),
    files: impl IntoIterator<Item = impl AsRef<Path>>,
) -> ExitCode {
    let mut files = files.into_iter().peekable();
    if files.peek().is_none() {
        eprintln!("name the files to run the target with, such as fuzz/artifacts/apply/*");
        return ExitCode::from(2);
    }
    for path in files {
        let path = path.as_ref();
        match fs::read(path) {
            Ok(bytes) => run(&target, &bytes, || path.display().to_string()),
            Err(error) => {
                eprintln!("{} cannot be read: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
        println!("{}: nothing is found", path.display());
    }
    ExitCode::SUCCESS
}

/// Returns the files of a folder, sorted; none where there is no folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
}

/// Runs a target, and says what it was given if it finds something.
fn run(target: impl Fn(&[u8]), bytes: &[u8], name: impl FnOnce() -> String) {
    if let Err(found) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        eprintln!("found with {}", name());
        resume_unwind(found);
    }
}

fn random(generator: &mut SplitMix64) -> Vec<u8> {
    (0..generator.below(LONGEST)).map(|_| generator.word() as u8).collect()
}

/// Changes a few bytes.
fn changed(bytes: &[u8], generator: &mut SplitMix64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=generator.below(6) {
        let place = generator.below(bytes.len() + 1);
        match bytes.get_mut(place) {
            Some(byte) => *byte = generator.word() as u8,
            None => bytes.push(generator.word() as u8),
        }
    }
    bytes
}
