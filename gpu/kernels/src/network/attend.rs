//! Causal attention by tiles of 32 queries and 32 keys, whose scores are computed wherever they are needed: no matrix of them is in
//! memory, and no result has other bits than the portable device's.
//!
//! A query's softmax needs the greatest of its scores first, then their total, and the backward pass the mean gradient of
//! its probabilities: three numbers of each query, which [`totals`] leaves for the launch behind it.
//!
//! ```text
//! totals         of a query     max = max(score);  total = sum(exp(score - max));  mean = sum(p * gradient of p)
//! attend         of a query     sum(p * value)                        p = exp(score - max) / total
//! attend_input   of a query     sum(slope * key)                      slope = p * (gradient of p - mean) / sqrt(width)
//!                of a key       sum(slope * query)
//!                of a value     sum(p * gradient)
//! ```
//!
//! Each sum is one thread's, in the order of the tokens.  A score is a product of two vectors, 16 features at a time.

use adaloss_core::{format::Element, statistics::Classes};

use super::{operand::Operand, sliding::split};
use crate::{
    Block, Shared,
    epilogue::{Epilogue, Sink, Tally},
    memory::{Out, is_off},
    tiles::{self, Room},
};

/// Heads over tokens.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Attention {
    /// Sequences.
    pub batch: usize,
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

/// Numbers that [`totals`] leaves of each query of each head.
pub const TOTALS: usize = 3;

/// Tokens of a tile.
const SIDE: usize = 32;

/// Features of two vectors that are multiplied at a time, and of results that a block computes at a time.
const DEPTH: usize = 16;
const CHUNK: usize = tiles::SIDE;

/// Neighbouring scores of a query that a thread computes, and how many threads there are beside each other.
const FOUR: usize = 4;
const ACROSS: usize = SIDE / FOUR;

/// Features of a result that a thread computes: four, and four half a piece on, so that neighbours read what lies side by side.
const EIGHT: usize = CHUNK / ACROSS;

const _: () = assert!(tiles::THREADS as usize == SIDE * ACROSS);

/// Words of shared memory, behind the counters of a histogram: the scores of a tile, or what is made of them; the factors of
/// scores, or vectors that are summed; and the totals of a tile's queries.
const SCORES: usize = Classes::COUNT;
const ROW: usize = SIDE + 1;
const LEFT: usize = SCORES + SIDE * ROW;
const STRIDE: usize = SIDE + FOUR;
const RIGHT: usize = LEFT + DEPTH * STRIDE;
const VECTORS: usize = LEFT;
const VECTOR: usize = CHUNK + FOUR;
const OF_QUERIES: usize = RIGHT + DEPTH * STRIDE;

const _: () = assert!(LEFT.is_multiple_of(FOUR) && VECTORS + DEPTH * VECTOR <= OF_QUERIES);
const _: () = assert!(OF_QUERIES + TOTALS * SIDE <= crate::block::SHARED_WORDS);

impl Attention {
    /// Returns how many tiles of queries there are, which is how many blocks have work in [`totals`].
    pub const fn tiles(&self) -> usize {
        self.batch * self.heads * self.tokens.div_ceil(SIDE)
    }

    /// Returns how many pieces [`attend`] computes, and [`attend_input`] three times as many.
    pub const fn pieces(&self) -> usize {
        self.tiles() * self.width.div_ceil(CHUNK)
    }

    /// Returns how many numbers [`totals`] leaves.
    pub const fn total_count(&self) -> usize {
        TOTALS * self.batch * self.tokens * self.heads
    }

    /// Returns the first feature of a piece, and its tile.
    #[inline(always)]
    fn piece(&self, nth: usize) -> (usize, Tile) {
        let (nth, chunk) = split(nth, self.width.div_ceil(CHUNK));
        (CHUNK * chunk, self.tile(nth))
    }

    /// Returns a tile by its number.
    #[inline(always)]
    fn tile(&self, nth: usize) -> Tile {
        let (head, tile) = split(nth, self.tokens.div_ceil(SIDE));
        let (sequence, nth) = split(head, self.heads);
        Tile { of: *self, sequence, nth, first: SIDE * tile }
    }

    /// Returns `sqrt(width)`.
    #[inline(always)]
    fn root<B: Block>(&self) -> f32 {
        B::root(self.width as f32)
    }
}

/// A head of a sequence, and the first of a tile's tokens.
#[derive(Clone, Copy)]
struct Tile {
    of: Attention,
    sequence: usize,
    nth: usize,
    first: usize,
}

