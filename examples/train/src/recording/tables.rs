//! The figures for a terminal and for programs.

use std::fmt::Write;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

use super::{Measure, Place};
use crate::file::csv_of;

/// What the columns mean.
const LEGEND: &str = "\
Means over visits: underflow and kept in per cent, masses in parts of the sum of magnitudes, exact. Of the visits with a
window (a scale without overflow and with at most 0.1 % underflow), \"kept\" is the share with at most 0.2 %. A skipped step loses
all of its mass and keeps nothing; its underflow is not counted. Passes are those whose results are not kept: first visits and
decisions (measuring) and replays. The fixed scale is the best one in hindsight; no policy can know it.";

/// Returns a table of each place, and where the library's own policy lies beside the hull.
pub fn print(places: &[Place]) -> String {
    let mut printed = String::new();
    for place in places {
        // Writing into a string cannot fail, here and below.
        let _ = writeln!(
            printed,
            "**{} in {}**: {} visits in {} steps\n\n{}\n",
            place.task,
            place.format,
            place.visits,
            place.steps,
            table(place)
        );
        for measure in Measure::ALL {
            let _ = writeln!(printed, "- {}", place.verdict(measure));
        }
        printed.push('\n');
    }
    printed + LEGEND
}

fn table(place: &Place) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "policy",
        "underflow",
        "p95",
        "lost mass",
        "clipped mass",
        "kept",
        "measuring /1000",
        "replays /1000",
        "clipped visits /1000",
        "skipped steps /1000",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in &place.rows {
        let or_none =
            |value: Option<f64>, write: fn(f64) -> String| value.map_or("-".into(), write);
        table.add_row([
            row.policy.clone(),
            or_none(row.underflow_mean, percent),
            or_none(row.underflow_p95, percent),
            mass(row.lost_mass),
            mass(row.clipped_mass),
            or_none(row.kept, |kept| format!("{:.2}", 100.0 * kept)),
            format!("{:.1}", row.measuring_per_1000),
            format!("{:.1}", row.replays_per_1000),
            format!("{:.1}", row.clipped_visits_per_1000),
            format!("{:.1}", row.skipped_steps_per_1000),
        ]);
    }
    table
}

/// Writes a share in per cent.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == 0.0 || percent >= 0.0005 {
        format!("{percent:.3}")
    } else {
        format!("{percent:.0e}")
    }
}

/// Writes a share of mass.
fn mass(share: f64) -> String {
    if share == 0.0 { "0".into() } else { format!("{share:.1e}") }
}

/// Returns the rows of all places for spreadsheets.
///
/// # Errors
///
/// A row cannot be written.
pub fn csv(places: &[Place]) -> Result<Vec<u8>> {
    csv_of(places.iter().flat_map(|place| &place.rows))
}
