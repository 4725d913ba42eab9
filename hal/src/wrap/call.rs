//! One call of a device, as a value.

use core::fmt;

use crate::{
    OperationKind, Product,
    network::{Attention, Convolution, Normalisation, Pooling},
};

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

/// The shape of an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Shape {
    /// Of a matrix product.
    Product(Product),
    /// Of a convolution and its gradients.
    Convolution(Convolution),
    /// Of a normalisation, its moments and its gradients.
    Normalisation(Normalisation),
    /// Of a pooling and its gradients.
    Pooling(Pooling),
    /// Of an attention and its gradient.
    Attention(Attention),
    /// The elements of a row of an embedding.
    Width(usize),
    /// The classes of a loss.
    Classes(usize),
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Product(shape) => shape.fmt(f),
            Self::Convolution(shape) => shape.fmt(f),
            Self::Normalisation(shape) => shape.fmt(f),
            Self::Pooling(shape) => shape.fmt(f),
            Self::Attention(shape) => shape.fmt(f),
            Self::Width(width) => write!(f, "rows of {width}"),
            Self::Classes(classes) => write!(f, "{classes} classes"),
        }
    }
}
