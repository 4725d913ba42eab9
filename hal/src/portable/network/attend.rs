//! Attention: what a row of scores needs is computed where it is needed.

use core::ops::Range;

use adaloss_core::format::{Element, dot};

use crate::{
    host::HostError,
    host::Sink,
    network::{Attend, AttendInput},
    plain::Plain,
    portable::Portable,
    run::{Fitting, Run},
    shape::Attention,
    space::HostSpace,
};

/// Features and queries that are kept at a time; the result does not depend on this.
const CHUNK: usize = 64;

impl<W: Element + Plain> Run<Attend<'_, '_, HostSpace, W>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Attend<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Attend { attention, input, to, epilogue } = operation.into_inner();
        let (attention, input) = (*attention, *input);
        let mut sink = Sink::open(epilogue.reborrow())?;
        // Without features there may be more tokens than can be walked.
        if to.is_empty() {
            return Ok(());
        }
        for head in Head::all(attention, input) {
            for query in 0..attention.tokens {
                let softmax = head.softmax(query);
                let probability = |key| softmax.probability(head.score(query, key));
                let place = head.output(query);
                let to = &mut to[place.clone()];
                sum(&mut sink, place.start, to, 0..query + 1, probability, |key| head.value(key))?;
            }
        }
        Ok(())
    }
}

impl<W, G> Run<AttendInput<'_, '_, HostSpace, G, W>> for Portable
where
    W: Element + Plain,
    G: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, AttendInput<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let AttendInput { attention, gradient, input, to, epilogue } = operation.into_inner();
        let (attention, gradient, input) = (*attention, *gradient, *input);
        let mut sink = Sink::open(epilogue.reborrow())?;
        // Without features there may be more tokens than can be walked.
        if to.is_empty() {
            return Ok(());
        }
        for head in Head::all(attention, input) {
            let back = Back { head, gradient };
            let mut queries = Queries::new(back);
            for token in 0..attention.tokens {
                let place = head.input(QUERIES, token);
                let slope = |key| queries.of(token).slope(back, key);
                let to_query = &mut to[place.clone()];
                sum(&mut sink, place.start, to_query, 0..token + 1, slope, |key| head.key(key))?;

                let later = token..attention.tokens;
                let place = head.input(KEYS, token);
                let slope = |query| queries.of(query).slope(back, token);
                let to_key = &mut to[place.clone()];
                sum(&mut sink, place.start, to_key, later.clone(), slope, |q| head.query(q))?;

                let place = head.input(VALUES, token);
                let probability = |query| queries.of(query).probability(back, token);
                let to_value = &mut to[place.clone()];
                sum(&mut sink, place.start, to_value, later, probability, |q| back.gradient(q))?;
            }
        }
        Ok(())
    }
}

/// Sums the vectors of some tokens, each times its factor.
fn sum<'a, F: Element, E: Element>(
    sink: &mut Sink<'_, F>,
    first: usize,
    to: &mut [F],
    tokens: Range<usize>,
    mut factor: impl FnMut(usize) -> f32,
    vector: impl Fn(usize) -> &'a [E],
) -> Result<(), HostError> {
    for (nth, to) in to.chunks_mut(CHUNK).enumerate() {
        let mut sums = [0.0; CHUNK];
        for token in tokens.clone() {
            let factor = factor(token);
            for (sum, x) in sums.iter_mut().zip(&vector(token)[nth * CHUNK..][..to.len()]) {
                *sum += factor * x.widen();
            }
        }
        sink.put(first + nth * CHUNK, &sums[..to.len()], to)?;
    }
    Ok(())
}

/// The parts of the input.
const QUERIES: usize = 0;
const KEYS: usize = 1;
const VALUES: usize = 2;

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head<'a, W> {
    shape: Attention,
    input: &'a [W],
    sequence: usize,
    nth: usize,
}

impl<'a, W: Element> Head<'a, W> {
    fn all(shape: Attention, input: &'a [W]) -> impl Iterator<Item = Self> {
        (0..shape.batch * shape.heads).map(move |head| {
            let (sequence, nth) = (head / shape.heads, head % shape.heads);
            Self { shape, input, sequence, nth }
        })
    }

