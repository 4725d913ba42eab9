//! Fuzz targets for the files that `adaloss-datasets` and `adaloss-train` read.
//!
//! Whatever the bytes: an error that names the file, or samples and checkpoints that are what they
//! claim to be; never a panic.

#![forbid(unsafe_code)]

mod checkpoint;
mod datasets;
mod photos;

pub use checkpoint::checkpoint;
pub use datasets::datasets;
pub use photos::photos;

use std::{
    fs,
    path::{Path, PathBuf},
};

use adaloss_fuzz::Target;
use tempfile::TempDir;

/// Every target of this crate with its name, which is that of its corpus.
pub const TARGETS: [(&str, Target); 3] =
    [("datasets", datasets), ("photos", photos), ("training_checkpoint", checkpoint)];

/// A folder for the files of one input.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        // Checkpoints are synced to the disk: in memory, where Linux has a folder there, that is free.
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self(folder.expect("a folder for temporary files"))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("room for a file");
        path
    }
}
