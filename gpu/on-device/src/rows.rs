//! What a part of the program finds, row by row, in a file that outlives it.
//!
//! A part writes a line when it begins a row and one when it has it, so that whoever watches it knows what it was at when it
//! hung or crashed, and can begin it again behind that row.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    time::Instant,
};

use anyhow::Context;
use serde_json::{Value, json};

/// A line of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Line {
    /// A row was begun.
    Begin(String),
    /// A row is there: an object with its name, its seconds and what was found, or the error.
    Row(Value),
}

impl Line {
    /// Reads a line; what is none, as a line that was cut off, is nothing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        match value.get("begin") {
            Some(name) => Some(Self::Begin(name.as_str()?.into())),
            None => value.get("row").is_some().then_some(Self::Row(value)),
        }
    }
}

/// The rows of a part, for the part.
#[derive(Debug)]
pub(crate) struct Rows {
    file: File,
    /// Rows that are left out: an earlier process was begun with them.
    skip: usize,
}

impl Rows {
    /// Opens the file, to leave out so many rows.
    pub(crate) fn open(path: &Path, skip: usize) -> anyhow::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        Ok(Self { file: file.with_context(|| format!("cannot write {}", path.display()))?, skip })
    }

    /// Does what a row is about, and writes it down; an error is written down, too.
    ///
    /// # Errors
    ///
    /// That of the work: a device that has failed once fails again, so that the next row is for another process.
    pub(crate) fn row(
        &mut self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<Value>,
    ) -> anyhow::Result<()> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        self.write(&json!({ "begin": name }))?;
        let began = Instant::now();
        let found = work();
        let seconds = began.elapsed().as_secs_f64();
        let mut row = json!({ "row": name, "seconds": seconds });
        match &found {
            Ok(Value::Object(found)) => {
                found.iter().for_each(|(key, value)| row[key] = value.clone());
            }
            Ok(Value::Null) => {}
            Ok(value) => row["value"] = value.clone(),
            Err(error) => row["error"] = format!("{error:#}").into(),
        }
        self.write(&row)?;
        found.map(drop)
    }

    fn write(&mut self, value: &Value) -> anyhow::Result<()> {
        // One call for a line, which is then there at once.
        self.file.write_all(format!("{value}\n").as_bytes()).context("cannot write a row")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn rows_are_written_and_left_out() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("rows");
        let mut rows = Rows::open(&path, 1)?;
        rows.row("first", || anyhow::bail!("it is left out"))?;
        rows.row("second", || Ok(json!({ "ms": 2.5 })))?;
        rows.row("third", || anyhow::bail!("the device failed")).expect_err("it failed");
        let text = fs::read_to_string(&path)?;
        let lines: Vec<_> = text.lines().map(|line| Line::parse(line).expect("a line")).collect();
        assert_eq!(lines[0], Line::Begin("second".into()));
        let Line::Row(row) = &lines[1] else { panic!("a row") };
        assert_eq!((&row["row"], &row["ms"]), (&json!("second"), &json!(2.5)));
        let Line::Row(row) = &lines[3] else { panic!("a row") };
        assert_eq!(row["error"], "the device failed");
        assert_eq!(Line::parse(&text.lines().last().expect("a line")[..10]), None);
        Ok(())
    }
}
