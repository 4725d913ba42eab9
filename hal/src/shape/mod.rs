//! The shapes of operations: plain data, without a device.

mod attention;
mod convolution;
mod normalisation;
mod pooling;
mod product;

use core::fmt;

pub use attention::Attention;
pub use convolution::Convolution;
pub use normalisation::{Axis, Normalisation};
pub use pooling::Pooling;
pub use product::Product;

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

impl Shape {
    /// Returns the multiply-adds of the products that are summed, those with padding among them, as publications count them;
    /// `u64::MAX` where they are more, and 0 where nothing is.
    ///
    /// The gradients of a convolution have as many as the convolution.  Those of an attention are counted forward: two for each feature
    /// of a token and a token that it attends to.
    pub const fn multiply_adds(self) -> u64 {
        match self {
            Self::Product(Product { rows, inner, columns, .. }) => terms([rows, inner, columns, 1]),
            Self::Convolution(of) => match of.output() {
                Some([height, width]) => {
                    terms([elements([of.batch, height, width]), of.filters, of.fan_in(), 1])
                }
                None => 0,
            },
            Self::Attention(Attention { batch, tokens, heads, width }) => {
                terms([elements([batch, heads]), tokens, tokens.saturating_add(1), width])
            }
            Self::Normalisation(_) | Self::Pooling(_) | Self::Width(_) | Self::Classes(_) => 0,
        }
    }
}

/// Returns the product of some extents; `u64::MAX` where it does not fit.
const fn terms(extents: [usize; 4]) -> u64 {
    let (mut product, mut i) = (1_u64, 0);
    while i < extents.len() {
        product = product.saturating_mul(extents[i] as u64);
        i += 1;
    }
    product
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

/// Returns the product of some extents; `usize::MAX`, which no tensor has, where it does not fit.
const fn elements<const N: usize>(extents: [usize; N]) -> usize {
    let (mut product, mut i) = (1_usize, 0);
    while i < N {
        product = product.saturating_mul(extents[i]);
        i += 1;
    }
    product
}

/// Returns how many windows fit along one axis, or `None` where not one does or the padded extent is beyond `isize::MAX`, in which
/// devices count places before the image.
const fn windows(extent: usize, window: usize, stride: usize, padding: usize) -> Option<usize> {
    if extent == 0 || window == 0 || stride == 0 || padding >= window {
        return None;
    }
    // Padding on both sides; as it is less than the window, every window touches the image.
    let Some(padded) = padding.checked_mul(2) else { return None };
    match extent.checked_add(padded) {
        Some(padded) if padded >= window && padded <= isize::MAX as usize => {
            Some((padded - window) / stride + 1)
        }
        _ => None,
    }
}
