//! Causal self-attention.

use core::fmt;

use adaloss_core::format::Element;

use super::elements;
use crate::{Epilogue, Mut, Narrow, Plain, Ref};

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

/// A device that attends, with activations in `W` and gradients in `G`.
///
/// Scores, probabilities and their gradients are f32 and are not kept: the way back computes them
/// again from the input.
pub trait Attend<W: Element + Plain, G: Element + Plain>: Narrow<W> + Narrow<G> {
    /// Computes the attention.
    ///
    /// # Errors
    ///
    /// `input` or `to` does not have the elements of the shape, a part of the epilogue is not one
    /// element, or its narrowing is not for `W`.
    fn attend(
        &mut self,
        shape: Attention,
        input: Ref<'_, Self, W>,
        to: Mut<'_, Self, W>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Self::Error>
    where
        Self: Sized;

    /// Computes the gradient of the input from that of the output.
    ///
    /// # Errors
    ///
    /// An operand or `to` does not have the elements of the shape, a part of the epilogue is not one
    /// element, or its narrowing is not for `G`.
    fn attend_input(
        &mut self,
        shape: Attention,
        gradient: Ref<'_, Self, G>,
        input: Ref<'_, Self, W>,
        to: Mut<'_, Self, G>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Self::Error>
    where
        Self: Sized;
}
