//! What came of it, as a table.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::{Gradients, Mode, Scaling};

/// What adaptive scaling costs is told against binary16 by the framework alone.
const BASELINE: Mode = Mode::Low { gradients: Gradients::Binary16, scaling: Scaling::None };

/// One network's training.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    mode: Mode,
    times: Vec<Duration>,
    skipped: u64,
    pub(crate) score: f64,
    pub(crate) replays: u64,
}

impl Run {
    pub(crate) const fn new(mode: Mode) -> Self {
        Self { mode, times: Vec::new(), skipped: 0, score: 0.0, replays: 0 }
    }

    /// Takes note of one step.
    pub(crate) fn record(&mut self, time: Duration, is_used: bool) {
        self.times.push(time);
        self.skipped += u64::from(!is_used);
    }
}

/// All runs.
#[derive(Debug, Default)]
pub(crate) struct Report {
    runs: Vec<Run>,
}

impl Report {
    pub(crate) fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// Returns a row per mode; times are medians, and compared with those of the framework alone.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header([
            "",
            "median (least..greatest)",
            "skipped",
            "replayed",
            "ms per step",
            "overhead",
        ]);
        let mut modes = Vec::new();
        for run in &self.runs {
            if !modes.contains(&run.mode) {
                modes.push(run.mode);
            }
        }
        let base = self.milliseconds(BASELINE);
        for mode in modes {
            let mut scores = self.of(mode).map(|run| run.score).collect::<Vec<_>>();
            scores.sort_by(f64::total_cmp);
            let (least, greatest) = (scores[0], scores[scores.len() - 1]);
            let milliseconds = self.milliseconds(mode);
            table.add_row([
                mode.to_string(),
                format!("{:.1} ({least:.1}..{greatest:.1})", median(&scores)),
                self.of(mode).map(|run| run.skipped).sum::<u64>().to_string(),
                self.of(mode).map(|run| run.replays).sum::<u64>().to_string(),
                format!("{milliseconds:.1}"),
                if base.is_nan() {
                    String::new()
                } else {
                    format!("{:+.1} %", 100.0 * (milliseconds / base - 1.0))
                },
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn of(&self, mode: Mode) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.mode == mode)
    }

    /// Returns the median time of a step.
    fn milliseconds(&self, mode: Mode) -> f64 {
        let times = self.of(mode).flat_map(|run| &run.times);
        let mut times = times.map(|time| 1000.0 * time.as_secs_f64()).collect::<Vec<_>>();
        times.sort_by(f64::total_cmp);
        median(&times)
    }
}

/// Returns the median of sorted numbers; of none, NaN.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_median_of_its_runs() {
        let mut report = Report::default();
        for (score, milliseconds) in [(90.0, 10), (95.0, 30), (92.0, 20)] {
            let mut run = Run { score, replays: 2, ..Run::new(BASELINE) };
            run.record(Duration::from_millis(milliseconds), milliseconds > 10);
            report.add(run);
            let mut run = Run::new(Mode::Exact);
            run.record(Duration::from_millis(5), true);
            report.add(run);
        }
        let table = report.table().to_string();
        let rows = table.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        let rows = rows.collect::<Vec<_>>();
        let expected =
            ["", "binary16, no scaling", "92.0 (90.0..95.0)", "1", "6", "20.0", "+0.0 %", ""];
        assert_eq!(rows[2], expected);
        assert_eq!(rows[3][5..7], ["5.0", "-75.0 %"]);
    }

    #[test]
    fn the_median_of_none_is_no_number() {
        assert!(median(&[]).is_nan());
        assert_eq!((median(&[1.0]), median(&[1.0, 4.0])), (1.0, 2.5));
    }
}
