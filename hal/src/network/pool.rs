//! Pooling and unpooling.

use adaloss_core::format::Element;

use crate::{
    device::Device,
    epilogue::Epilogue,
    kind::OperationKind,
    narrow::HasNarrow,
    operation::{Operation, Visitor},
    plain::Plain,
    run::{Run, has},
    shape::{Pooling, Shape},
    space::AddressSpace,
};

/// Takes the greatest element of each window, and its index: the row times the width plus the column, in its image and
/// channel, as PyTorch's `return_indices` gives it.
///
/// The first of equal ones is taken, +0 equal to -0, and a NaN before every number.  A window does not see its padding.
/// Nothing is rounded: a scale is carried.
pub struct MaxPool<'r, 'w, S: AddressSpace, E: Plain> {
    /// The shape.
    pub pooling: Pooling,
    /// The images.
    pub input: S::Ref<'r, E>,
    /// The greatest element of each window.
    pub to: S::Mut<'w, E>,
    /// The index of each of these elements.
    pub indices: S::Mut<'w, u32>,
}

impl<S: AddressSpace, E: Element + Plain> Operation for MaxPool<'_, '_, S, E> {
    type Space = S;

    const KIND: OperationKind = OperationKind::MaxPool;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Pooling(self.pooling))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, output] = self.pooling.lengths();
        visitor.input("the input", Some(input), &mut self.input);
        visitor.output("the output", Some(output), &mut self.to);
        visitor.written("the indices", Some(output), &mut self.indices);
    }
}

/// Puts pooled elements back at their indices and +0 everywhere else: unpooling, and the gradient of a pooling whose
/// windows do not overlap.
///
/// Nothing is rounded: a scale is carried.
pub struct Unpool<'r, 'w, S: AddressSpace, E: Plain> {
    /// The shape.
    pub pooling: Pooling,
    /// What is put back; of the shape of the output.
    pub input: S::Ref<'r, E>,
    /// The indices of a max pooling of this shape; those outside the image are left out.
    pub indices: S::Ref<'r, u32>,
    /// The images; no two windows see a pixel of them.
    pub to: S::Mut<'w, E>,
}

impl<S: AddressSpace, E: Element + Plain> Operation for Unpool<'_, '_, S, E> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Unpool;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Pooling(self.pooling))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, output] = self.pooling.lengths();
        visitor.input("the input", Some(output), &mut self.input);
        visitor.input("the indices", Some(output), &mut self.indices);
        visitor.output("the result", Some(input), &mut self.to);
        visitor.needs("windows that do not overlap", !self.pooling.overlaps());
    }
}

/// Takes the elements at the indices: the gradient of unpooling.
///
/// Nothing is rounded: a scale is carried.
pub struct Pick<'r, 'w, S: AddressSpace, E: Plain> {
    /// The shape.
    pub pooling: Pooling,
    /// The images.
    pub input: S::Ref<'r, E>,
    /// The indices of a max pooling of this shape; one outside the image gives +0.
    pub indices: S::Ref<'r, u32>,
    /// The elements at the indices.
    pub to: S::Mut<'w, E>,
}

impl<S: AddressSpace, E: Element + Plain> Operation for Pick<'_, '_, S, E> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Pick;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Pooling(self.pooling))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, output] = self.pooling.lengths();
        visitor.input("the input", Some(input), &mut self.input);
        visitor.input("the indices", Some(output), &mut self.indices);
        visitor.output("the result", Some(output), &mut self.to);
    }
}

/// Computes the mean of each window, with one division of an f32 sum; padding counts as zeros.
///
/// Sums start at +0.  A device with [sequential sums](crate::Capabilities::sequential_sums) adds elements in the order of
/// their index, here and in the backward pass.
pub struct AveragePool<'r, 'w, S: AddressSpace, E: Plain> {
    /// The shape.
    pub pooling: Pooling,
    /// The images.
    pub input: S::Ref<'r, E>,
    /// The means.
    pub to: S::Mut<'w, E>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S: AddressSpace, E: Element + Plain> Operation for AveragePool<'_, '_, S, E> {
    type Space = S;

    const KIND: OperationKind = OperationKind::AveragePool;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Pooling(self.pooling))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, output] = self.pooling.lengths();
        visitor.input("the input", Some(input), &mut self.input);
        visitor.output("the output", Some(output), &mut self.to);
        visitor.epilogue::<E>(&mut self.epilogue);
    }
}

/// Computes the gradient of the input of [`AveragePool`] from that of its output: a sum over the windows that saw the pixel,
/// and one division.
pub struct AveragePoolInput<'r, 'w, S: AddressSpace, E: Plain> {
    /// The shape.
    pub pooling: Pooling,
    /// The gradient of the output.
    pub gradient: S::Ref<'r, E>,
    /// That of the input.
    pub to: S::Mut<'w, E>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S: AddressSpace, E: Element + Plain> Operation for AveragePoolInput<'_, '_, S, E> {
    type Space = S;

    const KIND: OperationKind = OperationKind::AveragePoolInput;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Pooling(self.pooling))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, output] = self.pooling.lengths();
        visitor.input("the gradient", Some(output), &mut self.gradient);
        visitor.output("the gradient of the input", Some(input), &mut self.to);
        visitor.epilogue::<E>(&mut self.epilogue);
    }
}

/// Computes the gradient of the input of a max pooling whose windows may overlap: the sum, at each pixel, over the windows
/// that took it.
pub struct MaxPoolInput<'r, 'w, S: AddressSpace, E: Plain> {
    /// The shape.
    pub pooling: Pooling,
    /// The gradient of the output.
    pub gradient: S::Ref<'r, E>,
    /// The indices of a max pooling of this shape; those outside the image are left out.
    pub indices: S::Ref<'r, u32>,
    /// The gradient of the input.
    pub to: S::Mut<'w, E>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S: AddressSpace, E: Element + Plain> Operation for MaxPoolInput<'_, '_, S, E> {
    type Space = S;

    const KIND: OperationKind = OperationKind::MaxPoolInput;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Pooling(self.pooling))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, output] = self.pooling.lengths();
        visitor.input("the gradient", Some(output), &mut self.gradient);
        visitor.input("the indices", Some(output), &mut self.indices);
        visitor.output("the gradient of the input", Some(input), &mut self.to);
        visitor.epilogue::<E>(&mut self.epilogue);
    }
}

has! {
    /// A device that pools elements of type `E`: it moves them, or sums them in f32 and narrows the sums.
    pub trait HasPool<E>:
        HasNarrow<E>
        + for<'r, 'w> Run<MaxPool<'r, 'w, <Self as Device>::Space, E>>
        + for<'r, 'w> Run<Unpool<'r, 'w, <Self as Device>::Space, E>>
        + for<'r, 'w> Run<Pick<'r, 'w, <Self as Device>::Space, E>>
        + for<'r, 'w> Run<AveragePool<'r, 'w, <Self as Device>::Space, E>>
        + for<'r, 'w> Run<AveragePoolInput<'r, 'w, <Self as Device>::Space, E>>
        + for<'r, 'w> Run<MaxPoolInput<'r, 'w, <Self as Device>::Space, E>>
}