/// Vectors of a head, one for each token.
#[derive(Clone, Copy)]
struct Vectors {
    elements: Operand,
    /// The place of the first one, and how far apart they are.
    first: usize,
    step: usize,
}

impl Tile {
    /// Returns the vectors of a part of the input.
    #[inline(always)]
    const fn input(&self, part: usize) -> Vectors {
        let Attention { tokens, heads, width, input, .. } = self.of;
        let first = ((self.sequence * tokens * 3 + part) * heads + self.nth) * width;
        Vectors { elements: input, first, step: 3 * heads * width }
    }

    /// Returns the vectors of the output, or of its gradient.
    #[inline(always)]
    const fn output(&self, elements: Operand) -> Vectors {
        let Attention { tokens, heads, width, .. } = self.of;
        let first = (self.sequence * tokens * heads + self.nth) * width;
        Vectors { elements, first, step: heads * width }
    }

    /// Returns where the totals of a query are.
    #[inline(always)]
    const fn totals(&self, query: usize) -> usize {
        let Attention { tokens, heads, .. } = self.of;
        TOTALS * ((self.sequence * tokens + query) * heads + self.nth)
    }
}

/// Returns how many keys of a tile a query sees: those up to it.
#[inline(always)]
const fn seen(query: usize, first_key: usize) -> usize {
    let seen = (query + 1).saturating_sub(first_key);
    if seen < SIDE { seen } else { SIDE }
}

/// Returns line and column of a thread's first score, or of its results.
#[inline(always)]
const fn place(thread: u32) -> [usize; 2] {
    [thread as usize / ACROSS, thread as usize % ACROSS]
}

/// Multiplies the vectors of a tile's lines by those of its columns: four products of each thread.
///
/// # Safety
///
/// The vectors are there, and nobody writes them during the launch.
#[inline(always)]
unsafe fn products<B: Block>(
    block: &mut B,
    of: &Attention,
    [left, right]: [Vectors; 2],
    [line, column]: [usize; 2],
) -> B::Each<[f32; FOUR]> {
    let shared = block.shared();
    let mut sums = block.each(|_| [0.0; FOUR]);
    let mut first = 0;
    while first < of.width {
        // All threads have done with what was there.
        block.barrier();
        // SAFETY: the caller's promise.
        unsafe {
            bring(block, LEFT, left, line, (first, of));
            bring(block, RIGHT, right, column, (first, of));
        }
        block.barrier();
        sums = block.map(&sums, |thread, mut sums| {
            let [down, across] = place(thread);
            for term in 0..DEPTH {
                let a = f32::from_bits(shared.load(LEFT + term * STRIDE + down));
                let [b, c, d, e] =
                    shared.load_four((RIGHT + term * STRIDE) / FOUR + across).map(f32::from_bits);
                let [f, g, h, i] = sums;
                sums = [f + a * b, g + a * c, h + a * d, i + a * e];
            }
            sums
        });
        first += DEPTH;
    }
    sums
}

/// Brings features of a tile's vectors, and zeros behind the last; beyond the last token that one again, whose products nobody
/// takes.
///
/// # Safety
///
/// As for [`products`].
#[inline(always)]
unsafe fn bring<B: Block>(
    block: &mut B,
    room: usize,
    of: Vectors,
    token: usize,
    (first, attention): (usize, &Attention),
) {
    let (shared, &Attention { tokens, width, .. }) = (block.shared(), attention);
    block.each(|thread| {
        let [line, pair] = place(thread);
        let vector = of.first + of.step * (token + line).min(tokens - 1);
        let place = |nth: usize| {
            let feature = first + 2 * pair + nth;
            (feature < width).then_some(vector + feature)
        };
        // SAFETY: the caller's promise.
        let [a, b] = unsafe { of.elements.read_all([place(0), place(1)]) };
        let word = room + 2 * pair * STRIDE + line;
        shared.store(word, a.to_bits());
        shared.store(word + STRIDE, b.to_bits());
    });
}

/// Leaves what threads have made of their scores for all threads.
#[inline(always)]
fn leave<B: Block>(block: &mut B, scores: &B::Each<[f32; FOUR]>) {
    let shared = block.shared();
    block.map(scores, |thread, [a, b, c, d]| {
        let [down, across] = place(thread);
        let word = SCORES + down * ROW + FOUR * across;
        shared.store(word, a.to_bits());
        shared.store(word + 1, b.to_bits());
        shared.store(word + 2, c.to_bits());
        shared.store(word + 3, d.to_bits());
    });
}

