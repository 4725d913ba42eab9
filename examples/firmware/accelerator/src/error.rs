//! What can go wrong.

use core::fmt;

use adaloss_hal::{Error, ErrorKind, Misfit};

use crate::Fault;

/// What the accelerator cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceleratorError {
    /// An operand, a result or a part of an epilogue has the wrong number of elements.
    Length {
        /// Which one.
        what: &'static str,
    },
    /// It narrows to binary16 that flushes subnormals, to the nearest even number or towards zero.
    Narrowing,
    /// Its memory is exhausted.
    Memory {
        /// The bytes that were asked for.
        bytes: usize,
    },
    /// The operands of an operation do not fit.
    Misfit(Misfit),
    /// It refused a command.
    Refused,
    /// The driver led it out of its memory.
    Fault(Fault),
}

impl fmt::Display for AcceleratorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { what } => write!(f, "{what} has the wrong number of elements"),
            Self::Narrowing => f.write_str(
                "the accelerator narrows to binary16 without subnormals, to the nearest or to zero",
            ),
            Self::Memory { bytes } => write!(f, "the accelerator has no {bytes} bytes left"),
            Self::Misfit(misfit) => misfit.fmt(f),
            Self::Refused => f.write_str("the accelerator refused a command"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for AcceleratorError {}

impl Error for AcceleratorError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Length { .. } => ErrorKind::Shape,
            Self::Narrowing => ErrorKind::Format,
            Self::Memory { .. } => ErrorKind::Memory,
            Self::Misfit(misfit) => misfit.kind(),
            Self::Refused | Self::Fault(_) => ErrorKind::Hardware,
        }
    }

    fn misfit(misfit: Misfit) -> Self {
        Self::Misfit(misfit)
    }
}

impl From<Fault> for AcceleratorError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
