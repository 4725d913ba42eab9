//! Sums in f64 of any number of terms, whose bits are the same whatever the shape of the launch.
//!
//! Of `p` parts, term `i` is of lane `i % 256` of part `i / 256 % p`.  A lane adds up its terms in the order of their index, from
//! +0; the lanes of a part are added in pairs, `l` and `l + 128` first, then `l` and `l + 64`, and so on; and so are the
//! parts, by another launch.  There are as many parts as the number of terms says, 256 at most.

use crate::{Block, Shared, block::Share};

/// Lanes of a part.
pub const LANES: usize = 256;

/// The most parts of a sum.
pub const PARTS: usize = 256;

/// Returns how many parts a sum of so many elements has: a lane has 32 of them, more where there are no more parts.
#[inline(always)]
pub const fn parts_of_elements(terms: usize) -> usize {
    least(terms.div_ceil(32 * LANES), PARTS)
}

/// Returns how many parts a sum of so many terms has that threads compute together.
#[inline(always)]
pub(crate) const fn parts_together(terms: usize, together_log2: u32) -> usize {
    let lanes_log2 = LANES.ilog2() - together_log2;
    least((terms + (1 << lanes_log2) - 1) >> lanes_log2, PARTS)
}

const fn least(one: usize, other: usize) -> usize {
    if one < other { one } else { other }
}

/// Adds up terms, part by part, on all blocks of a grid; each thread has something of its own that its terms may change.
///
/// # Safety
///
/// There is room for so many parts, and nobody else reads or writes it during the launch.
#[inline(always)]
pub(crate) unsafe fn sum_parts<B: Block, T: Copy>(
    block: &mut B,
    (terms, parts): (usize, usize),
    to: *mut f64,
    mut own: B::Each<T>,
    term: impl Fn(usize, &mut T) -> f64,
) -> B::Each<T> {
    let (shared, threads) = (block.shared(), block.threads() as usize);
    for part in Share::of(block.index() as usize..parts, block.blocks() as usize) {
        own = block.map(&own, |thread, mut own| {
            for lane in Share::of(thread as usize..LANES, threads) {
                let of_lane = Share::of(part * LANES + lane..terms, parts * LANES);
                store(shared, lane, of_lane.fold(0.0, |sum, index| sum + term(index, &mut own)));
            }
            own
        });
        sum_lanes(block);
        block.each(|thread| {
            if thread == 0 {
                // SAFETY: the caller's promise; the part is this block's alone.
                unsafe { to.add(part).write(load(shared, 0)) };
            }
        });
        block.barrier();
    }
    own
}

/// Is [`sum_parts`] of terms that so many threads compute together, a power of two up to [`WARP`](crate::block::WARP): of that
/// fewer lanes, `l`, term `i` is of lane `i % l` of part `i / l % p`.
///
/// All threads of a block come to the work at the same time, each with the number of a term, or that of the last one again, for which no
/// others count; the first of those who compute a term has to have it.
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(crate) unsafe fn sum_parts_together<B: Block, T: Copy>(
    block: &mut B,
    (terms, parts): (usize, usize),
    together_log2: u32,
    to: *mut f64,
    mut own: B::Each<T>,
    term: impl Fn(&mut B, &B::Each<Term>, &B::Each<T>) -> B::Each<(f64, T)>,
) -> B::Each<T> {
    let (shared, threads) = (block.shared(), block.threads() as usize);
    let (lanes, at_a_time) = (LANES >> together_log2, threads >> together_log2);
    for part in Share::of(block.index() as usize..parts, block.blocks() as usize) {
        block.each(|thread| {
            for lane in Share::of(thread as usize..LANES, threads) {
                store(shared, lane, 0.0);
            }
        });
        block.barrier();
        for first in Share::of(part * lanes..terms, parts * lanes) {
            for first_lane in Share::of(0..lanes, at_a_time) {
                let which = block.each(|thread| {
                    let lane = first_lane + (thread as usize >> together_log2);
                    let index = first + lane;
                    let is_own = lane < lanes && index < terms;
                    Term { index: if is_own { index } else { terms - 1 }, lane, is_own }
                });
                let found = term(block, &which, &own);
                own = block.zip(&which, &found, |thread, Term { lane, is_own, .. }, (x, own)| {
                    if is_own && thread & ((1 << together_log2) - 1) == 0 {
                        store(shared, lane, load(shared, lane) + x);
                    }
                    own
                });
                // It tells the assembler that the block stays together in this loop, which it doubts otherwise.
                block.barrier();
            }
        }
        sum_lanes(block);
        block.each(|thread| {
            if thread == 0 {
                // SAFETY: the caller's promise; the part is this block's alone.
                unsafe { to.add(part).write(load(shared, 0)) };
            }
        });
        block.barrier();
    }
    own
}

