//! Causal self-attention, a head at a time.

use core::ops::Range;

use adaloss_core::format::Element;

use super::{
    CHUNK, Cpu, Scratch, Sink, filled,
    head::{GROUP, Head, Vectors, lines},
    lanes, vectors,
};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Plain, Run,
    network::{Attend, AttendInput, Attention},
};

impl<W: Element + Plain> Run<Attend<'_, '_, HostSpace, W>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Attend<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Attend { attention, input, to, epilogue } = operation.into_inner();
        let (attention, input) = (*attention, *input);
        let sink = Sink::open(epilogue.reborrow())?;
        let heads = Heads { shape: attention, parts: 1 };
        heads.run(self, to, &sink, |head, to| {
            vectors(
                #[inline(always)]
                || forward(heads.shape, head, input, to),
            );
        })
    }
}

impl<W, G> Run<AttendInput<'_, '_, HostSpace, G, W>> for Cpu
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
        let sink = Sink::open(epilogue.reborrow())?;
        let heads = Heads { shape: attention, parts: 3 };
        heads.run(self, to, &sink, |head, to| {
            vectors(
                #[inline(always)]
                || back(heads.shape, head, input, gradient, to),
            );
        })
    }
}

/// The heads of all sequences, and a result of one or three vectors per token and head.
#[derive(Clone, Copy)]
struct Heads {
    shape: Attention,
    parts: usize,
}

impl Heads {
    /// Results that are kept at a time, about; nothing depends on this.
    const KEPT: usize = 1 << 20;

    /// Computes the results head by head, and puts them in the order of their tokens.
    ///
    /// `work` computes those of one head: of every part, the vectors of all tokens.
    fn run<F: Element>(
        self,
        cpu: &Cpu,
        to: &mut [F],
        sink: &Sink<'_, F>,
        work: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<(), HostError> {
        // The extents of what is empty need not be those of any tensor.
        if to.is_empty() {
            return Ok(());
        }
        let Attention { tokens, heads, width, .. } = self.shape;
        let (of_token, of_head) = (self.parts * heads * width, self.parts * tokens * width);
        let of_sequence = heads * of_head;
        let sequences = Self::KEPT.div_ceil(of_sequence);
        let mut results = filled(to.len().min(sequences * of_sequence), 0.0)?;
        let size = CHUNK.div_ceil(of_token) * of_token;
        for (nth, to) in to.chunks_mut(sequences * of_sequence).enumerate() {
            let results = &mut results[..to.len()];
            let head = nth * sequences * heads;
            cpu.each_chunk(results, of_head, |nth, to| work(head + nth, to));
            let first = nth * sequences * of_sequence;
            cpu.each_chunk(to, size, |nth, to| {
                let mut values = Scratch::any(to.len());
                for (i, row) in values.chunks_exact_mut(of_token).enumerate() {
                    self.gather(results, nth * (size / of_token) + i, row);
                }
                sink.put(first + nth * size, &values, to);
            });
        }
        Ok(())
    }

    /// Copies the vectors of one token, of the sequences that `results` has.
    fn gather(self, results: &[f32], token: usize, to: &mut [f32]) {
        let Attention { tokens, heads, width, .. } = self.shape;
        let (sequence, token) = (token / tokens, token % tokens);
        for (vector, to) in to.chunks_exact_mut(width).enumerate() {
            let (part, head) = (vector / heads, vector % heads);
            let from = ((sequence * heads + head) * self.parts + part) * tokens + token;
            to.copy_from_slice(&results[from * width..][..width]);
        }
    }
}

/// Returns queries, keys or values of a head.
fn read<W: Element>(shape: Attention, head: usize, part: usize, input: &[W]) -> Vectors {
    let Attention { tokens, heads, width, .. } = shape;
    let first = (head / heads * tokens * 3 + part) * heads + head % heads;
    Vectors::read(&input[first * width..], width, 3 * heads * width, tokens)
}

#[inline(always)]
fn forward<W: Element>(shape: Attention, head: usize, input: &[W], to: &mut [f32]) {
    let Attention { tokens, width, .. } = shape;
    let [queries, keys, values] = [0, 1, 2].map(|part| read(shape, head, part, input));
    let head = Head::new(shape, queries, &keys);
    let (mut probabilities, mut sums) = (Vectors::any(1, tokens), Vectors::any(1, width));
    for (query, to) in to.chunks_exact_mut(width).enumerate() {
        head.probabilities(query, width, probabilities.of_mut(0));
        values.combine(&probabilities.of(0)[..=query], sums.of_mut(0));
        to.copy_from_slice(&sums.of(0)[..width]);
    }
}

#[inline(always)]
fn back<W: Element, G: Element>(
    shape: Attention,
    head: usize,
    input: &[W],
    gradient: &[G],
    to: &mut [f32],
) {
    let Attention { tokens, heads, width, .. } = shape;
    let [queries, keys, values] = [0, 1, 2].map(|part| read(shape, head, part, input));
    let first = head / heads * tokens * heads + head % heads;
    let gradients = Vectors::read(&gradient[first * width..], width, heads * width, tokens);
    let head = Head::new(shape, queries, &keys);
    let back = Back { shape, head, keys, values_across: values.across(width, tokens), gradients };

    let mut group = Group::new(tokens);
    let mut of_query = Vectors::any(1, width);
    let mut sums = [(); 2].map(|()| Vectors::zeroed(tokens, width));
    for first in (0..tokens).step_by(GROUP) {
        let count = GROUP.min(tokens - first);
        for nth in 0..count {
            back.query(first + nth, nth, &mut group, &mut of_query);
            to[(first + nth) * width..][..width].copy_from_slice(&of_query.of(0)[..width]);
        }
        for key in 0..first + count {
            back.key(key, first..first + count, &group, &mut sums);
        }
    }
    let rest = to[tokens * width..].chunks_exact_mut(width);
    let vectors = sums.iter().flat_map(|sums| (0..tokens).map(|token| sums.of(token)));
    for (to, vector) in rest.zip(vectors) {
        to.copy_from_slice(&vector[..width]);
    }
}

/// One head in the backward pass.
struct Back {
    shape: Attention,
    head: Head,
    keys: Vectors,
    values_across: Vectors,
    /// Of the output.
    gradients: Vectors,
}

impl Back {
    /// Computes the probabilities and slopes of a query, the `nth` of its group, and its gradient.
    #[inline(always)]
    fn query(&self, query: usize, nth: usize, group: &mut Group, gradient: &mut Vectors) {
        let width = self.shape.width;
        let (probabilities, slopes) = (group.probabilities.of_mut(nth), group.slopes.of_mut(nth));
        self.head.probabilities(query, width, probabilities);
        // The gradients of the probabilities, and then those of the scores before their division.
        self.values_across.combine(&self.gradients.of(query)[..width], &mut slopes[..lines(query)]);
        let (probabilities, slopes) = (&probabilities[..=query], &mut slopes[..=query]);
        let mean = lanes::sum_of([probabilities, slopes], |[p, above]| p * above);
        for (slope, p) in slopes.iter_mut().zip(probabilities) {
            *slope = p * (*slope - mean) / self.head.root;
        }
        self.keys.combine(slopes, gradient.of_mut(0));
    }

