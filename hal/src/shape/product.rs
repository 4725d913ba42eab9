//! The shape of a matrix product.

use core::fmt;

/// The shape of a matrix product `C = op(A) op(B)`, all row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of `op(A)` and `C`.
    pub rows: usize,
    /// Columns of `op(A)`, rows of `op(B)`: the number of terms in a sum.
    pub inner: usize,
    /// Columns of `op(B)` and `C`.
    pub columns: usize,
    /// `A` is stored as (inner, rows).
    pub transpose_a: bool,
    /// `B` is stored as (columns, inner).
    pub transpose_b: bool,
}

impl Product {
    /// A product of untransposed matrices.
    pub const fn new(rows: usize, inner: usize, columns: usize) -> Self {
        Self { rows, inner, columns, transpose_a: false, transpose_b: false }
    }

    /// Returns the elements of `A`, `B` and `C`; `usize::MAX`, which no tensor has, where the number
    /// does not fit.
    pub const fn lengths(self) -> [usize; 3] {
        let Self { rows, inner, columns, .. } = self;
        [rows.saturating_mul(inner), inner.saturating_mul(columns), rows.saturating_mul(columns)]
    }

    /// Returns the same product with `A` stored as (inner, rows).
    pub const fn transpose_a(self) -> Self {
        Self { transpose_a: true, ..self }
    }

    /// Returns the same product with `B` stored as (columns, inner).
    pub const fn transpose_b(self) -> Self {
        Self { transpose_b: true, ..self }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, inner, columns, transpose_a, transpose_b } = self;
        match transpose_a {
            false => write!(f, "({rows} x {inner}) ")?,
            true => write!(f, "({inner} x {rows})^T ")?,
        }
        match transpose_b {
            false => write!(f, "({inner} x {columns})"),
            true => write!(f, "({columns} x {inner})^T"),
        }
    }
}
