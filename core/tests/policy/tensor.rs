//! The tensors of the search, as the core sees them.

use adaloss_core::{format::Narrowing, statistics::Histogram};
use adaloss_oracle::search::Tensor;

/// What a device measures of a tensor.
pub(crate) trait Observe {
    fn histogram(&self, narrowing: Narrowing) -> Histogram;
}

impl Observe for Tensor {
    fn histogram(&self, narrowing: Narrowing) -> Histogram {
        let mut histogram = Histogram::new(narrowing);
        histogram.observe(&self.values, self.incoming);
        histogram
    }
}
