//! What a tensor looks like: exact moments and extremes.
//!
//! A histogram is counted by an [`Epilogue`](crate::epilogue::Epilogue), in the same pass as anything
//! else.

use core::mem::offset_of;

use adaloss_core::{
    format::{Element, Format},
    statistics::{Moments, Statistics},
};

use crate::{
    Block, Shared,
    block::{WARP, fold_warp, share, sum_warp},
    memory::Counters,
};

/// Positions of [`Moments::term`].
const POSITIONS: usize = 254;

/// What is summed per position, in pairs of words of shared memory: positive and negative terms, and
/// the lower and upper 24 bits of squares.  In 64 bits none of them wraps before 2^40 elements.
const SUMS: usize = 4;

/// Adds the statistics of a tensor, with moments that are exact in any order.
///
/// # Safety
///
/// `to` is what [`Counters::new`] asks for.
pub unsafe fn statistics<B: Block, F: Element>(
    block: &mut B,
    format: Format,
    values: &[F],
    to: *mut Statistics,
) {
    let format = Format { encoding: F::ENCODING, ..format };
    let (shared, threads) = (block.shared(), block.threads() as usize);
    block.each(|thread| {
        let words = (thread as usize..2 * SUMS * POSITIONS).step_by(threads);
        words.for_each(|word| shared.store(word, 0));
    });
    block.barrier();

    let of = share(block, values.len());
    let tallies = block.each(|thread| {
        let (mut nonfinite, mut zero, mut finite) = (0, 0, 0);
        let (mut greatest, mut least) = (0, u32::MAX);
        for index in of(thread) {
            let Some(x) = values.get(index) else { break };
            let x = format.widen(x.to_bits());
            if !x.is_finite() {
                nonfinite += 1;
                continue;
            }
            finite += 1;
            let magnitude = x.to_bits() & 0x7fff_ffff;
            if magnitude == 0 {
                zero += 1;
                continue;
            }
            (greatest, least) = (magnitude.max(greatest), magnitude.min(least));
            let (term, position) = Moments::term(x);
            let sums = SUMS * position as usize;
            shared.add_wide(sums + usize::from(x.is_sign_negative()), term.into());
            let square = u64::from(term) * u64::from(term);
            shared.add_wide(sums + 2, square & 0xff_ffff);
            shared.add_wide(sums + 3, square >> 24);
        }
        // The smallest magnitude is the complement of the largest complement.
        ([nonfinite, zero, finite], [greatest, !least])
    });
    let counts = block.map(&tallies, |_, (counts, _)| counts);
    let counts = sum_warp(block, counts);
    let extremes = block.map(&tallies, |_, (_, extremes)| extremes);
    let extremes = fold_warp(block, extremes, Ord::max);
    block.barrier();

    // SAFETY: the caller's promise.
    let Some(to) = (unsafe { Counters::new(to) }) else { return };
    block.zip(&counts, &extremes, |thread, [nonfinite, zero, finite], [greatest, least]| {
        if thread % WARP == 0 {
            to.add::<B>(offset_of!(Statistics, nonfinite) / 8, nonfinite.into());
            to.add::<B>(offset_of!(Statistics, zero) / 8, zero.into());
            to.add::<B>(Statistics::COUNT_WORD, finite.into());
            to.raise::<B>(offset_of!(Statistics, max_bits) / 4, greatest);
            to.lower::<B>(offset_of!(Statistics, min_bits) / 4, !least);
        }
        for position in (thread as usize..POSITIONS).step_by(threads) {
            let sum = |nth| shared.load_wide(SUMS * position + nth);
            let at = position as u32;
            to.add_exact::<B, 6>(Statistics::SUM_WORD, sum(0), at, false);
            to.add_exact::<B, 6>(Statistics::SUM_WORD, sum(1), at, true);
            to.add_exact::<B, 10>(Statistics::SQUARES_WORD, sum(2), 2 * at, false);
            to.add_exact::<B, 10>(Statistics::SQUARES_WORD, sum(3), 2 * at + 24, false);
        }
    });
}
