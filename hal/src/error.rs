//! What can go wrong.

use core::fmt;

use adaloss_core::format::Encoding;

use crate::kind::OperationKind;

/// What can go wrong on a device.
///
/// As in embedded-hal, a device has an error type of its own, and generic code asks for the kind.
pub trait Error: core::error::Error + Sized {
    /// Returns the kind that generic code can act on.
    fn kind(&self) -> ErrorKind;

    /// Says that the operands of an operation do not fit.
    fn misfit(misfit: Misfit) -> Self;
}

/// The kinds of errors that generic code can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Operands or results do not have the lengths that the operation needs.
    Shape,
    /// The configured format, rounding or overflow is not that of the operands, or is not one the
    /// device has.
    Format,
    /// The device's memory is exhausted.
    Memory,
    /// The device failed, or the connection to it.
    Hardware,
    /// Anything else; the error's text says more.
    Other,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "shape mismatch",
            Self::Format => "format mismatch",
            Self::Memory => "out of device memory",
            Self::Hardware => "device failure",
            Self::Other => "device error",
        })
    }
}

/// Why the operands of an operation do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The operation.
    pub operation: OperationKind,
    /// What is wrong.
    pub cause: MisfitCause,
}

/// What is wrong with the operands of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MisfitCause {
    /// An operand has the wrong number of elements.
    Length {
        /// The operand.
        operand: &'static str,
        /// The elements that the operation needs.
        expected: usize,
        /// The elements that it has.
        found: usize,
    },
    /// The shape is impossible: it has no output, or more elements than a `usize` counts.
    Shape,
    /// A condition of the operation that is not a length is not met.
    Missing(&'static str),
    /// The epilogue narrows to another encoding than that of the elements.
    Encoding {
        /// The one that the epilogue asks for.
        asked: Encoding,
        /// That of the elements.
        given: Encoding,
    },
    /// The epilogue asks for something that the device cannot do.
    Unsupported(&'static str),
}

impl Misfit {
    /// Returns the kind that generic code can act on.
    pub const fn kind(&self) -> ErrorKind {
        match self.cause {
            MisfitCause::Length { .. } | MisfitCause::Shape | MisfitCause::Missing(_) => {
                ErrorKind::Shape
            }
            MisfitCause::Encoding { .. } | MisfitCause::Unsupported(_) => ErrorKind::Format,
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, cause } = self;
        match cause {
            MisfitCause::Length { operand, expected, found } => {
                write!(f, "{operation}: {operand} needs {expected} elements and has {found}")
            }
            MisfitCause::Shape => {
                write!(
                    f,
                    "{operation}: this shape has no result; check its extents, kernel, stride, padding and \
                     groups"
                )
            }
            MisfitCause::Missing(what) => write!(f, "{operation} needs {what}"),
            MisfitCause::Encoding { asked, given } => write!(
                f,
                "{operation}: the epilogue narrows to {asked:?} and the elements are {given:?}; set the \
                 narrowing's format to that of the elements"
            ),
            MisfitCause::Unsupported(what) => {
                write!(
                    f,
                    "{operation}: this device does not have {what}; choose a narrowing within its \
                     capabilities"
                )
            }
        }
    }
}

impl core::error::Error for Misfit {}