/// Computes the totals of every query, each by one thread; without a gradient, which is NULL then, none of them is a mean.
///
/// # Safety
///
/// Input and gradient are there and nobody writes them during the launch; there is room for the
/// [totals](Attention::total_count), which nobody else reads or writes; and the predicate is NULL, or a word that nobody writes
/// during the launch.  The block has 256 threads.
pub unsafe fn totals<B: Block>(
    block: &mut B,
    of: &Attention,
    gradient: Operand,
    to: *mut f32,
    when: *const u32,
) {
    // SAFETY: the caller's promise.
    if unsafe { is_off(when) } {
        return;
    }
    let shared = block.shared();
    let passes = if gradient.first().is_null() { 2 } else { TOTALS };
    let mut nth = block.index() as usize;
    while nth < of.tiles() {
        let tile = of.tile(nth);
        let mut pass = 0;
        while pass < passes {
            let begin = if pass == 0 { f32::NEG_INFINITY } else { 0.0 };
            let mut found = block.each(|_| begin);
            let mut first_key = 0;
            while first_key <= tile.first {
                let at = [tile.first, first_key];
                let of_scores = [tile.input(QUERIES), tile.input(KEYS)];
                // SAFETY: the caller's promise.
                let scores = unsafe { products(block, of, of_scores, at) };
                let root = of.root::<B>();
                let values = if pass == 2 {
                    let of_slopes = [tile.output(gradient), tile.input(VALUES)];
                    // SAFETY: as above.
                    let slopes = unsafe { products(block, of, of_slopes, at) };
                    block.zip(&scores, &slopes, |thread, scores, slopes: [f32; FOUR]| {
                        let softmax = Softmax::of(shared, place(thread)[0]);
                        let [a, b, c, d] = scores.map(|score| softmax.probability(score / root));
                        let [e, f, g, h] = slopes;
                        [a * e, b * f, c * g, d * h]
                    })
                } else {
                    block.map(&scores, |thread, scores| {
                        let scores = scores.map(|score| score / root);
                        match pass {
                            0 => scores,
                            _ => {
                                let max = total(shared, 0, place(thread)[0]);
                                scores.map(|score| libm::expf(score - max))
                            }
                        }
                    })
                };
                leave(block, &values);
                block.barrier();
                found = block.map(&found, |thread, mut found| {
                    let row = thread as usize;
                    if row < SIDE {
                        for key in 0..seen(tile.first + row, first_key) {
                            let value = f32::from_bits(shared.load(SCORES + row * ROW + key));
                            // A NaN that the maximum leaves out is still in the total.
                            found = if pass == 0 { found.max(value) } else { found + value };
                        }
                    }
                    found
                });
                first_key += SIDE;
            }
            block.map(&found, |thread, found| {
                let row = thread as usize;
                if row < SIDE {
                    shared.store(OF_QUERIES + SIDE * pass + row, found.to_bits());
                    if tile.first + row < of.tokens {
                        // SAFETY: the caller's promise; a query is one thread's.
                        unsafe { to.add(tile.totals(tile.first + row) + pass).write(found) };
                    }
                }
            });
            block.barrier();
            pass += 1;
        }
        nth += block.blocks() as usize;
    }
}

/// Returns one of the totals of a tile's query.
#[inline(always)]
fn total(shared: impl Shared, nth: usize, line: usize) -> f32 {
    f32::from_bits(shared.load(OF_QUERIES + SIDE * nth + line))
}

/// What a score of a query is compared with to become a probability.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    total: f32,
}

impl Softmax {
    /// Returns that of a line of the tile.
    #[inline(always)]
    fn of(shared: impl Shared, line: usize) -> Self {
        Self { max: total(shared, 0, line), total: total(shared, 1, line) }
    }

    /// Returns the probability of a key with this score.
    #[inline(always)]
    fn probability(self, score: f32) -> f32 {
        libm::expf(score - self.max) / self.total
    }
}

/// Brings the totals of a tile's queries.
///
/// # Safety
///
/// They are there, and nobody writes them during the launch.
#[inline(always)]
unsafe fn bring_totals<B: Block>(block: &mut B, tile: Tile, first: usize, totals: *const f32) {
    let shared = block.shared();
    block.each(|thread| {
        let (row, nth) = (thread as usize % SIDE, thread as usize / SIDE);
        if nth < TOTALS {
            let query = (first + row).min(tile.of.tokens - 1);
            // SAFETY: the caller's promise.
            let total = unsafe { *totals.add(tile.totals(query) + nth) };
            shared.store(OF_QUERIES + SIDE * nth + row, total.to_bits());
        }
    });
}

/// The sums of a thread.
type Features = [f32; EIGHT];

