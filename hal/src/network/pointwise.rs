//! The rectifier, forward and back.

use adaloss_core::format::Element;

use crate::{
    device::Device,
    kind::OperationKind,
    operation::{Operation, Visitor},
    plain::Plain,
    run::{Run, has},
    space::AddressSpace,
};

/// Sets elements with a negative sign to +0, -0 among them; a NaN stays what it is.
///
/// Nothing is rounded: a scale is carried.
pub struct Relu<'w, S: AddressSpace, W: Plain> {
    /// The elements, in place.
    pub values: S::Mut<'w, W>,
}

impl<S: AddressSpace, W: Element + Plain> Operation for Relu<'_, S, W> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Relu;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        visitor.output("the values", None, &mut self.values);
    }
}

/// Sets the elements of a gradient to +0 where the output of the rectifier is zero.
///
/// Nothing is rounded: a scale is carried.
pub struct ReluInput<'r, 'w, S: AddressSpace, W: Plain, G: Plain> {
    /// What [`Relu`] left.
    pub output: S::Ref<'r, W>,
    /// The gradient, in place; as many elements.
    pub gradient: S::Mut<'w, G>,
}

impl<S, W, G> Operation for ReluInput<'_, '_, S, W, G>
where
    S: AddressSpace,
    W: Element + Plain,
    G: Element + Plain,
{
    type Space = S;

    const KIND: OperationKind = OperationKind::ReluInput;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(self.output);
        visitor.input("the output of the rectifier", Some(elements), &mut self.output);
        visitor.output("the gradient", Some(elements), &mut self.gradient);
    }
}

has! {
    /// A device that has [`Relu`] of activations in `W`, and [`ReluInput`] of gradients in `G`.
    pub trait HasRelu<W, G>:
        for<'w> Run<Relu<'w, <Self as Device>::Space, W>>
        + for<'r, 'w> Run<ReluInput<'r, 'w, <Self as Device>::Space, W, G>>
}
