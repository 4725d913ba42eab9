//! Causal attention: each result by one thread, which computes again whatever scores it needs.

use adaloss_core::format::Element;

use super::{operand::Operand, results::each, sliding::indices};
use crate::{Block, epilogue::Epilogue, memory::Out};

/// Heads over tokens.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Attention {
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub width: usize,
    /// Queries, keys and values.
    pub input: Operand,
}

/// The parts of the input.
const QUERIES: usize = 0;
const KEYS: usize = 1;
const VALUES: usize = 2;

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head {
    of: Attention,
    sequence: usize,
    nth: usize,
}

impl Head {
    /// Returns where a vector of the input begins.
    #[inline(always)]
    const fn vector(self, part: usize, token: usize) -> usize {
        let Attention { tokens, heads, width, .. } = self.of;
        (((self.sequence * tokens + token) * 3 + part) * heads + self.nth) * width
    }

    /// Returns where a vector of the output begins.
    #[inline(always)]
    const fn output(self, token: usize) -> usize {
        let Attention { tokens, heads, width, .. } = self.of;
        ((self.sequence * tokens + token) * heads + self.nth) * width
    }

    /// Returns an element of the input.
    ///
    /// # Safety
    ///
    /// The input is there, and has such a token.
    #[inline(always)]
    unsafe fn input(self, part: usize, token: usize, feature: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { self.of.input.read(self.vector(part, token) + feature) }
    }

    /// Returns `sqrt(width)`.
    #[inline(always)]
    fn root<B: Block>(self) -> f32 {
        B::root(self.of.width as f32)
    }

    /// Returns the score of a key for a query.
    ///
    /// # Safety
    ///
    /// As for [`input`](Self::input).
    #[inline(always)]
    unsafe fn score<B: Block>(self, query: usize, key: usize) -> f32 {
        let mut sum = 0.0;
        for feature in 0..self.of.width {
            // SAFETY: the caller's promise.
            sum += unsafe { self.input(QUERIES, query, feature) * self.input(KEYS, key, feature) };
        }
        sum / self.root::<B>()
    }

    /// Returns the softmax of a query's scores.
    ///
    /// # Safety
    ///
    /// As for [`input`](Self::input).
    #[inline(always)]
    unsafe fn softmax<B: Block>(self, query: usize) -> Softmax {
        let (mut max, mut total) = (f32::NEG_INFINITY, 0.0);
        // A NaN that the maximum leaves out is still in the total.
        for key in 0..=query {
            // SAFETY: the caller's promise.
            max = max.max(unsafe { self.score::<B>(query, key) });
        }
        for key in 0..=query {
            // SAFETY: as above.
            total += libm::expf(unsafe { self.score::<B>(query, key) } - max);
        }
        Softmax { max, total }
    }

    /// Returns the probability of a key for a query of this softmax.
    ///
    /// # Safety
    ///
    /// As for [`input`](Self::input).
    #[inline(always)]
    unsafe fn probability<B: Block>(self, softmax: Softmax, query: usize, key: usize) -> f32 {
        // SAFETY: the caller's promise.
        libm::expf(unsafe { self.score::<B>(query, key) } - softmax.max) / softmax.total
    }
}

/// What a score has to be compared with to become a probability.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    total: f32,
}

/// Computes the attention, narrowed as the epilogue says.
///
/// # Safety
///
/// The input is there and nobody writes it during the launch; results and epilogue are as
/// [`apply`](crate::apply::apply) asks for.
pub unsafe fn attend<B: Block, F: Element>(
    block: &mut B,
    of: Attention,
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    let result = |place: usize| {
        let Attention { tokens, heads, width, .. } = of;
        let [sequence, query, nth, feature] = indices(place, [tokens, heads, width]);
        let head = Head { of, sequence, nth };
        let mut sum = 0.0;
        // SAFETY: the caller's promise.
        unsafe {
            let softmax = head.softmax::<B>(query);
            for key in 0..=query {
                let probability = head.probability::<B>(softmax, query, key);
                sum += probability * head.input(VALUES, key, feature);
            }
        }
        sum
    };
    // SAFETY: the caller's promise.
    unsafe { each(block, to, epilogue, result) }
}

