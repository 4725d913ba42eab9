//! The shape of an attention.

use core::fmt;

use super::elements;

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