/// Adds to each line the vectors of some tokens, each times the factor that was left for both: those that are `within` of the
/// line, as a first one and an end.
///
/// # Safety
///
/// The vectors are there, and nobody writes them during the launch.
#[inline(always)]
unsafe fn accumulate<B: Block>(
    block: &mut B,
    of: &Attention,
    (vectors, token, chunk): (Vectors, usize, usize),
    lines_are_queries: bool,
    within: impl Fn(usize) -> [usize; 2],
    sums: B::Each<Features>,
) -> B::Each<Features> {
    let (shared, &Attention { tokens, width, .. }) = (block.shared(), of);
    let mut sums = sums;
    let mut first = 0;
    while first < SIDE {
        // All threads have left their factors, and have done with the vectors before.
        block.barrier();
        block.each(|thread| {
            let (line, four) = (thread as usize / DEPTH, thread as usize % DEPTH);
            let vector = vectors.first + vectors.step * (token + first + line).min(tokens - 1);
            let place = |nth: usize| {
                let feature = chunk + FOUR * four + nth;
                (feature < width).then_some(vector + feature)
            };
            let places = [place(0), place(1), place(2), place(3)];
            // SAFETY: the caller's promise.
            let values = unsafe { vectors.elements.read_all(places) };
            tiles::store_four(shared, VECTORS + line * VECTOR + FOUR * four, values);
        });
        block.barrier();
        sums = block.map(&sums, |thread, mut sums| {
            let [line, across] = place(thread);
            let [begin, end] = within(line);
            for nth in 0..DEPTH {
                let other = first + nth;
                if other < begin || other >= end {
                    continue;
                }
                let factor = match lines_are_queries {
                    true => SCORES + line * ROW + other,
                    false => SCORES + other * ROW + line,
                };
                let factor = f32::from_bits(shared.load(factor));
                let four = (VECTORS + nth * VECTOR) / FOUR + across;
                let [a, b, c, d] = shared.load_four(four).map(f32::from_bits);
                let [e, f, g, h] = shared.load_four(four + ACROSS).map(f32::from_bits);
                let [i, j, k, l, m, n, o, p] = sums;
                sums = [
                    i + factor * a,
                    j + factor * b,
                    k + factor * c,
                    l + factor * d,
                    m + factor * e,
                    n + factor * f,
                    o + factor * g,
                    p + factor * h,
                ];
            }
            sums
        });
        first += DEPTH;
    }
    sums
}