/// One head in the backward pass.
#[derive(Clone, Copy)]
struct Back<'a, G> {
    head: Head,
    /// The gradient of the whole output.
    gradient: &'a [G],
}

/// What the gradients of a query's scores have in common.
#[derive(Clone, Copy)]
struct Query {
    token: usize,
    softmax: Softmax,
    /// The mean of the probabilities' gradients, weighted with the probabilities.
    mean: f32,
}

impl<G: Element> Back<'_, G> {
    /// Returns an element of the gradient of an output vector.
    #[inline(always)]
    fn gradient(&self, token: usize, feature: usize) -> f32 {
        self.gradient.get(self.head.output(token) + feature).map_or(0.0, |x| x.widen())
    }

    /// Returns the gradient of a probability.
    ///
    /// # Safety
    ///
    /// As for [`Head::input`].
    #[inline(always)]
    unsafe fn of_probability(&self, query: usize, key: usize) -> f32 {
        let mut sum = 0.0;
        for feature in 0..self.head.of.width {
            // SAFETY: the caller's promise.
            let value = unsafe { self.head.input(VALUES, key, feature) };
            sum += self.gradient(query, feature) * value;
        }
        sum
    }

    /// # Safety
    ///
    /// As for [`Head::input`].
    #[inline(always)]
    unsafe fn query<B: Block>(&self, token: usize) -> Query {
        // SAFETY: the caller's promise.
        unsafe {
            let softmax = self.head.softmax::<B>(token);
            let mut mean = 0.0;
            for key in 0..=token {
                let probability = self.head.probability::<B>(softmax, token, key);
                mean += probability * self.of_probability(token, key);
            }
            Query { token, softmax, mean }
        }
    }

    /// Returns the gradient of `query . key`.
    ///
    /// # Safety
    ///
    /// As for [`Head::input`].
    #[inline(always)]
    unsafe fn slope<B: Block>(&self, query: Query, key: usize) -> f32 {
        let Query { token, softmax, mean } = query;
        // SAFETY: the caller's promise.
        unsafe {
            let above = self.of_probability(token, key) - mean;
            self.head.probability::<B>(softmax, token, key) * above / self.head.root::<B>()
        }
    }
}

/// Computes the gradient of the input, narrowed as the epilogue says.
///
/// Of a key, a thread computes the softmax of every later query: the time grows with the cube of the tokens.
///
/// # Safety
///
/// As for [`attend`], and for the gradient of the output.
pub unsafe fn attend_input<B: Block, F: Element>(
    block: &mut B,
    of: Attention,
    gradient: &[F],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    let result = |place: usize| {
        let Attention { tokens, heads, width, .. } = of;
        let [vector, part, nth, feature] = indices(place, [3, heads, width]);
        let (sequence, token) = super::sliding::split(vector, tokens);
        let back = Back { head: Head { of, sequence, nth }, gradient };
        let mut sum = 0.0;
        // Of queries, over the keys up to it; of keys and values, over the queries from it on.
        let (first, end) = if part == QUERIES { (0, token + 1) } else { (token, tokens) };
        for other in first..end {
            let (query, key) = if part == QUERIES { (token, other) } else { (other, token) };
            // SAFETY: the caller's promise.
            unsafe {
                if part == VALUES {
                    let softmax = back.head.softmax::<B>(query);
                    let probability = back.head.probability::<B>(softmax, query, key);
                    sum += probability * back.gradient(query, feature);
                } else {
                    let slope = back.slope::<B>(back.query::<B>(query), key);
                    let other_part = if part == QUERIES { KEYS } else { QUERIES };
                    sum += slope * back.head.input(other_part, other, feature);
                }
            }
        }
        sum
    };
    // SAFETY: the caller's promise.
    unsafe { each(block, to, epilogue, result) }
}
