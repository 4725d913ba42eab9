//! One training step, from the forward pass to gradients that are unscaled.

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

/// What a backward pass ends in: in the gradients of all weights that the loss depends on, f32, finite and
/// unscaled, if all of them may reach the weights.
pub type Backward = adaloss_plug::Backward<GradStore>;

impl Step {
    pub(crate) const fn new(scaler: Scaler) -> Self {
        Self { scaler }
    }

    /// Goes backward from a loss, segment by segment, and ends the step.
    ///
    /// # Errors
    ///
    /// The loss is not one number, depends on no mark, or was computed from 16-bit tensors without
    /// [`Scaler::output`]; a weight is not f32; or candle cannot go backward.  The scales are as they were.
    pub fn backward(self, loss: &Tensor) -> Result<Backward> {
        let mut shared = self.scaler.lock();
        let tape = shared.tape.take().unwrap_or_default();
        let before = shared.memory.clone();
        let judged = Walk::new(&mut shared, &tape).run(loss);
        if judged.is_err() {
            shared.memory = before;
        }
        judged.map(|(verdict, gradients)| Backward::new(verdict, gradients))
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.scaler.lock().tape = None;
    }
}
