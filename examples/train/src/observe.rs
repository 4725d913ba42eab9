//! What reports say of each cell: asked against real, at the steps that are looked at.

use adaloss_core::{
    format::Format,
    policy::{Config, Fraction, Measured, Operands},
    scaler::Visit,
    statistics::{Histogram, Outcome},
};

use crate::{blocks::Rounded, layer::Observer, results::CellReport};

/// Collects a report per cell.
#[derive(Debug)]
pub struct Samples {
    measured: Measured,
    /// Whether a certificate was preceded by a pass that only measured.
    measures: bool,
    watches: bool,
    steps: Vec<u64>,
    cells: Vec<CellReport>,
}

impl Samples {
    /// Makes empty reports of a run in a format; the tolerance of `measured` says what a window is, whatever the
    /// run's own policy.
    pub fn new(config: &Config, format: Format) -> Self {
        let measured = Measured::for_format(format);
        let measures = config.policy().follows_maxima();
        Self { measured, measures, watches: false, steps: Vec::new(), cells: Vec::new() }
    }

    /// Looks at the coming step, or does not.
    pub fn watch(&mut self, step: u64, watches: bool) {
        self.watches = watches;
        if watches {
            self.steps.push(step);
        }
    }

    /// Returns the steps that were looked at and the reports, in the order in which the cells were
    /// first visited.
    pub fn finish(self) -> (Vec<u64>, Vec<CellReport>) {
        let mut cells = self.cells;
        for cell in &mut cells {
            let visits = cell.visits.max(1) as f64;
            cell.window_share = cell.windows as f64 / visits;
            cell.share_kept = cell.kept as f64 / cell.windows.max(1) as f64;
            cell.underflow_asked = self.measured.tolerance.to_f64();
            cell.underflow_real /= visits;
            cell.lost_mass /= visits;
            cell.subnormal /= visits;
            cell.scales_log2.resize(self.steps.len(), None);
        }
        (self.steps, cells)
    }

    /// Returns the report of a cell, made at its first visit.
    fn cell(&mut self, name: &str) -> &mut CellReport {
        let found = self.cells.iter().position(|cell| cell.name == name);
        let index = found.unwrap_or_else(|| {
            self.cells.push(CellReport { name: name.into(), ..CellReport::default() });
            self.cells.len() - 1
        });
        &mut self.cells[index]
    }
}

impl Observer for Samples {
    fn watches(&self) -> bool {
        self.watches
    }

    fn visited(
        &mut self,
        name: &str,
        visit: &Visit,
        results: &Histogram,
        _operands: Option<&Operands>,
    ) {
        let lost = Fraction::from_bits(results.lost_mass(visit.outgoing)).to_f64();
        self.count(name, visit, &visit.outcome, results, lost);
        // Of several micro-batches, the last one's scale stands for the step.
        if let Some(last) = self.cell(name).scales_log2.last_mut() {
            *last = Some(visit.outgoing.log2());
        }
    }

    /// A tensor in blocks has no scale that could be shown, and its lost mass is exact.
    fn visited_in_blocks(
        &mut self,
        name: &str,
        visit: &Visit,
        results: &Histogram,
        rounded: &Rounded,
    ) {
        self.count(name, visit, &rounded.outcome, results, rounded.lost_share());
    }
}

impl Samples {
    /// Counts a visit, of which `lost` is the share of mass that underflowed.
    fn count(
        &mut self,
        name: &str,
        visit: &Visit,
        outcome: &Outcome,
        results: &Histogram,
        lost: f64,
    ) {
        let (measured, samples) = (self.measured, self.steps.len());
        let measures = self.measures && visit.certificate.is_some();
        let cell = self.cell(name);
        cell.scales_log2.resize(samples, None);
        cell.extra_passes += u64::from(visit.passes.saturating_sub(1));
        cell.replays += u64::from(visit.replayed);
        cell.measuring_passes += u64::from(measures);
        let nonzero = outcome.nonzero();
        if nonzero == 0 || outcome.nonfinite > 0 {
            return;
        }
        cell.visits += 1;
        let window = measured.window(results).width() > 0;
        let is_kept = outcome.underflow <= measured.tolerance.of(2 * nonzero);
        cell.windows += u64::from(window);
        cell.kept += u64::from(window && is_kept);
        cell.underflow_real += outcome.underflow_fraction();
        cell.lost_mass += lost;
        cell.subnormal += outcome.subnormal as f64 / nonzero as f64;
        cell.overflows += u64::from(outcome.overflow > 0);
    }
}
