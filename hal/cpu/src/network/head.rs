//! One head of one sequence, widened, and the sums that attention is made of.
//!
//! Vectors of features and of tokens are padded with zeros to whole lines.  No sum reads a token
//! that it does not depend on: a product with zero would not hide a NaN.

use adaloss_core::format::Element;

use super::{Scratch, exponential::exp, lanes, widen};
use adaloss_hal::network::Attention;

/// Elements of a line.
const LINE: usize = 16;

/// Queries that the gradients of keys and values are summed over at a time.
pub(super) const GROUP: usize = 4;

/// Vectors of a head, one per token.
pub(super) struct Vectors {
    values: Scratch,
    /// From one vector to the next.
    step: usize,
}

impl Vectors {
    /// Takes vectors that lie `step` apart.
    pub(super) fn read<E: Element>(from: &[E], width: usize, step: usize, tokens: usize) -> Self {
        let mut vectors = Self::zeroed(tokens, width);
        let rows = vectors.values.chunks_exact_mut(vectors.step);
        for (token, to) in rows.enumerate().take(tokens) {
            widen(&from[token * step..][..width], to);
        }
        vectors
    }

    /// Returns `count` vectors of `width` zeros.
    pub(super) fn zeroed(count: usize, width: usize) -> Self {
        let step = width.next_multiple_of(LINE);
        Self { values: Scratch::zeroed(count * step), step }
    }

    /// Returns `count` vectors of `width` elements of any kind.
    pub(super) fn any(count: usize, width: usize) -> Self {
        let step = width.next_multiple_of(LINE);
        Self { values: Scratch::any(count * step), step }
    }

    /// Returns the transposed vectors: one per feature, with an element for each token.
    pub(super) fn across(&self, width: usize, tokens: usize) -> Self {
        let mut across = Self::zeroed(width, tokens);
        for (token, from) in self.values.chunks_exact(self.step).enumerate() {
            let to = across.values[token..].iter_mut().step_by(across.step);
            to.zip(&from[..width]).for_each(|(to, x)| *to = *x);
        }
        across
    }

    /// Returns a vector with its padding.
    #[inline(always)]
    pub(super) fn of(&self, token: usize) -> &[f32] {
        &self.values[token * self.step..(token + 1) * self.step]
    }

    #[inline(always)]
    pub(super) fn of_mut(&mut self, token: usize) -> &mut [f32] {
        &mut self.values[token * self.step..(token + 1) * self.step]
    }

    /// Computes the sum of the first vectors, each times its factor, in their order; `to` begins the
    /// vector of sums and is whole lines.
    #[inline(always)]
    pub(super) fn combine(&self, factors: &[f32], to: &mut [f32]) {
        let (wide, rest) = to.as_chunks_mut::<{ 4 * LINE }>();
        let lines = wide.len() * 4 * LINE;
        for (nth, to) in wide.iter_mut().enumerate() {
            self.block(factors, nth * to.len(), to);
        }
        let (rest, _) = rest.as_chunks_mut::<LINE>();
        for (nth, to) in rest.iter_mut().enumerate() {
            self.block(factors, lines + nth * LINE, to);
        }
    }

    #[inline(always)]
    fn block<const N: usize>(&self, factors: &[f32], first: usize, to: &mut [f32; N]) {
        let mut sums = [0.0; N];
        for (vector, &factor) in self.values.chunks_exact(self.step).zip(factors) {
            let Some(vector) = vector[first..].first_chunk::<N>() else { continue };
            for (sum, x) in sums.iter_mut().zip(vector) {
                *sum += factor * x;
            }
        }
        *to = sums;
    }

    /// Adds to a vector those of four tokens from `first` on, each times its factor, in their order.
    #[inline(always)]
    pub(super) fn add_group(&self, first: usize, factors: [f32; GROUP], to: &mut [f32]) {
        let [a, b, c, d] = factors;
        let vectors = self.of(first).iter().zip(self.of(first + 1));
        let vectors = vectors.zip(self.of(first + 2).iter().zip(self.of(first + 3)));
        for (to, ((x, y), (z, w))) in to.iter_mut().zip(vectors) {
            *to = *to + a * x + b * y + c * z + d * w;
        }
    }

    /// Adds to a vector that of one token times its factor.
    #[inline(always)]
    pub(super) fn add_one(&self, token: usize, factor: f32, to: &mut [f32]) {
        for (to, x) in to.iter_mut().zip(self.of(token)) {
            *to += factor * x;
        }
    }
}

/// What the scores of a head are computed from.
pub(super) struct Head {
    pub(super) queries: Vectors,
    keys_across: Vectors,
    /// `sqrt(width)`.
    pub(super) root: f32,
}

impl Head {
    pub(super) fn new(shape: Attention, queries: Vectors, keys: &Vectors) -> Self {
        let keys_across = keys.across(shape.width, shape.tokens);
        Self { queries, keys_across, root: (shape.width as f32).sqrt() }
    }

    /// Computes the probabilities that a query gives to the tokens up to its own; what comes after
    /// them in `to`, which is whole lines, has no meaning.
    #[inline(always)]
    pub(super) fn probabilities(&self, query: usize, width: usize, to: &mut [f32]) {
        let to = &mut to[..lines(query)];
        self.keys_across.combine(&self.queries.of(query)[..width], to);
        let to = &mut to[..=query];
        for x in to.iter_mut() {
            *x /= self.root;
        }
        // A NaN that the maximum leaves out is still in the total.
        let max = lanes::max(to);
        for x in to.iter_mut() {
            *x = exp(*x - max);
        }
        let total = lanes::sum(to);
        for x in to {
            *x /= total;
        }
    }
}

/// Returns the elements of whole lines that hold the tokens up to a query.
pub(super) const fn lines(query: usize) -> usize {
    (query + 1).next_multiple_of(LINE)
}