/// A term that threads compute together.
#[derive(Clone, Copy)]
pub(crate) struct Term {
    /// Its number.
    pub(crate) index: usize,
    lane: usize,
    /// Whether it counts here.
    pub(crate) is_own: bool,
}

/// Adds up the parts of a sum: all threads of a block together, each of which has the result.
///
/// # Safety
///
/// The parts are there and nobody writes them during the launch.
#[inline(always)]
pub(crate) unsafe fn sum_of_parts<B: Block>(
    block: &mut B,
    parts: *const f64,
    count: usize,
) -> B::Each<f64> {
    let (shared, threads) = (block.shared(), block.threads() as usize);
    block.each(|thread| {
        for lane in Share::of(thread as usize..LANES, threads) {
            // SAFETY: the caller's promise.
            let part = if lane < count { unsafe { *parts.add(lane) } } else { 0.0 };
            store(shared, lane, part);
        }
    });
    sum_lanes(block);
    block.barrier();
    let sum = block.each(|_| load(shared, 0));
    block.barrier();
    sum
}

/// Adds sums to numbers, each from the [`PARTS`] that are behind those of the one before, of which so many count; one block
/// does it.
///
/// # Safety
///
/// The parts are there, and the numbers, which nobody else reads or writes during the launch.
pub unsafe fn add_sums<B: Block>(
    block: &mut B,
    parts: *const f64,
    part_count: usize,
    count: usize,
    to: *mut f64,
) {
    if block.index() > 0 {
        return;
    }
    for nth in 0..count {
        // SAFETY: the caller's promise.
        let sum = unsafe { sum_of_parts(block, parts.add(PARTS * nth), part_count) };
        block.map(&sum, |thread, sum| {
            if thread == 0 {
                // SAFETY: the caller's promise; one thread of the launch comes here.
                unsafe { *to.add(nth) += sum };
            }
        });
    }
}

/// Adds up what the lanes have stored, into the first; thread 0 sees it.
#[inline(always)]
fn sum_lanes<B: Block>(block: &mut B) {
    let (shared, threads) = (block.shared(), block.threads() as usize);
    let mut width = LANES / 2;
    while width > 0 {
        block.barrier();
        block.each(|thread| {
            for lane in Share::of(thread as usize..width, threads) {
                store(shared, lane, load(shared, lane) + load(shared, lane + width));
            }
        });
        width /= 2;
    }
}

/// Stores a number in shared memory, as a pair of words.
#[inline(always)]
pub(crate) fn store(shared: impl Shared, lane: usize, x: f64) {
    let bits = x.to_bits();
    shared.store_wide(lane, [bits as u32, (bits >> 32) as u32]);
}

/// Loads what [`store`] has stored.
#[inline(always)]
pub(crate) fn load(shared: impl Shared, lane: usize) -> f64 {
    let [low, high] = [shared.load(2 * lane), shared.load(2 * lane + 1)];
    f64::from_bits(u64::from(high) << 32 | u64::from(low))
}
