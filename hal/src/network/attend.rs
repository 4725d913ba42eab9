//! Causal self-attention.

use core::fmt;

use adaloss_core::format::Element;

use super::elements;
use crate::{
    AddressSpace, Device, Epilogue, HasNarrow, Operation, OperationKind, Plain, Run, Visitor,
    run::has, wrap::Shape,
};

/// The shape of a causal self-attention with several heads (Vaswani et al. 2017).
///
/// The input has the shape (batch, tokens, 3, heads, width): queries, keys and values; the output
/// (batch, tokens, heads, width).  A token attends to itself and to those before it, with the
/// softmax of `query . key / sqrt(width)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Sequences.
    pub batch: usize,
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub width: usize,
}

impl Attention {
    /// Returns the elements of input and output.
    pub const fn lengths(self) -> [usize; 2] {
        let Self { batch, tokens, heads, width } = self;
        [elements([batch, tokens, 3, heads, width]), elements([batch, tokens, heads, width])]
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, tokens, heads, width } = self;
        write!(f, "{batch} x {tokens} tokens, {heads} heads of {width}")
    }
}

/// Computes the attention, of activations in `W`.
///
/// Scores, probabilities and their gradients are f32 and are not kept: the way back computes them again from the input.
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
