//! A run on disk: everything that its next steps depend on.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{file::write_whole, network::Saved, task::Task, trainer::Settings};

const MAGIC: &[u8; 8] = b"adatrain";
const VERSION: u32 = 5;

/// A run between two steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Task and settings, as text: a checkpoint goes on only as what it was.
    pub run: String,
    /// Steps done.
    pub step: u64,
    /// Steps that reached the weights.
    pub updates: u32,
    /// Of every layer.
    pub pieces: Vec<Saved>,
    /// The scaler's own block.
    pub scaler: Vec<u8>,
    /// The scales of sums over ranks, where they follow the steps before.
    pub sums: Vec<u8>,
}

impl Checkpoint {
    /// Returns what a checkpoint says of its run; `together` tells whether ranks normalise batches together.
    pub fn describe(task: &Task, settings: &Settings, together: bool) -> String {
        let together = if together { ", batches normalised together" } else { "" };
        format!("{task:?} {settings:?}{together}")
    }

    /// Writes the checkpoint: the file is either the old one or the whole new one.
    ///
    /// # Errors
    ///
    /// The file cannot be written; the old one is as it was.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(postcard::to_stdvec(self)?);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        write_whole(path, &bytes)
    }

    /// Reads a checkpoint of a run as [`describe`](Self::describe) describes it.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no checkpoint, is damaged, or is of another run.
    pub fn read(path: &Path, run: &str) -> Result<Self> {
        Self::of_bytes(&Self::read_bytes(path)?, path, run)
    }

    /// Reads the bytes of a checkpoint, for [`of_bytes`](Self::of_bytes).
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
        fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
    }

    /// As [`read`](Self::read), of bytes that were read from `path`.
    ///
    /// # Errors
    ///
    /// They are no checkpoint, are damaged, or are of another run.
    pub fn of_bytes(bytes: &[u8], path: &Path, run: &str) -> Result<Self> {
        let parsed = Self::parse(bytes, run);
        parsed.with_context(|| format!("{} cannot be resumed from", path.display()))
    }

    fn parse(bytes: &[u8], run: &str) -> Result<Self> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            bail!("it is no checkpoint of a training run: --resume takes a file that --save wrote");
        };
        let (version, _) = rest.split_first_chunk().context("it ends within its header")?;
        let version = u32::from_le_bytes(*version);
        ensure!(
            version == VERSION,
            "it is of version {version}, and only {VERSION} can be read: begin anew"
        );
        let (body, checksum) = bytes.split_last_chunk().context("it ends within its header")?;
        ensure!(
            crc32fast::hash(body) == u32::from_le_bytes(*checksum),
            "it is truncated or damaged: its checksum does not match; resume from another copy"
        );
        let body = &body[(MAGIC.len() + 4).min(body.len())..];
        let checkpoint: Self = postcard::from_bytes(body).context("its contents are malformed")?;
        ensure!(
            checkpoint.run == run,
            "it belongs to another run; resume with the settings of that one:\n  saved:  {}\n  wanted: {run}",
            checkpoint.run
        );
        Ok(checkpoint)
    }
}
