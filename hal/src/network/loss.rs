//! The loss and its gradient.

use crate::{Device, Mut, Ref};

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

/// A device that computes losses in f32.
pub trait Loss: Device {
    /// Computes softmax cross entropy of logits of shape (rows, classes): one row per image, per
    /// pixel or per token.
    ///
    /// `weights` has one weight per class, or is empty, which weighs every class 1.  The gradient is
    /// that of the weighted mean over the rows; a row whose label is no class adds nothing to the
    /// mean and has a gradient of +0.  Any other row with a logit that is not finite has a loss and a
    /// gradient of NaN.  What the rows add up to is added to `sum` (one element), in f64 and in the
    /// order of the rows or in fixed chunks of them.
    ///
    /// # Errors
    ///
    /// There are no classes, `logits` or `gradient` does not have a row per label, `weights` has
    /// another length, or `sum` is not one element.
    fn softmax_cross_entropy(
        &mut self,
        classes: usize,
        logits: Ref<'_, Self, f32>,
        labels: Ref<'_, Self, u32>,
        weights: Ref<'_, Self, f32>,
        gradient: Mut<'_, Self, f32>,
        sum: Mut<'_, Self, LossSum>,
    ) -> Result<(), Self::Error>;
}
