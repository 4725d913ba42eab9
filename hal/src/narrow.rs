//! The operations of the corridor: one trait per kind of device.

use core::fmt;

use adaloss_core::{format::Element, policy::Cell, statistics::Statistics, unscale::Unscaled};

use crate::{
    AddressSpace, Device, Epilogue, Mut, Operation, OperationKind, Plain, Ref, Run, Visitor,
    run::has, wrap::Shape,
};

/// A device that narrows to `F`: the corridor without products.
///
/// A device for one format implements this for one element type and nothing else.  The methods
/// bear the names of the rooms of [`adaloss_core`], and do what the functions there do.
pub trait Narrow<F: Element + Plain>: Device {
    /// Adds the statistics of a low-precision tensor to those in `to` (one element).
    ///
    /// # Errors
    ///
    /// `to` is not one element.
    fn statistics(
        &mut self,
        values: Ref<'_, Self, F>,
        to: Mut<'_, Self, Statistics>,
    ) -> Result<(), Self::Error>;

    /// Narrows f32 values as the epilogue says.
    ///
    /// # Errors
    ///
    /// `values` and `to` differ in length, a part of the epilogue is not one element, or its
    /// narrowing is not for `F`.
    fn apply(
        &mut self,
        values: Ref<'_, Self, f32>,
        to: Mut<'_, Self, F>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Self::Error>
    where
        Self: Sized;

    /// Sums branches in f32 in the order given, each brought from the scale of its cell to that of
    /// the epilogue's `from`, and narrows the sum as the epilogue says.
    ///
    /// A branch alone is a gradient that is brought from one scale to another, or measured, as it is.
    /// Where the epilogue's format flushes, subnormal elements are zero.
    ///
    /// # Errors
    ///
    /// There is no branch, one differs from `to` in length, a cell or a part of the epilogue is not one
    /// element, or its narrowing is not for `F`.
    fn propagate(
        &mut self,
        branches: &[BranchOf<'_, Self, F>],
        to: Mut<'_, Self, F>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Self::Error>
    where
        Self: Sized;

    /// Widens a gradient that carries the scale of `cell` and multiplies it by the inverse; adds
    /// what was met to `met` (one element).
    ///
    /// # Errors
    ///
    /// `gradient` and `to` differ in length, or one of the two others is not one element.
    fn unscale(
        &mut self,
        gradient: Ref<'_, Self, F>,
        cell: Ref<'_, Self, Cell>,
        to: Mut<'_, Self, f32>,
        met: Mut<'_, Self, Unscaled>,
    ) -> Result<(), Self::Error>;
}

/// One branch of a join: `G` names its elements, `C` its cell, as the device names memory.
///
/// It knows the names and not the device, so that a device that wraps another hands a slice of
/// branches on as it is.
#[derive(Clone, Copy, Debug)]
pub struct Branch<G, C> {
    /// The elements.
    pub gradient: G,
    /// The cell whose scale they carry; one element.
    pub cell: C,
}

/// A branch on the device `D`.
pub type BranchOf<'a, D, F> = Branch<Ref<'a, D, F>, Ref<'a, D, Cell>>;

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

/// Multiplies matrices of `A` and `B`, accumulates in f32 and narrows to `F`.
///
/// Sums start at +0, so that the sum of no terms, and one of terms that are all -0, is +0.
///
/// With `F = f32` and an epilogue to scale 2^0, this computes an unscaled weight gradient.
pub struct Matmul<'r, 'w, S: AddressSpace, A: Plain, B: Plain, F: Plain> {
    /// The shape.
    pub product: Product,
    /// The left operand, stored as the shape says.
    pub a: S::Ref<'r, A>,
    /// The right operand, stored as the shape says.
    pub b: S::Ref<'r, B>,
    /// The product.
    pub to: S::Mut<'w, F>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S, A, B, F> Operation for Matmul<'_, '_, S, A, B, F>
where
    S: AddressSpace,
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    type Space = S;

    const KIND: OperationKind = OperationKind::Matmul;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Product(self.product))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [left, right, result] = self.product.lengths();
        visitor.input("the left operand", Some(left), &mut self.a);
        visitor.input("the right operand", Some(right), &mut self.b);
        visitor.output("the result", Some(result), &mut self.to);
        visitor.epilogue::<F>(&mut self.epilogue);
    }
}

has! {
    /// A device that has [`Matmul`] of elements of types `A` and `B` into `F`.
    pub trait HasMatmul<A, B, F>:
        Narrow<F> + for<'r, 'w> Run<Matmul<'r, 'w, <Self as Device>::Space, A, B, F>>
}