    /// Returns where a vector of the input lies.
    fn input(&self, part: usize, token: usize) -> Range<usize> {
        let Attention { tokens, heads, width, .. } = self.shape;
        let vector = ((self.sequence * tokens + token) * 3 + part) * heads + self.nth;
        vector * width..(vector + 1) * width
    }

    /// Returns where a vector of the output lies.
    fn output(&self, token: usize) -> Range<usize> {
        let Attention { tokens, heads, width, .. } = self.shape;
        let vector = (self.sequence * tokens + token) * heads + self.nth;
        vector * width..(vector + 1) * width
    }

    fn query(&self, token: usize) -> &'a [W] {
        &self.input[self.input(QUERIES, token)]
    }

    fn key(&self, token: usize) -> &'a [W] {
        &self.input[self.input(KEYS, token)]
    }

    fn value(&self, token: usize) -> &'a [W] {
        &self.input[self.input(VALUES, token)]
    }

    /// Returns `sqrt(width)`.
    fn root(&self) -> f32 {
        libm::sqrtf(self.shape.width as f32)
    }

    fn score(&self, query: usize, key: usize) -> f32 {
        dot(self.query(query), self.key(key)) / self.root()
    }

    /// Returns the softmax of a query's scores.
    fn softmax(&self, query: usize) -> Softmax {
        let scores = || (0..=query).map(|key| self.score(query, key));
        // A NaN that the maximum leaves out is still in the total.
        let max = scores().fold(f32::NEG_INFINITY, f32::max);
        let total = scores().fold(0.0, |sum, score| sum + libm::expf(score - max));
        Softmax { max, total }
    }
}

/// What a score has to be compared with to become a probability.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    total: f32,
}

impl Softmax {
    fn probability(self, score: f32) -> f32 {
        libm::expf(score - self.max) / self.total
    }
}

/// One head in the backward pass.
#[derive(Clone, Copy)]
struct Back<'a, W, G> {
    head: Head<'a, W>,
    /// The gradient of the whole output.
    gradient: &'a [G],
}

impl<'a, W: Element, G: Element> Back<'a, W, G> {
    /// Returns the gradient of an output vector.
    fn gradient(&self, token: usize) -> &'a [G] {
        &self.gradient[self.head.output(token)]
    }

    /// Returns the gradient of a probability.
    fn of_probability(&self, query: usize, key: usize) -> f32 {
        dot(self.gradient(query), self.head.value(key))
    }
}

/// What the gradients of a query's scores have in common.
#[derive(Clone, Copy)]
struct Query {
    token: usize,
    softmax: Softmax,
    /// The mean of the probabilities' gradients, weighted with the probabilities.
    mean: f32,
}

impl Query {
    fn of<W: Element, G: Element>(back: Back<'_, W, G>, token: usize) -> Self {
        let mut query = Self { token, softmax: back.head.softmax(token), mean: 0.0 };
        let terms =
            (0..=token).map(|key| query.probability(back, key) * back.of_probability(token, key));
        query.mean = terms.fold(0.0, |sum, term| sum + term);
        query
    }

    fn probability<W: Element, G: Element>(&self, back: Back<'_, W, G>, key: usize) -> f32 {
        self.softmax.probability(back.head.score(self.token, key))
    }

    /// Returns the gradient of `query . key`.
    fn slope<W: Element, G: Element>(&self, back: Back<'_, W, G>, key: usize) -> f32 {
        let above = back.of_probability(self.token, key) - self.mean;
        self.probability(back, key) * above / back.head.root()
    }
}

/// The queries of a head, some of which are kept: without them a gradient would take a time that
/// grows with the cube of the tokens.
struct Queries<'a, W, G> {
    back: Back<'a, W, G>,
    kept: [Option<Query>; CHUNK],
}

impl<'a, W: Element, G: Element> Queries<'a, W, G> {
    fn new(back: Back<'a, W, G>) -> Self {
        Self { back, kept: [None; CHUNK] }
    }

    fn of(&mut self, token: usize) -> Query {
        let kept = &mut self.kept[token % CHUNK];
        match *kept {
            Some(query) if query.token == token => query,
            _ => *kept.insert(Query::of(self.back, token)),
        }
    }
}
