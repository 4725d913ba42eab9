//! What a loss adds up to.

/// What a loss adds up to.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[repr(C)]
pub struct LossSum {
    /// The sum of the rows' losses, each times the weight of its class; NaN where a logit of a row
    /// that counts is not finite.
    pub loss: f64,
    /// The sum of the weights.
    pub weight: f64,
    /// Rows with a label among the classes.
    pub rows: u64,
    /// Rows whose greatest logit is, alone, at the label.
    pub correct: u64,
}

impl LossSum {
    /// Returns the weighted mean; NaN of no rows.
    pub fn mean(&self) -> f64 {
        self.loss / self.weight
    }

    /// Returns the share of the rows that are classified rightly; NaN of no rows.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.rows as f64
    }
}
