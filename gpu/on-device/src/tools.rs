//! NVIDIA's own tools: what they say, read from what they print.

use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

/// Lines of a log that are kept where there is something in it.
const LINES: usize = 60;

/// Returns what compute-sanitizer found, from the logs of a part's processes: a difference, unless each says that it
/// found nothing.
pub(crate) fn sanitized(logs: impl Iterator<Item = String>) -> Value {
    let mut row = json!({ "row": "summary" });
    let mut summaries = Vec::new();
    for log in logs {
        let found = summary(&log).unwrap_or("no summary: it was killed");
        if !found.starts_with("0 ") {
            let lines: Vec<_> = log.lines().take(LINES).collect();
            row["difference"] = format!("{found}\n{}", lines.join("\n")).into();
        }
        summaries.push(found.to_owned());
    }
    row["found"] = summaries.into();
    row
}

/// Returns what compute-sanitizer counted, from the end of its log: racecheck has a summary of another name.
fn summary(log: &str) -> Option<&str> {
    let of = |line: &str| line.contains("RACECHECK SUMMARY: ") || line.contains("ERROR SUMMARY: ");
    let line = log.lines().rev().find(|line| of(line))?;
    line.split_once("SUMMARY: ").map(|(_, found)| found.trim())
}

/// Returns the kernels that ncu measured, from its raw page as comma-separated values: an object each, whose values are
/// numbers with their units behind the names.
///
/// In front of the table it prints what it does, and lines of the program; the second row of the table has the units.
pub(crate) fn profiled(log: &Path) -> anyhow::Result<Vec<Value>> {
    let text =
        std::fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    let table = text.find("\"ID\"").context("ncu has printed no table")?;
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).from_reader(&text.as_bytes()[table..]);
    let names = reader.headers().context("the table of ncu")?.clone();
    let mut records = reader.records();
    let units =
        records.next().context("the table of ncu has no units")?.context("the table of ncu")?;
    let row = |record: csv::Result<csv::StringRecord>| {
        let record = record.context("the table of ncu")?;
        let mut row = Map::new();
        for ((name, unit), value) in names.iter().zip(&units).zip(&record) {
            let name = if unit.is_empty() { name.to_owned() } else { format!("{name} [{unit}]") };
            let number = value.replace(',', "").parse::<f64>().ok();
            let value = number.map_or_else(|| Value::from(value), Value::from);
            if value != "" {
                row.insert(name, value);
            }
        }
        Ok(Value::Object(row))
    };
    records.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_found_behind_the_errors() {
        let log = "========= COMPUTE-SANITIZER\n========= Invalid read\n========= ERROR SUMMARY: 1 error\n";
        assert_eq!(summary(log), Some("1 error"));
        let races = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)";
        assert_eq!(summary(races), Some("0 hazards displayed (0 errors, 0 warnings)"));
        let row = sanitized([log.into(), "= ERROR SUMMARY: 0 errors".into()].into_iter());
        assert_eq!(row["found"], json!(["1 error", "0 errors"]));
        assert!(row["difference"].as_str().is_some_and(|what| what.contains("Invalid read")));
        assert!(
            sanitized(["= ERROR SUMMARY: 0 errors".into()].into_iter())["difference"].is_null()
        );
        assert!(sanitized(["Device not supported".into()].into_iter())["difference"].is_string());
    }

    #[test]
    fn a_table_of_ncu_is_read() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        std::fs::write(
            &log,
            "==PROF== Connected to process 7\nprofile: row\n\
             \"ID\",\"Kernel Name\",\"dram__bytes_read.sum\",\"sm__warps_active\"\n\
             \"\",\"\",\"Mbyte\",\"%\"\n\
             \"0\",\"adaloss_apply_f16\",\"1,073.74\",\"\"\n",
        )?;
        let kernels = profiled(&log)?;
        assert_eq!(kernels.len(), 1);
        assert_eq!(kernels[0]["Kernel Name"], "adaloss_apply_f16");
        assert_eq!(kernels[0]["dram__bytes_read.sum [Mbyte]"], 1073.74);
        assert!(kernels[0].get("sm__warps_active [%]").is_none());
        std::fs::write(&log, "==ERROR== The user does not have permission")?;
        profiled(&log).expect_err("there is no table");
        Ok(())
    }
}
