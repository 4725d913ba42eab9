//! What the gradients of micro-batches become.

/// What becomes of the gradients of a step's micro-batches, which were added in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum, as that of several `loss.backward()`: for losses that were weighted already, by the share of
    /// samples that a micro-batch has, and for those that are sums over samples.
    Sum,
    /// Their sum divided by the number of micro-batches: for losses that are means over as many samples each.
    /// The gradient is that of the mean over all samples, up to rounding.
    ///
    /// Where one micro-batch is smaller than the others its samples count for more; weight the losses instead,
    /// and take the sum.
    Mean,
}

impl Reduction {
    /// Makes of a sum over micro-batches what is asked for.
    ///
    /// Without any micro-batch the sum stays as it is.
    pub fn apply(self, sum: &mut [f32], micro_batches: u32) {
        if self == Self::Mean && micro_batches > 1 {
            // The nearest f32 to each quotient, and exact for a power of two.
            sum.iter_mut().for_each(|value| *value /= micro_batches as f32);
        }
    }
}
