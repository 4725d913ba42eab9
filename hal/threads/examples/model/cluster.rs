//! What the library asks of its group, and what that costs by the model.

use adaloss_core::{scaler::share::message_bytes, statistics::Histogram};

use super::reduction::Network;

/// The bytes of the reductions that an agreement is made of, once a step.
pub(crate) const fn agreement(cells: usize) -> [usize; 1] {
    [message_bytes(cells)]
}

/// The bytes of the reductions by which `merge_histogram` adds up the counts of one cell, whose magnitudes lie in so many binades.
///
/// Of each half of the bins the first and the last in use are agreed on with the narrowing, each beside what it is compared with.
pub(crate) const fn certificate(binades: usize) -> [usize; 2] {
    let in_use = 3 + 2 * binades;
    let counts = if in_use < Histogram::COUNTS { in_use } else { Histogram::COUNTS };
    [6 * size_of::<u64>(), counts * size_of::<u64>()]
}

/// The same without looking which bins are in use: the narrowing, and all counts.
pub(crate) const fn whole_certificate() -> [usize; 2] {
    [2 * size_of::<u64>(), Histogram::COUNTS * size_of::<u64>()]
}

/// A network, and the host beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cluster {
    pub(crate) network: Network,
    /// Seconds that a rank takes to pack and unpack one cell.
    pub(crate) per_cell: f64,
}

impl Cluster {
    /// Returns how long ranks take to agree on a step.
    pub(crate) fn agreement_seconds(&self, cells: usize, ranks: usize) -> f64 {
        self.per_cell * cells as f64 + self.seconds(agreement(cells), ranks)
    }

    /// Returns how long such reductions take, one after the other.
    pub(crate) fn seconds(&self, bytes: impl IntoIterator<Item = usize>, ranks: usize) -> f64 {
        let network = &self.network;
        let each = |bytes| network.seconds(&network.reduction(bytes, ranks));
        bytes.into_iter().map(each).sum()
    }
}
