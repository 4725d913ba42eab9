//! Runs that were done before: each is a file of its own, written when the run ends.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use adaloss_train::{
    console,
    data::{DataArgs, Dataset},
    file::{check_folder, write_whole},
    results::RunReport,
    task::Task,
    trainer::{Measurements, Settings},
};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// The folder of stored runs, within that of the report.
const FOLDER: &str = "runs";

/// Where runs are stored.
pub(crate) struct Store {
    folder: PathBuf,
    /// What a run depends on beside its own settings: this very program, and the user's files.
    program: String,
}

/// A run, with all that it depends on.
#[derive(Serialize, Deserialize)]
struct Stored {
    of: String,
    run: RunReport,
}

impl Store {
    /// Opens the store beside a report; there is none where the program cannot read itself, which is said.
    ///
    /// # Errors
    ///
    /// The runs could not be written.
    pub(crate) fn beside(report: &Path, data: &DataArgs) -> Result<Option<Self>> {
        let folder = report.join(FOLDER);
        if report.is_dir() {
            check_folder(&folder, &[])?;
        }
        let program = match env::current_exe().and_then(fs::read) {
            Ok(program) => crc32fast::hash(&program),
            Err(error) => {
                console::note(format_args!(
                    "runs are not kept for another time: this program cannot be read: {error}"
                ));
                return Ok(None);
            }
        };
        let program = format!("{program:08x} {data:?} {:?}", changed(data));
        Ok(Some(Self { folder, program }))
    }

    /// Returns all that a run depends on: with the same, the same bits.
    pub(crate) fn key(
        &self,
        task: &Task,
        dataset: &dyn Dataset,
        settings: Settings,
        measurements: Measurements,
    ) -> String {
        format!("{} {task:?} {} {settings:?} {measurements:?}", self.program, dataset.describe())
    }

    /// Returns a run that was stored; a file that is damaged, or of another run, is none.
    pub(crate) fn get(&self, key: &str) -> Option<RunReport> {
        let bytes = fs::read(self.path(key)).ok()?;
        let stored: Stored = serde_json::from_slice(&bytes).ok()?;
        (stored.of == key).then_some(stored.run)
    }

    /// Stores a run; where it cannot be, that is said and the run is not lost for this time.
    pub(crate) fn put(&self, key: &str, run: &RunReport) {
        let stored = Stored { of: key.into(), run: run.clone() };
        let store = || {
            fs::create_dir_all(&self.folder)?;
            write_whole(&self.path(key), &serde_json::to_vec(&stored)?)
        };
        if let Err(error) = store() {
            console::note(format_args!("a run is not kept for another time: {error:#}"));
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{:08x}.json", crc32fast::hash(key.as_bytes())))
    }
}

/// Returns size and time of the user's files, by which another version of one is told.
fn changed(data: &DataArgs) -> Vec<(u64, u64)> {
    let files = [&data.images, &data.labels, &data.cifar, &data.data, &data.text];
    let files = files.into_iter().flatten().flat_map(|path| {
        let within = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut all: Vec<_> = within.chain([path.clone()]).collect();
        all.sort_unstable();
        all
    });
    let stamp = |path: PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        let age = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some((metadata.len(), age.as_nanos() as u64))
    };
    files.filter_map(stamp).collect()
}
