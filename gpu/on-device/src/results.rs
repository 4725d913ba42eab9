//! All that was found, in one file that is whole at any time.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context;
use serde_json::{Value, json};

/// What the name of a part begins with that tries whether the tool of another one works.
pub(crate) const PROBE_OF: &str = "probe of ";

/// Why a part was not run that should have been.
pub(crate) const INTERRUPTED: &str = "interrupted";
pub(crate) const NO_TIME: &str = "no time is left";

/// The results, which are written after each row.
#[derive(Debug)]
pub(crate) struct Results {
    path: PathBuf,
    value: Value,
}

impl Results {
    /// Begins results, and tries whether they can be written.
    pub(crate) fn begin(path: &Path, elements: usize) -> anyhow::Result<Self> {
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        let value = json!({
            "date": now.to_string(),
            "commit": env!("ADALOSS_COMMIT"),
            "changed": env!("ADALOSS_CHANGED") == "true",
            "device": null,
            "driver": null,
            "elements": elements,
            "parts": [],
        });
        let results = Self { path: path.into(), value };
        results.save()?;
        Ok(results)
    }

    /// Names what was measured.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.value[name] = value;
    }

    /// Returns a part, or NULL where it has not begun.
    pub(crate) fn part(&self, part: &str) -> &Value {
        self.parts().find(|of| of["part"] == part).unwrap_or(&Value::Null)
    }

    /// Returns the parts in the order in which they began.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Value> {
        self.value["parts"].as_array().into_iter().flatten()
    }

    /// Returns the rows of a part that have been found so far.
    pub(crate) fn rows(&self, part: &str) -> impl Iterator<Item = &Value> {
        self.part(part)["rows"].as_array().into_iter().flatten()
    }

    /// Returns what a part found under the name of a row.
    pub(crate) fn row(&self, part: &str, row: &str) -> Option<&Value> {
        self.rows(part).find(|of| of["row"] == row)
    }

    /// Begins a part.
    pub(crate) fn open(&mut self, part: &str) -> anyhow::Result<()> {
        if let Some(parts) = self.value["parts"].as_array_mut() {
            parts.push(json!({ "part": part, "status": "running", "rows": [] }));
        }
        self.save()
    }

    /// Adds a row to a part.
    pub(crate) fn add(&mut self, part: &str, row: Value) -> anyhow::Result<()> {
        if let Some(rows) = self.part_mut(part).and_then(|part| part["rows"].as_array_mut()) {
            rows.push(row);
        }
        self.save()
    }

    /// Ends a part.
    pub(crate) fn close(&mut self, part: &str, status: &str, seconds: f64) -> anyhow::Result<()> {
        if let Some(part) = self.part_mut(part) {
            part["status"] = status.into();
            part["seconds"] = seconds.into();
        }
        self.save()
    }

    fn part_mut(&mut self, part: &str) -> Option<&mut Value> {
        self.value["parts"].as_array_mut()?.iter_mut().find(|of| of["part"] == part)
    }

    /// Replaces the file as a whole, so that it is one at any time.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let say = || format!("cannot write {}", self.path.display());
        if self.path.is_dir() {
            anyhow::bail!("{}: it is a folder", say());
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file =
            tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).with_context(say)?;
        writeln!(file, "{:#}", self.value).with_context(say)?;
        file.persist(&self.path).with_context(say)?;
        // Temporary files are their owner's alone; results are for everybody.
        #[cfg(unix)]
        fs::set_permissions(&self.path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .with_context(say)?;
        Ok(())
    }

    /// Returns what is wrong, in all parts but those that only try whether a tool works.
    pub(crate) fn faults(&self) -> Vec<String> {
        let is_probe =
            |of: &&Value| of["part"].as_str().is_some_and(|part| part.starts_with(PROBE_OF));
        self.parts().filter(|of| !is_probe(of)).flat_map(faults).collect()
    }
}

/// Returns what is wrong in a part: rows that failed or differ, and what it came to.
fn faults(of: &Value) -> Vec<String> {
    let part = of["part"].as_str().unwrap_or_default();
    let mut faults = Vec::new();
    for row in of["rows"].as_array().into_iter().flatten() {
        let name = row["row"].as_str().unwrap_or_default();
        if let Some((kind, what)) = fault(row) {
            faults.push(format!("{part}, {name}: {kind}: {what}"));
        }
    }
    let status = of["status"].as_str().unwrap_or_default();
    // What a machine does not have is no fault.
    let is_left_out =
        status.strip_prefix("not run: ").is_some_and(|why| ![INTERRUPTED, NO_TIME].contains(&why));
    if status != "done" && !is_left_out {
        faults.push(format!("{part}: {status}"));
    }
    faults
}

/// Returns what is wrong with a row: it met an error, its process did not survive it, or the device differs.
pub(crate) fn fault(row: &Value) -> Option<(&'static str, &str)> {
    ["error", "failed", "difference"].into_iter().find_map(|kind| Some((kind, row[kind].as_str()?)))
}