    /// Adds to the gradients of a key and of its value what the queries of a group give to them.
    #[inline(always)]
    fn key(&self, key: usize, queries: Range<usize>, group: &Group, to: &mut [Vectors; 2]) {
        let [slopes, probabilities] = group.of_key(key);
        let [of_key, of_value] = to.each_mut().map(|sums| sums.of_mut(key));
        if queries.len() == GROUP && key <= queries.start {
            self.head.queries.add_group(queries.start, slopes, of_key);
            self.gradients.add_group(queries.start, probabilities, of_value);
        } else {
            // A query before the key does not see it.
            for query in queries.start.max(key)..queries.end {
                let nth = query - queries.start;
                self.head.queries.add_one(query, slopes[nth], of_key);
                self.gradients.add_one(query, probabilities[nth], of_value);
            }
        }
    }
}

/// What some queries in a row give to the keys.
struct Group {
    probabilities: Vectors,
    /// The gradients of `query . key`.
    slopes: Vectors,
}

impl Group {
    fn new(tokens: usize) -> Self {
        let [probabilities, slopes] = [(); 2].map(|()| Vectors::any(GROUP, tokens));
        Self { probabilities, slopes }
    }

    /// Returns the slopes and the probabilities of one key.
    #[inline(always)]
    fn of_key(&self, key: usize) -> [[f32; GROUP]; 2] {
        [&self.slopes, &self.probabilities]
            .map(|vectors| [0, 1, 2, 3].map(|nth| vectors.of(nth)[key]))
    }
}
