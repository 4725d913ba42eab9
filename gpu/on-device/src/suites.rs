//! Conformance, a row for each part of the suite, and random layers for as long as there is time.

use adaloss_conformance::{Failure, Report};
use adaloss_gpu::Cuda;
use adaloss_on_device::conformance::{self, SUITES};
use serde_json::{Value, json};

use crate::rows::Rows;

/// Layers in a step of the suite.
const LAYERS_PER_STEP: u32 = 16;

/// Writes what agreed, or the first difference: no error, since the device goes on.
fn row(result: Result<Report, Failure>) -> Value {
    match result {
        Ok(Report { operations, refusals, elements, .. }) => {
            json!({ "operations": operations, "refusals": refusals, "elements": elements })
        }
        Err(failure) => json!({ "difference": failure.to_string() }),
    }
}

/// Runs the suite, its last parts with so many layers together.
pub(crate) fn run(
    rows: &mut Rows,
    device: &mut Cuda,
    layers: u32,
    is_trial: bool,
) -> anyhow::Result<()> {
    let in_trial = |name: &str| ["memory", "decide", "layers binary16"].contains(&name);
    for (name, suite) in SUITES.into_iter().filter(|(name, _)| !is_trial || in_trial(name)) {
        rows.row(name, || Ok(row(suite(device, layers.div_ceil(2 * LAYERS_PER_STEP)))))?;
    }
    Ok(())
}

/// Runs so many layers, in rows of a few thousand.
pub(crate) fn layers(
    rows: &mut Rows,
    device: &mut Cuda,
    layers: u32,
    per_row: u32,
) -> anyhow::Result<()> {
    let steps = per_row.div_ceil(LAYERS_PER_STEP);
    for (nth, begin) in (0..layers).step_by(per_row.max(1) as usize).enumerate() {
        let name = format!("layers {begin} to {}", layers.min(begin + per_row));
        rows.row(&name, || Ok(row(conformance::layers(device, steps, nth as u32 + 3))))?;
    }
    Ok(())
}
