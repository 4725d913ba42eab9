//! The shapes of operations, as a failure tells them.

use core::fmt;

use adaloss_hal::{
    Product,
    network::{Attention, Axis, Convolution, Normalisation, Pooling},
};

/// The shape of an operation, for reading.
///
/// It is kept in a few bytes, so that a [`Failure`](super::Failure) stays small: an extent that the
/// suite only makes up to be refused, and which has more than 16 bits, is shown as 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    kind: Kind,
    extents: [u16; EXTENTS],
}

/// The extents of the largest shape, that of a convolution.
const EXTENTS: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Product,
    Convolution,
    Pooling,
    Normalisation,
    Attention,
    Rows,
}

impl Shape {
    /// The shape of an operation that works row by row.
    pub(super) fn rows(rows: usize, columns: usize) -> Self {
        Self::new(Kind::Rows, [rows, columns])
    }

    fn new<const N: usize>(kind: Kind, from: [usize; N]) -> Self {
        let mut extents = [0; EXTENTS];
        for (to, from) in extents.iter_mut().zip(from) {
            *to = u16::try_from(from).unwrap_or(u16::MAX);
        }
        Self { kind, extents }
    }
}

impl From<Product> for Shape {
    fn from(shape: Product) -> Self {
        let Product { rows, inner, columns, transpose_a, transpose_b } = shape;
        let transposed = [transpose_a, transpose_b].map(usize::from);
        Self::new(Kind::Product, [rows, inner, columns, transposed[0], transposed[1]])
    }
}

impl From<Convolution> for Shape {
    fn from(shape: Convolution) -> Self {
        let Convolution { batch, input, channels, filters, kernel, stride, padding, .. } = shape;
        let Convolution { dilation: [dh, dw], groups, .. } = shape;
        let ([h, w], [kh, kw], [sh, sw], [ph, pw]) = (input, kernel, stride, padding);
        let extents = [batch, h, w, channels, filters, kh, kw, sh, sw, ph, pw, dh, dw, groups];
        Self::new(Kind::Convolution, extents)
    }
}

impl From<Pooling> for Shape {
    fn from(shape: Pooling) -> Self {
        let Pooling { batch, input, channels, window, stride, padding, is_covering } = shape;
        let ([h, w], [wh, ww], [sh, sw], [ph, pw]) = (input, window, stride, padding);
        let covers = usize::from(is_covering);
        Self::new(Kind::Pooling, [batch, h, w, channels, wh, ww, sh, sw, ph, pw, covers])
    }
}

impl From<Normalisation> for Shape {
    fn from(shape: Normalisation) -> Self {
        let Normalisation { rows, columns, axis, centred, .. } = shape;
        let axis = usize::from(axis == Axis::Columns);
        Self::new(Kind::Normalisation, [rows, columns, axis, usize::from(centred)])
    }
}

impl From<Attention> for Shape {
    fn from(shape: Attention) -> Self {
        let Attention { batch, tokens, heads, width } = shape;
        Self::new(Kind::Attention, [batch, tokens, heads, width])
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i, j, k, l, m, n, o] = self.extents.map(usize::from);
        match self.kind {
            Kind::Product => {
                let (transpose_a, transpose_b) = (d == 1, e == 1);
                Product { rows: a, inner: b, columns: c, transpose_a, transpose_b }.fmt(f)
            }
            Kind::Convolution => {
                let shape = Convolution::new(a, [b, c], d, e, [g, h]);
                shape.stride([i, j]).padding([k, l]).dilation([m, n]).groups(o).fmt(f)
            }
            Kind::Pooling => {
                let shape = Pooling::new(a, [b, c], d, [e, g]).stride([h, i]).padding([j, k]);
                Pooling { is_covering: l == 1, ..shape }.fmt(f)
            }
            Kind::Normalisation => {
                let axis = if c == 1 { Axis::Columns } else { Axis::Rows };
                Normalisation { rows: a, columns: b, axis, centred: d == 1, epsilon: 0.0 }.fmt(f)
            }
            Kind::Attention => Attention { batch: a, tokens: b, heads: c, width: d }.fmt(f),
            Kind::Rows => write!(f, "{a} x {b}"),
        }
    }
}
