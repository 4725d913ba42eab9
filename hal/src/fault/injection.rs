//! The faults that can be injected, and the error of a device that injects them.

use core::fmt;

use crate::{
    error::{Error, ErrorKind, Misfit},
    kind::OperationKind,
};

/// What goes wrong with one operation.
///
/// Elements can be struck in the results of every operation that writes some, whatever their format:
/// those of `apply`, `propagate`, `unscale`, `matmul` and of the operations of layers.  Of a loss that
/// is its gradient; of an optimizer the weight, and behind its elements those of its state.  They are
/// struck after the operation, so that its outcome and histogram do not know: the next operation that
/// reads the elements has to find them.  After `unscale`, or a product that unscales, that is the
/// optimizer.
///
/// Nothing else can be struck: copies, new memory, statistics, counts, cells, certificates, the indices
/// of a max pooling, norms and sums of losses.  Any operation can fail, and any but an allocation can
/// be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// A bit of an element flips; this reads the element and so waits for the device.
    Flip {
        /// The element.
        index: usize,
        /// The bit, counted from the least significant.
        bit: u32,
    },
    /// An element becomes NaN.
    Nan {
        /// The element.
        index: usize,
    },
    /// An element becomes positive infinity, or NaN in a format without infinity.
    Infinity {
        /// The element.
        index: usize,
    },
    /// The operation is left out: results and counters keep what they held, and a read leaves the
    /// host's memory as it was.
    Drop,
    /// The operation is left out, and returns an error of this kind.
    Fail(ErrorKind),
}

/// The error of a device into which faults are injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError<E> {
    /// The device itself failed.
    Device(E),
    /// The plan asked for a failure.
    Injected {
        /// The operation that was not made.
        operation: OperationKind,
        /// The kind that was asked for.
        kind: ErrorKind,
    },
    /// The plan asked for something that cannot happen to this operation, so nothing did: an element
    /// that is not there, a bit that the format does not have, no buffer.
    Impossible {
        /// The operation, which was not made.
        operation: OperationKind,
        /// What was asked for.
        injection: Injection,
    },
}

impl<E: fmt::Display> fmt::Display for FaultError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::Injected { operation, kind } => write!(f, "injected into {operation}: {kind}"),
            Self::Impossible { operation, injection } => {
                write!(
                    f,
                    "{injection:?} cannot be injected into {operation}: it has no such element or bit"
                )
            }
        }
    }
}

impl<E: core::error::Error> core::error::Error for FaultError<E> {}

impl<E: Error> Error for FaultError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Device(error) => error.kind(),
            Self::Injected { kind, .. } => *kind,
            Self::Impossible { .. } => ErrorKind::Other,
        }
    }

    fn misfit(misfit: Misfit) -> Self {
        Self::Device(E::misfit(misfit))
    }
}

impl<E> From<E> for FaultError<E> {
    fn from(error: E) -> Self {
        Self::Device(error)
    }
}
