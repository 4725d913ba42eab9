//! Causal self-attention.

use adaloss_core::format::Element;

use crate::{
    device::Device,
    epilogue::Epilogue,
    kind::OperationKind,
    narrow::HasNarrow,
    operation::{Operation, Visitor},
    plain::Plain,
    run::{Run, has},
    shape::{Attention, Shape},
    space::AddressSpace,
};

/// Computes the attention, of activations in `W`.
///
/// Scores, probabilities and their gradients are f32 and are not kept: the backward pass computes them again from the input.
pub struct Attend<'r, 'w, S: AddressSpace, W: Plain> {
    /// The shape.
    pub attention: Attention,
    /// Queries, keys and values.
    pub input: S::Ref<'r, W>,
    /// The output.
    pub to: S::Mut<'w, W>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S: AddressSpace, W: Element + Plain> Operation for Attend<'_, '_, S, W> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Attend;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Attention(self.attention))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, output] = self.attention.lengths();
        visitor.input("the input", Some(input), &mut self.input);
        visitor.output("the output", Some(output), &mut self.to);
        visitor.epilogue::<W>(&mut self.epilogue);
    }
}

/// Computes the gradient of the input, in `G`, from that of the output.
pub struct AttendInput<'r, 'w, S: AddressSpace, G: Plain, W: Plain> {
    /// The shape.
    pub attention: Attention,
    /// The gradient of the output.
    pub gradient: S::Ref<'r, G>,
    /// Queries, keys and values.
    pub input: S::Ref<'r, W>,
    /// Their gradient.
    pub to: S::Mut<'w, G>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S, G, W> Operation for AttendInput<'_, '_, S, G, W>
where
    S: AddressSpace,
    G: Element + Plain,
    W: Element + Plain,
{
    type Space = S;

    const KIND: OperationKind = OperationKind::AttendInput;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Attention(self.attention))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let [input, output] = self.attention.lengths();
        visitor.input("the gradient", Some(output), &mut self.gradient);
        visitor.input("the input", Some(input), &mut self.input);
        visitor.output("the gradient of the input", Some(input), &mut self.to);
        visitor.epilogue::<G>(&mut self.epilogue);
    }
}

has! {
    /// A device that has [`Attend`] of activations in `W`, and [`AttendInput`] of gradients in `G`.
    pub trait HasAttend<W, G>:
        HasNarrow<W>
        + HasNarrow<G>
        + for<'r, 'w> Run<Attend<'r, 'w, <Self as Device>::Space, W>>
        + for<'r, 'w> Run<AttendInput<'r, 'w, <Self as Device>::Space, G, W>>
}
