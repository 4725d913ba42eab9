//! A run on disk: everything that its next steps depend on.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{linear::Parameters, trainer::Settings};

const MAGIC: &[u8; 8] = b"adatrain";
const VERSION: u32 = 1;

/// A run between two steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The settings, as text: a checkpoint goes on only as what it was.
    settings: String,
    /// Steps done.
    pub step: u64,
    /// Of every layer.
    pub parameters: Vec<Parameters>,
    /// The scaler's own block.
    pub scaler: Vec<u8>,
}

impl Checkpoint {
    /// Collects a checkpoint.
    pub fn new(
        settings: &Settings,
        step: u64,
        parameters: Vec<Parameters>,
        scaler: Vec<u8>,
    ) -> Self {
        Self { settings: describe(settings), step, parameters, scaler }
    }

    /// Writes the checkpoint: the file is either the old one or the whole new one.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(postcard::to_stdvec(self)?);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        write_whole(path, &bytes)
    }

    /// Reads a checkpoint of a run with these settings.
    pub fn read(path: &Path, settings: &Settings) -> Result<Self> {
        let name = path.display();
        let bytes = fs::read(path).with_context(|| format!("{name} cannot be read"))?;
        Self::parse(&bytes, settings).with_context(|| format!("{name} cannot be resumed from"))
    }

    fn parse(bytes: &[u8], settings: &Settings) -> Result<Self> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            bail!("it is no checkpoint of a training run");
        };
        let (version, _) = rest.split_first_chunk().context("it ends within its header")?;
        let version = u32::from_le_bytes(*version);
        ensure!(version == VERSION, "it is of version {version}, and only {VERSION} can be read");
        let (body, checksum) = bytes.split_last_chunk().context("it ends within its header")?;
        ensure!(
            crc32fast::hash(body) == u32::from_le_bytes(*checksum),
            "it is truncated or damaged: its checksum does not match"
        );
        let body = &body[(MAGIC.len() + 4).min(body.len())..];
        let checkpoint: Self = postcard::from_bytes(body).context("its contents are malformed")?;
        let wanted = describe(settings);
        ensure!(
            checkpoint.settings == wanted,
            "it belongs to another run:\n  saved:  {}\n  wanted: {wanted}",
            checkpoint.settings
        );
        Ok(checkpoint)
    }
}

fn describe(settings: &Settings) -> String {
    format!("{settings:?}")
}

/// Writes a file as a whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}
