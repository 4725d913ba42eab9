//! The results as tables for spreadsheets, one row per run, layer, evaluation and probed weight.

use anyhow::{Context, Result, anyhow};
use csv::Writer;

use crate::results::{Gone, Results, RunReport};

use super::group::{gradient_error, worst_gradient_error};

/// Columns that say which run a row is of.
const KEYS: [&str; 5] = ["task", "format", "method", "period", "seed"];

type Key<'a> = (&'a str, &'a str, &'a str, u32, u64);

fn key(run: &RunReport) -> Key<'_> {
    (&run.task, &run.format, &run.method, run.period, run.seed)
}

/// Returns every file by its name.
pub(super) fn all(results: &Results) -> Result<[(&'static str, Vec<u8>); 4]> {
    Ok([
        ("runs.csv", runs(results).context("runs.csv cannot be written")?),
        ("cells.csv", cells(results).context("cells.csv cannot be written")?),
        ("curves.csv", curves(results).context("curves.csv cannot be written")?),
        ("weights.csv", weights(results).context("weights.csv cannot be written")?),
    ])
}

fn sheet(columns: &[&str]) -> Result<Writer<Vec<u8>>> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(KEYS.iter().chain(columns))?;
    Ok(writer)
}

fn finished(writer: Writer<Vec<u8>>) -> Result<Vec<u8>> {
    writer.into_inner().map_err(|error| anyhow!(error.to_string()))
}

fn runs(results: &Results) -> Result<Vec<u8>> {
    let mut writer = sheet(&[
        "forward_format",
        "metric",
        "steps_to_target",
        "steps",
        "skipped_steps",
        "recovered_steps",
        "certificates",
        "broken_promises",
        "visits",
        "extra_passes",
        "underflow",
        "lost_mass",
        "clipped_mass",
        "gone_mass",
        "most_gone_mass",
        "gradient_error",
        "worst_gradient_error",
        "seconds",
        "explained_variance",
        "bias",
        "bias_relative_to",
        "stopped",
        "configuration",
    ])?;
    for run in &results.runs {
        let quantity = run.quantity.as_ref();
        writer.serialize((
            key(run),
            &run.forward_format,
            run.metric,
            run.steps_to_target,
            (run.steps, run.skipped_steps, run.recovered_steps),
            (run.certificates, run.broken_promises),
            (counted(run, run.visits), counted(run, run.extra_passes)),
            run.underflow(),
            of_gone(run, |gone| gone.lost_mass),
            of_gone(run, |gone| gone.clipped_mass),
            (run.gone_mass(), run.most_gone_mass()),
            (gradient_error(&[run]), worst_gradient_error(&[run])),
            run.seconds,
            (
                quantity.and_then(|quantity| quantity.explained_variance),
                quantity.and_then(|quantity| quantity.bias),
                quantity.map(|quantity| &quantity.relative_to),
            ),
            (&run.stopped, &run.configuration),
        ))?;
    }
    finished(writer)
}

/// Returns a share of the visits that were looked at and used; none where there was none.
fn of_gone(run: &RunReport, of: fn(&Gone) -> f64) -> Option<f64> {
    run.gone.as_ref().filter(|gone| gone.visits > 0).map(of)
}

/// Returns a count over all visits; none where they were not counted.
fn counted(run: &RunReport, count: u64) -> Option<u64> {
    (run.visits > 0).then_some(count)
}

fn cells(results: &Results) -> Result<Vec<u8>> {
    let mut writer = sheet(&[
        "cell",
        "visits",
        "windows",
        "kept",
        "window_share",
        "share_kept",
        "underflow_asked",
        "underflow_real",
        "lost_mass",
        "clipped_mass",
        "gone_mass",
        "subnormal",
        "overflows",
        "extra_passes",
        "replays",
        "measuring_passes",
        "least_scale_log2",
        "greatest_scale_log2",
        "last_scale_log2",
    ])?;
    for run in &results.runs {
        for cell in &run.cells {
            let scales = || cell.scales_log2.iter().flatten();
            writer.serialize((
                key(run),
                &cell.name,
                (cell.visits, cell.windows, cell.kept, cell.window_share, cell.share_kept),
                (cell.underflow_asked, cell.underflow_real, cell.lost_mass),
                (cell.clipped_mass, cell.gone_mass, cell.subnormal),
                (cell.overflows, cell.extra_passes, cell.replays, cell.measuring_passes),
                (scales().min(), scales().max(), scales().last()),
            ))?;
        }
    }
    finished(writer)
}

fn curves(results: &Results) -> Result<Vec<u8>> {
    let mut writer = sheet(&["step", "loss", "metric"])?;
    for run in &results.runs {
        for point in &run.curve {
            writer.serialize((key(run), point.step, point.loss, point.metric))?;
        }
    }
    finished(writer)
}

fn weights(results: &Results) -> Result<Vec<u8>> {
    let mut writer = sheet(&["weight", "step", "cosine", "relative_l2"])?;
    for run in &results.runs {
        for weight in &run.weights {
            for (index, step) in run.probed_steps.iter().enumerate() {
                let at = |values: &[Option<f64>]| values.get(index).copied().flatten();
                let (cosine, error) = (at(&weight.cosine), at(&weight.relative_l2));
                writer.serialize((key(run), &weight.name, step, cosine, error))?;
            }
        }
    }
    finished(writer)
}
