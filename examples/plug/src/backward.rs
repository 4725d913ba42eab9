//! What a backward pass ends in.

use adaloss_core::unscale::{Cause, Place, Verdict};

/// What a backward pass ends in, with a framework's container of gradients.
///
/// There are gradients only where all of them may reach the weights.
#[derive(Debug)]
#[must_use = "the weights have to be updated, or the reason to be known"]
pub enum Backward<G> {
    /// The gradients of all weights that the loss depends on: f32, finite and unscaled.
    Apply(G),
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

impl<G> Backward<G> {
    /// Hands out the gradients where the verdict is to apply them.
    pub fn new(verdict: Verdict, gradients: G) -> Self {
        match verdict {
            Verdict::Apply => Self::Apply(gradients),
            Verdict::Skip { layer, cause } => Self::Skip { layer, cause },
            Verdict::Stop { layer, cause, skipped } => Self::Stop { layer, cause, skipped },
        }
    }
}
