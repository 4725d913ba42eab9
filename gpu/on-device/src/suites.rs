//! Conformance, a row for each part of the suite, and random steps of scalers for as long as there is time.

use adaloss_conformance::{Failure, Report};
use adaloss_gpu::Cuda;
use adaloss_on_device::{
    conformance::{self, SUITES},
    steps::VISITS,
};
use serde_json::{Value, json};

use crate::rows::Rows;

/// Writes what agreed, or the first difference: no error, since the device goes on.
fn row(result: Result<Report, Failure>) -> Value {
    match result {
        Ok(Report { operations, refusals, elements, .. }) => {
            json!({ "operations": operations, "refusals": refusals, "elements": elements })
        }
        Err(failure) => json!({ "difference": failure.to_string() }),
    }
}

/// Writes how many visits agreed, or the first difference.
fn visited(result: Result<u64, String>) -> Value {
    match result {
        Ok(visits) => json!({ "visits": visits }),
        Err(difference) => json!({ "difference": difference }),
    }
}

/// Runs the suite, and steps of so many visits.
pub(crate) fn run(
    rows: &mut Rows,
    device: &mut Cuda,
    visits: u32,
    is_trial: bool,
) -> anyhow::Result<()> {
    for (name, suite) in SUITES.into_iter().filter(|&(name, _)| !is_trial || name == "memory") {
        rows.row(name, || Ok(row(suite(device))))?;
    }
    rows.row("steps", || Ok(visited(conformance::steps(device, visits.div_ceil(VISITS), 0))))
}

/// Takes steps of so many visits, in rows of a few thousand.
pub(crate) fn layers(
    rows: &mut Rows,
    device: &mut Cuda,
    visits: u32,
    per_row: u32,
) -> anyhow::Result<()> {
    let steps = per_row.div_ceil(VISITS);
    for (nth, begin) in (0..visits).step_by(per_row.max(1) as usize).enumerate() {
        let name = format!("visits {begin} to {}", visits.min(begin + per_row));
        rows.row(&name, || Ok(visited(conformance::steps(device, steps, nth as u32 + 1))))?;
    }
    Ok(())
}
