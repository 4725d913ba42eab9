//! The calls of a device, as a value.

use core::fmt;

/// A call of a device that can fail or wait: what a fault plan and a record are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Device::read`](crate::Device::read).
    Read,
    /// [`Device::write`](crate::Device::write).
    Write,
    /// [`Memory::zeroed`](crate::Memory::zeroed).
    Zeroed,
    /// [`Narrow::statistics`](crate::Narrow::statistics).
    Statistics,
    /// [`Narrow::apply`](crate::Narrow::apply).
    Apply,
    /// [`Narrow::propagate`](crate::Narrow::propagate).
    Propagate,
    /// [`Narrow::unscale`](crate::Narrow::unscale).
    Unscale,
    /// [`Decide::decide`](crate::Decide::decide).
    Decide,
    /// [`Decide::note`](crate::Decide::note).
    Note,
    /// [`Matmul::matmul`](crate::Matmul::matmul).
    Matmul,
}

impl Operation {
    /// Every operation, in the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Read,
        Self::Write,
        Self::Zeroed,
        Self::Statistics,
        Self::Apply,
        Self::Propagate,
        Self::Unscale,
        Self::Decide,
        Self::Note,
        Self::Matmul,
    ];

    /// Returns the name of the method.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Zeroed => "zeroed",
            Self::Statistics => "statistics",
            Self::Apply => "apply",
            Self::Propagate => "propagate",
            Self::Unscale => "unscale",
            Self::Decide => "decide",
            Self::Note => "note",
            Self::Matmul => "matmul",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
