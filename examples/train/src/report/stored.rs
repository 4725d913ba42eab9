//! `results.json`, written and read back.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::error::Category;

use crate::results::Results;

/// What every version has.
#[derive(Deserialize)]
struct Header {
    version: u32,
}

/// Reads a `results.json`.
///
/// # Errors
///
/// The file cannot be read, is truncated, is something else or of another version; the error says
/// which.
pub fn read(path: &Path) -> Result<Results> {
    let name = path.display();
    let bytes = fs::read(path).with_context(|| format!("{name} cannot be read"))?;
    parse(&bytes).with_context(|| format!("{name} cannot be reported"))
}

pub(super) fn parse(bytes: &[u8]) -> Result<Results> {
    let header: Header = serde_json::from_slice(bytes).map_err(|error| {
        let what = match error.classify() {
            Category::Eof => "it is empty or truncated",
            Category::Syntax => "it is no JSON of a comparison",
            Category::Data | Category::Io => "it holds no results of a comparison",
        };
        anyhow!(error).context(what)
    })?;
    let version = header.version;
    let (oldest, newest) = (Results::OLDEST, Results::VERSION);
    ensure!(
        (oldest..=newest).contains(&version),
        "it is of version {version}, and only {oldest} to {newest} can be read"
    );
    serde_json::from_slice(bytes).context("its contents are malformed")
}

pub(super) fn to_json(results: &Results) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(results).context("the results cannot be written")?;
    json.push(b'\n');
    Ok(json)
}
