//! One call of a device, as a value.

use core::fmt;

use crate::{kind::OperationKind, shape::Shape};

/// One call of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// The operation.
    pub operation: OperationKind,
    /// The elements of its result; those it looked at for `statistics` and `square_norm`, 1 for
    /// `certify` and `note`.
    pub elements: usize,
    /// The shape of an operation that has one.
    pub shape: Option<Shape>,
}

impl Call {
    /// A call of an operation without a shape.
    pub const fn of(operation: OperationKind, elements: usize) -> Self {
        Self { operation, elements, shape: None }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, elements, shape } = self;
        write!(f, "{operation} of {elements}")?;
        match shape {
            Some(shape) => write!(f, ", {shape}"),
            None => Ok(()),
        }
    }
}
