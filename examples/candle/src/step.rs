//! One training step, from the forward pass to gradients that are unscaled.

use adaloss_core::unscale::{Cause, Place, Verdict};
use candle_core::{Result, Tensor, backprop::GradStore};

use crate::{Scaler, walk::Walk};

/// A training step under way: layers that are marked now are of this step.
///
/// Dropped without a backward pass, it never was.
#[derive(Debug)]
#[must_use = "marks are recorded only while the step is there"]
pub struct Step {
    scaler: Scaler,
}

/// What a backward pass ends in.
///
/// There are gradients only where all of them may reach the weights.
#[derive(Debug)]
#[must_use = "the weights have to be updated, or the reason to be known"]
pub enum Backward {
    /// The gradients of all weights that the loss depends on: f32, finite, unscaled.
    Apply(GradStore),
    /// The step is not usable: leave the weights and the optimizer's state as they are.
    Skip {
        /// The first place, in backward order, that was not usable.
        layer: Place,
        /// What was wrong there.
        cause: Cause,
    },
    /// As many steps in a row as the configuration allows were not usable: stop training.
    Stop {
        /// The first place, in backward order, that was not usable.
        layer: Place,
        /// What was wrong there.
        cause: Cause,
        /// Steps skipped in a row, this one included.
        skipped: u32,
    },
}

impl Step {
    pub(crate) const fn new(scaler: Scaler) -> Self {
        Self { scaler }
    }

    /// Goes backward from a loss, segment by segment, and ends the step.
    ///
    /// # Errors
    ///
    /// The loss is not one number, depends on no mark, or was computed from 16-bit tensors without
    /// [`Scaler::output`]; a weight is not f32; or candle cannot go backward.  Nothing was counted.
    pub fn backward(self, loss: &Tensor) -> Result<Backward> {
        let mut shared = self.scaler.lock();
        let tape = shared.tape.take().unwrap_or_default();
        let (verdict, gradients) = Walk::new(&mut shared, &tape).run(loss)?;
        Ok(match verdict {
            Verdict::Apply => Backward::Apply(gradients),
            Verdict::Skip { layer, cause } => Backward::Skip { layer, cause },
            Verdict::Stop { layer, cause, skipped } => Backward::Stop { layer, cause, skipped },
        })
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.scaler.lock().tape = None;
    }
}
