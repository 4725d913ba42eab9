//! What reports say of each cell: asked against real, step by step.

use adaloss_core::{
    format::Format,
    policy::{Fraction, Measured, Operands},
    scaler::Visit,
    statistics::Histogram,
};
use serde::Serialize;

use crate::network::Observer;

/// What happened to one gradient tensor over a run.
///
/// A *window* exists at a visit where some scale keeps underflow within the tolerance and leaves the
/// headroom below overflow; it is a property of the tensor, whatever the method.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CellReport {
    /// The tensor.
    pub name: String,
    /// Visits at which some element was finite and not zero.
    pub visits: u64,
    /// Visits at which a window existed.
    pub windows: u64,
    /// Visits with a window at which the share that underflowed was at most twice the tolerance.
    pub kept: u64,
    /// `windows / visits`.
    pub window_share: f64,
    /// `kept / windows`.
    pub share_kept: f64,
    /// The share of nonzero elements that was tolerated to underflow.
    pub underflow_asked: f64,
    /// The mean share that did underflow.
    pub underflow_real: f64,
    /// The mean of an upper bound of the share of the sum of magnitudes that underflowed.
    pub lost_mass: f64,
    /// The share of elements that became subnormal, mean.
    pub subnormal: f64,
    /// Visits that overflowed in spite of a replay, or saturated.
    pub overflows: u64,
    /// The exponent of the last scale.
    pub scale_log2: i32,
    /// The least and the greatest exponent.
    pub scale_log2_range: [i32; 2],
}

/// Collects a report per cell.
#[derive(Debug)]
pub struct Reports {
    measured: Measured,
    cells: Vec<CellReport>,
}

impl Reports {
    /// Makes empty reports for gradients in a format; the tolerance and headroom of `measured` say what a window is.
    pub fn new(format: Format) -> Self {
        Self { measured: Measured::for_format(format), cells: Vec::new() }
    }

    /// Returns the reports, in the order in which the cells were first visited.
    pub fn finish(self) -> Vec<CellReport> {
        let mut cells = self.cells;
        for cell in &mut cells {
            let visits = cell.visits.max(1) as f64;
            cell.window_share = cell.windows as f64 / visits;
            cell.share_kept = cell.kept as f64 / cell.windows.max(1) as f64;
            cell.underflow_asked = self.measured.tolerance.to_f64();
            cell.underflow_real /= visits;
            cell.lost_mass /= visits;
            cell.subnormal /= visits;
        }
        cells
    }
}

impl Observer for Reports {
    fn visited(
        &mut self,
        name: &str,
        visit: &Visit,
        results: &Histogram,
        _operands: &dyn Fn() -> Option<Operands>,
    ) {
        let scale = visit.outgoing.log2();
        let index = self.cells.iter().position(|cell| cell.name == name).unwrap_or_else(|| {
            let scale_log2_range = [scale; 2];
            self.cells.push(CellReport {
                name: name.into(),
                scale_log2_range,
                ..CellReport::default()
            });
            self.cells.len() - 1
        });
        let cell = &mut self.cells[index];
        cell.scale_log2 = scale;
        cell.scale_log2_range =
            [cell.scale_log2_range[0].min(scale), cell.scale_log2_range[1].max(scale)];
        let outcome = &visit.outcome;
        let nonzero = outcome.nonzero();
        if nonzero == 0 || outcome.nonfinite > 0 {
            return;
        }
        cell.visits += 1;
        let allowed = self.measured.tolerance.of(nonzero);
        let window = self.measured.window(results).width(self.measured.headroom) > 0;
        cell.windows += u64::from(window);
        cell.kept += u64::from(window && outcome.underflow <= 2 * allowed);
        cell.underflow_real += outcome.underflow_fraction();
        cell.lost_mass += Fraction::from_bits(results.lost_mass(visit.outgoing)).to_f64();
        cell.subnormal += outcome.subnormal as f64 / nonzero as f64;
        cell.overflows += u64::from(outcome.overflow > 0);
    }
}
