//! Convolution and its two gradients.

use adaloss_core::format::Element;

use crate::{
    device::Device,
    epilogue::Epilogue,
    kind::OperationKind,
    narrow::HasNarrow,
    operation::{Operation, Visitor},
    plain::Plain,
    run::{Run, has},
    shape::{Convolution, Shape},
    space::AddressSpace,
};

/// Convolves input and weight, accumulates in f32 and narrows to `F`.
///
/// Sums start at +0 or at the bias of their filter, as those of a [`Matmul`](crate::Matmul); terms outside the image add nothing.  A device with
/// [sequential sums](crate::Capabilities::sequential_sums) adds the terms, here and in the backward pass, in the order of their
/// elements in the first operand, the one in `A`.
pub struct Convolve<'r, 'w, S: AddressSpace, A: Plain, B: Plain, F: Plain> {
    /// The shape.
    pub convolution: Convolution,
    /// The images.
    pub input: S::Ref<'r, A>,
    /// The kernels.
    pub weight: S::Ref<'r, B>,
    /// What sums start at, for each filter, at the scale of the f32 results; at +0 without.
    pub bias: Option<S::Ref<'r, f32>>,
    /// The images that leave.
    pub to: S::Mut<'w, F>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S, A, B, F> Operation for Convolve<'_, '_, S, A, B, F>
where
    S: AddressSpace,
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    type Space = S;

    const KIND: OperationKind = OperationKind::Convolve;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Convolution(self.convolution))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, weight, output] = self.convolution.lengths();
        visitor.input("the input", Some(input), &mut self.input);
        visitor.input("the weight", Some(weight), &mut self.weight);
        if let Some(bias) = &mut self.bias {
            visitor.input("the bias", Some(self.convolution.filters), bias);
        }
        visitor.output("the output", Some(output), &mut self.to);
        visitor.epilogue::<F>(&mut self.epilogue);
    }
}

/// Computes the gradient of the input from that of the output.
pub struct ConvolveInput<'r, 'w, S: AddressSpace, A: Plain, B: Plain, F: Plain> {
    /// The shape.
    pub convolution: Convolution,
    /// The gradient of the output.
    pub gradient: S::Ref<'r, A>,
    /// The kernels.
    pub weight: S::Ref<'r, B>,
    /// The gradient of the input.
    pub to: S::Mut<'w, F>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S, A, B, F> Operation for ConvolveInput<'_, '_, S, A, B, F>
where
    S: AddressSpace,
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    type Space = S;

    const KIND: OperationKind = OperationKind::ConvolveInput;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Convolution(self.convolution))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, weight, output] = self.convolution.lengths();
        visitor.input("the gradient", Some(output), &mut self.gradient);
        visitor.input("the weight", Some(weight), &mut self.weight);
        visitor.output("the gradient of the input", Some(input), &mut self.to);
        visitor.epilogue::<F>(&mut self.epilogue);
    }
}

/// Computes the gradient of the weight from that of the output.
///
/// With `F = f32` and an epilogue to scale 2^0, the gradient is unscaled.
pub struct ConvolveWeight<'r, 'w, S: AddressSpace, A: Plain, B: Plain, F: Plain> {
    /// The shape.
    pub convolution: Convolution,
    /// The gradient of the output.
    pub gradient: S::Ref<'r, A>,
    /// The images.
    pub input: S::Ref<'r, B>,
    /// The gradient of the weight.
    pub to: S::Mut<'w, F>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S, A, B, F> Operation for ConvolveWeight<'_, '_, S, A, B, F>
where
    S: AddressSpace,
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    type Space = S;

    const KIND: OperationKind = OperationKind::ConvolveWeight;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Convolution(self.convolution))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, weight, output] = self.convolution.lengths();
        visitor.input("the gradient", Some(output), &mut self.gradient);
        visitor.input("the input", Some(input), &mut self.input);
        visitor.output("the gradient of the weight", Some(weight), &mut self.to);
        visitor.epilogue::<F>(&mut self.epilogue);
    }
}

has! {
    /// A device that convolves `A` and `B` into `F`.
    ///
    /// Forward, `A` is the input's format and `B` the weight's; in the backward pass `A` is the gradient's and `B` that of the other
    /// operand.
    pub trait HasConvolve<A, B, F>:
        HasNarrow<F>
        + for<'r, 'w> Run<Convolve<'r, 'w, <Self as Device>::Space, A, B, F>>
        + for<'r, 'w> Run<ConvolveInput<'r, 'w, <Self as Device>::Space, A, B, F>>
        + for<'r, 'w> Run<ConvolveWeight<'r, 'w, <Self as Device>::Space, A, B, F>>
}
