//! The operations of the corridor that work on tensors, and the product: each a value.

use core::fmt;

use adaloss_core::{format::Element, policy::Cell, statistics::Statistics, unscale::Unscaled};

use crate::{
    AddressSpace, Device, Epilogue, Operation, OperationKind, Plain, Run, Visitor, run::has,
    wrap::Shape,
};

/// Adds the statistics of a low-precision tensor to those that are there.
pub struct Summarise<'r, 'w, S: AddressSpace, F: Plain> {
    /// The tensor; any number of elements.
    pub input: S::Ref<'r, F>,
    /// The statistics; one element.
    pub to: S::Mut<'w, Statistics>,
}

impl<S: AddressSpace, F: Element + Plain> Operation for Summarise<'_, '_, S, F> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Statistics;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        visitor.input("the input", None, &mut self.input);
        visitor.left("the statistics", &mut self.to);
    }
}

/// Narrows f32 values as the epilogue says.
pub struct Narrow<'r, 'w, S: AddressSpace, F: Plain> {
    /// The values; any number of elements.
    pub input: S::Ref<'r, f32>,
    /// The narrowed values; as many elements.
    pub to: S::Mut<'w, F>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S: AddressSpace, F: Element + Plain> Operation for Narrow<'_, '_, S, F> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Apply;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(self.input);
        visitor.input("the input", Some(elements), &mut self.input);
        visitor.output("the result", Some(elements), &mut self.to);
        visitor.epilogue::<F>(&mut self.epilogue);
    }
}

/// Sums branches in f32 in the order given, each brought from the scale of its cell to that of the epilogue's `from`, and narrows
/// the sum as the epilogue says.
///
/// A branch alone is a gradient that is brought from one scale to another, or measured, as it is.  Where the epilogue's format
/// flushes, subnormal elements are zero.
pub struct Propagate<'r, 'w, S: AddressSpace, F: Plain> {
    /// The branches: at least one, each of as many elements as the sum, with one cell.
    ///
    /// On a generic device they are in an array: what a vector names has to outlive it, and the list is named for as long as
    /// the branches are.
    pub branches: &'r [BranchOf<'r, S, F>],
    /// The narrowed sum.
    pub to: S::Mut<'w, F>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S: AddressSpace, F: Element + Plain> Operation for Propagate<'_, '_, S, F> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Propagate;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(S::shared(&self.to));
        visitor.needs("a branch", !self.branches.is_empty());
        for &Branch { gradient, cell } in self.branches {
            visitor.listed("a branch", elements, gradient);
            visitor.listed("the cell of a branch", 1, cell);
        }
        visitor.output("the sum", Some(elements), &mut self.to);
        visitor.epilogue::<F>(&mut self.epilogue);
    }
}

/// Widens a gradient that carries the scale of a cell and multiplies it by the inverse; adds what was met to the counts.
pub struct Unscale<'r, 'w, S: AddressSpace, F: Plain> {
    /// The gradient; any number of elements.
    pub gradient: S::Ref<'r, F>,
    /// The cell whose scale it carries; one element.
    pub cell: S::Ref<'r, Cell>,
    /// The unscaled gradient; as many elements.
    pub to: S::Mut<'w, f32>,
    /// What was met; one element.
    pub counts: S::Mut<'w, Unscaled>,
}

impl<S: AddressSpace, F: Element + Plain> Operation for Unscale<'_, '_, S, F> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Unscale;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(self.gradient);
        visitor.input("the gradient", Some(elements), &mut self.gradient);
        visitor.input("the cell of the gradient", Some(1), &mut self.cell);
        visitor.output("the unscaled gradient", Some(elements), &mut self.to);
        visitor.left("the counts", &mut self.counts);
    }
}

has! {
    /// A device that narrows to `F`: it has [`Summarise`], [`Narrow`], [`Propagate`] and [`Unscale`], the corridor without
    /// products.
    ///
    /// A device for one format has these for one element type.
    pub trait HasNarrow<F>:
        for<'r, 'w> Run<Summarise<'r, 'w, <Self as Device>::Space, F>>
        + for<'r, 'w> Run<Narrow<'r, 'w, <Self as Device>::Space, F>>
        + for<'r, 'w> Run<Propagate<'r, 'w, <Self as Device>::Space, F>>
        + for<'r, 'w> Run<Unscale<'r, 'w, <Self as Device>::Space, F>>
}

/// One branch of a join: `G` names its elements, `C` its cell, as the device names memory.
///
#[derive(Clone, Copy, Debug)]
pub struct Branch<G, C> {
    /// The elements.
    pub gradient: G,
    /// The cell whose scale they carry; one element.
    pub cell: C,
}

/// A branch in the memory `S`.
pub type BranchOf<'a, S, F> =
    Branch<<S as AddressSpace>::Ref<'a, F>, <S as AddressSpace>::Ref<'a, Cell>>;

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
        HasNarrow<F> + for<'r, 'w> Run<Matmul<'r, 'w, <Self as Device>::Space, A, B, F>>
}
