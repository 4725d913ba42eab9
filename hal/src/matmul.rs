//! The matrix product, a value.

use adaloss_core::format::Element;

use crate::{
    device::Device,
    epilogue::Epilogue,
    kind::OperationKind,
    narrow::HasNarrow,
    operation::{Operation, Visitor},
    plain::Plain,
    run::{Run, has},
    shape::{Product, Shape},
    space::AddressSpace,
};

/// Multiplies matrices of `A` and `B`, accumulates in f32 and narrows to `F`.
///
/// Sums start at +0, so that the sum of no terms, and one of terms that are all -0, is +0; or at the bias of their column, so that
/// sum and bias are narrowed once.  A device that cuts a sum into parts starts the first one there and the others at +0.
///
/// With `F = f32` and an epilogue to scale 2^0, this computes an unscaled weight gradient.
pub struct Matmul<'r, 'w, S: AddressSpace, A: Plain, B: Plain, F: Plain> {
    /// The shape.
    pub product: Product,
    /// The left operand, stored as the shape says.
    pub a: S::Ref<'r, A>,
    /// The right operand, stored as the shape says.
    pub b: S::Ref<'r, B>,
    /// What sums start at, for each column of the result, at the scale of the f32 results; at +0 without.
    pub bias: Option<S::Ref<'r, f32>>,
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
        if let Some(bias) = &mut self.bias {
            visitor.input("the bias", Some(self.product.columns), bias);
        }
        visitor.output("the result", Some(result), &mut self.to);
        visitor.epilogue::<F>(&mut self.epilogue);
    }
}

has! {
    /// A device that has [`Matmul`] of elements of types `A` and `B` into `F`.
    pub trait HasMatmul<A, B, F>:
        HasNarrow<F> + for<'r, 'w> Run<Matmul<'r, 'w, <Self as Device>::Space, A, B, F>>
}