/// Puts the results of a tile where they belong; returns what was counted.
///
/// # Safety
///
/// Nobody else reads or writes their places during the launch.
#[inline(always)]
unsafe fn put<B: Block, F: Element>(
    block: &mut B,
    of: &Attention,
    (token, chunk): (usize, usize),
    to: (Vectors, Out<'_, F>),
    sink: &Sink<'_, F>,
    (tallies, sums): (B::Each<Tally>, &B::Each<Features>),
) -> B::Each<Tally> {
    let shared = block.shared();
    // All threads have done with what was there.
    block.barrier();
    block.map(sums, |thread, [a, b, c, d, e, f, g, h]| {
        let [line, across] = place(thread);
        let word = tiles::LEFT + line * tiles::STRIDE + FOUR * across;
        tiles::store_four(shared, word, [a, b, c, d]);
        tiles::store_four(shared, word + CHUNK / 2, [e, f, g, h]);
    });
    block.barrier();
    let (vectors, to) = to;
    let room = Room {
        rows: of.tokens.saturating_sub(token),
        columns: of.width.saturating_sub(chunk),
        first: vectors.first + vectors.step * token + chunk,
        step: vectors.step,
        by_fours: of.width.is_multiple_of(FOUR),
    };
    // SAFETY: the caller's promise.
    let tallies =
        unsafe { tiles::put_rows(block, room, sink, tallies, to, (|| false, |_, _| 0.0)) };
    block.barrier();
    tallies
}

/// Computes the attention, narrowed as the epilogue says.
///
/// # Safety
///
/// The input is there and nobody writes it during the launch; [`totals`] has left the totals of the queries; results and epilogue
/// are as [`apply`](crate::apply::apply) asks for.  The block has [`THREADS`](tiles::THREADS).
pub unsafe fn attend<B: Block, F: Element>(
    block: &mut B,
    of: &Attention,
    totals: *const f32,
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise.
    if unsafe { epilogue.is_off() } {
        return;
    }
    // SAFETY: the caller's promise.
    let sink = unsafe { Sink::<F>::open(block, epilogue) };
    let (shared, root) = (block.shared(), of.root::<B>());
    let mut tallies = block.each(|_| Tally::EMPTY);
    let mut nth = block.index() as usize;
    while nth < of.pieces() {
        let (chunk, tile) = of.piece(nth);
        // SAFETY: the caller's promise, here and below.
        unsafe { bring_totals(block, tile, tile.first, totals) };
        let mut sums = block.each(|_| [0.0; EIGHT]);
        let mut key = 0;
        while key <= tile.first {
            let of_scores = [tile.input(QUERIES), tile.input(KEYS)];
            // SAFETY: as above.
            let scores = unsafe { products(block, of, of_scores, [tile.first, key]) };
            let probabilities = block.map(&scores, |thread, scores| {
                let softmax = Softmax::of(shared, place(thread)[0]);
                scores.map(|score| softmax.probability(score / root))
            });
            leave(block, &probabilities);
            let within = |line: usize| [0, seen(tile.first + line, key)];
            let values = (tile.input(VALUES), key, chunk);
            // SAFETY: as above.
            sums = unsafe { accumulate(block, of, values, true, within, sums) };
            key += SIDE;
        }
        let to = (tile.output(of.input), to);
        // SAFETY: as above; a piece is one block's.
        tallies = unsafe { put(block, of, (tile.first, chunk), to, &sink, (tallies, &sums)) };
        nth += block.blocks() as usize;
    }
    sink.close(block, &tallies);
}

/// Computes the gradient of the input, narrowed as the epilogue says.
///
/// # Safety
///
/// As for [`attend`], and for the gradient of the output, with which the totals were computed.
pub unsafe fn attend_input<B: Block, F: Element>(
    block: &mut B,
    of: &Attention,
    gradient: Operand,
    totals: *const f32,
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise.
    if unsafe { epilogue.is_off() } {
        return;
    }
    // SAFETY: the caller's promise.
    let sink = unsafe { Sink::<F>::open(block, epilogue) };
    let (shared, root) = (block.shared(), of.root::<B>());
    let mut tallies = block.each(|_| Tally::EMPTY);
    let mut nth = block.index() as usize;
    while nth < 3 * of.pieces() {
        let (piece, part) = split(nth, 3);
        let (chunk, tile) = of.piece(piece);
        let of_queries = part == QUERIES;
        let mut sums = block.each(|_| [0.0; EIGHT]);
        // Of queries, over the keys up to it; of keys and values, over the queries from it on.
        let (mut other, end) =
            if of_queries { (0, tile.first + 1) } else { (tile.first, of.tokens) };
        while other < end {
            let at = if of_queries { [tile.first, other] } else { [other, tile.first] };
            let [query, key] = at;
            // SAFETY: the caller's promise, here and below.
            unsafe { bring_totals(block, tile, query, totals) };
            let of_scores = [tile.input(QUERIES), tile.input(KEYS)];
            // SAFETY: as above.
            let scores = unsafe { products(block, of, of_scores, at) };
            let factors = if part == VALUES {
                block.map(&scores, |thread, scores| {
                    let softmax = Softmax::of(shared, place(thread)[0]);
                    scores.map(|score| softmax.probability(score / root))
                })
            } else {
                let of_slopes = [tile.output(gradient), tile.input(VALUES)];
                // SAFETY: as above.
                let slopes = unsafe { products(block, of, of_slopes, at) };
                block.zip(&scores, &slopes, |thread, scores, slopes: [f32; FOUR]| {
                    let softmax = Softmax::of(shared, place(thread)[0]);
                    let mean = total(shared, 2, place(thread)[0]);
                    let [a, b, c, d] = scores.map(|score| softmax.probability(score / root));
                    let [e, f, g, h] = slopes.map(|slope| slope - mean);
                    [a * e / root, b * f / root, c * g / root, d * h / root]
                })
            };
            leave(block, &factors);
            let vectors = match part {
                QUERIES => tile.input(KEYS),
                KEYS => tile.input(QUERIES),
                _ => tile.output(gradient),
            };
            let within = |line: usize| match of_queries {
                true => [0, seen(query + line, key)],
                false => [(key + line).saturating_sub(query), of.tokens - query],
            };
            let vectors = (vectors, other, chunk);
            // SAFETY: as above.
            sums = unsafe { accumulate(block, of, vectors, of_queries, within, sums) };
            other += SIDE;
        }
        let to = (tile.input(part), to);
        // SAFETY: as above; a piece is one block's.
        tallies = unsafe { put(block, of, (tile.first, chunk), to, &sink, (tallies, &sums)) };
        nth += block.blocks() as usize;
    }
    sink.close(block, &tallies);
}
