//! What a tensor looks like: exact moments and extremes.
//!
//! A histogram is counted by an [`Epilogue`](crate::epilogue::Epilogue), in the same pass as anything
//! else.

use core::mem::offset_of;

use adaloss_core::{
    format::{Element, Format, Subnormals},
    statistics::Statistics,
};

use crate::{
    Block, Shared,
    block::{WARP, fold_warp, sum_warp},
    convert::widen,
    memory::{CHUNK, Chunks, Counters, elements_of, is_off},
    moments::{LIMBS, Limbs, MOST_TERMS, Sums, Window, magnitude},
};

/// Chunks that a thread takes before its sums are gathered, so that there is room for one more element.
const STRETCH: usize = MOST_TERMS / CHUNK - 1;

/// Adds the statistics of a tensor, with moments that are exact in any order, unless the predicate `when` is there and 0.
///
/// # Safety
///
/// `to` is what [`Counters::new`] asks for; `when` is NULL, or a word that nobody writes during the launch.
pub unsafe fn statistics<B: Block, F: Element>(
    block: &mut B,
    format: Format,
    values: &[F],
    to: *mut Statistics,
    when: *const u32,
) {
    // SAFETY: the caller's promise.
    if unsafe { is_off(when) } {
        return;
    }
    // SAFETY: the caller's promise.
    let Some(to) = (unsafe { Counters::new(to) }) else { return };
    let floor = match format.subnormals {
        Subnormals::Gradual => 1,
        Subnormals::Flush => F::ENCODING.min_normal_bits(),
    };
    let format = Format { encoding: F::ENCODING, ..format };
    let tensor = Tensor { values, chunks: Chunks::of(values), format, floor };
    let (limbs, threads) = (Limbs(block.shared()), block.threads() as usize);
    block.each(|thread| {
        (thread as usize..LIMBS).step_by(threads).for_each(|word| limbs.0.store(word, 0));
    });
    let mut begin = 0;
    loop {
        tensor.add_stretch(block, limbs, begin, to);
        begin += STRETCH * threads * block.blocks() as usize;
        if begin >= tensor.chunks.count() {
            return;
        }
    }
}

/// A tensor of which a thread takes every so many-th chunk.
#[derive(Clone, Copy)]
struct Tensor<'a, F> {
    values: &'a [F],
    chunks: Chunks,
    format: Format,
    /// The least magnitude that is not zero, as bits of an element.
    floor: u32,
}

impl<F: Element> Tensor<'_, F> {
    /// Adds the statistics of the first chunks of each thread's share, from the chunk `begin` on.
    ///
    /// The first stretch has the elements that are in no chunk, too.
    #[inline(always)]
    fn add_stretch<B: Block>(
        self,
        block: &mut B,
        limbs: Limbs<B::Shared>,
        begin: usize,
        to: Counters<'_, Statistics>,
    ) {
        let threads = block.threads() as usize;
        let (before, step) = (block.index() as usize * threads, block.blocks() as usize * threads);
        let greatest = block.each(|thread| {
            let chunk = self.chunk(begin + before + thread as usize);
            [if Window::is_fixed::<F>() { 0 } else { self.greatest(elements_of(chunk)) }]
        });
        let greatest = fold_warp(block, greatest, Ord::max);
        block.barrier();

        let met = block.map(&greatest, |thread, [greatest]| {
            let number = before + thread as usize;
            let mut met = Met::new::<F>(Window::about::<F>(greatest));
            let ragged = if begin == 0 { self.chunks.ragged(number) } else { None };
            if let Some(&x) = ragged.and_then(|index| self.values.get(index)) {
                met.observe(x, self.floor, limbs);
            }
            let (mut nth, mut left) = (begin + number, STRETCH);
            // A chunk is on its way while the one before it is summed.
            let mut ahead = self.chunk(nth);
            while nth < self.chunks.count() && left > 0 {
                let chunk = elements_of(ahead);
                // SAFETY: there is a chunk, the one before it.
                ahead = unsafe { self.chunks.read(self.values, nth + step) };
                if !met.observe_chunk::<B, F>(chunk, self.format, self.floor) {
                    let first = self.chunks.first(nth);
                    let values = self.values.get(first..first + CHUNK).unwrap_or_default();
                    values.iter().for_each(|&x| met.observe(x, self.floor, limbs));
                }
                (nth, left) = (nth + step, left - 1);
            }
            met
        });
        let sums = block.map(&met, |_, met: Met| met.sums);
        limbs.gather::<B, F>(block, &sums);
        let counts = block.map(&met, |_, Met { elements, nonfinite, zero, .. }| {
            [elements - nonfinite, nonfinite, zero]
        });
        let counts = sum_warp(block, counts);
        // The smallest magnitude is the complement of the largest complement.
        let extremes = block.map(&met, |_, Met { greatest, least, .. }| [greatest, !least]);
        let extremes = fold_warp(block, extremes, Ord::max);
        block.barrier();

        block.zip(&counts, &extremes, |thread, [finite, nonfinite, zero], [greatest, least]| {
            if thread % WARP == 0 {
                to.add::<B>(offset_of!(Statistics, nonfinite) / 8, nonfinite.into());
                to.add::<B>(offset_of!(Statistics, zero) / 8, zero.into());
                to.add::<B>(Statistics::COUNT_WORD, finite.into());
            }
            if thread % WARP == 0 && greatest > 0 {
                let [greatest, least] = [greatest, !least].map(|bits| F::ENCODING.widen(bits));
                to.raise::<B>(offset_of!(Statistics, max_bits) / 4, greatest.to_bits());
                to.lower::<B>(offset_of!(Statistics, min_bits) / 4, least.to_bits());
            }
            let words = (thread as usize..LIMBS).step_by(threads);
            words.for_each(|word| limbs.carry_home::<B>(word, to));
        });
    }

    /// Reads the words of a chunk, or of the last one for those beyond it; zeros where there is none.
    #[inline(always)]
    fn chunk(self, nth: usize) -> [u32; CHUNK] {
        if self.chunks.count() == 0 {
            return [0; CHUNK];
        }
        // SAFETY: they are those elements' chunks, and there is one.
        unsafe { self.chunks.read(self.values, nth) }
    }

    /// Returns the greatest finite magnitude of a chunk.
    #[inline(always)]
    fn greatest(self, chunk: [F; CHUNK]) -> u32 {
        let magnitudes = chunk.map(|x| magnitude::<F>(x.to_bits()));
        let finite =
            |magnitude| if magnitude > F::ENCODING.max_finite_bits() { 0 } else { magnitude };
        magnitudes.iter().fold(0, |greatest, &magnitude| finite(magnitude).max(greatest))
    }
}

/// What a thread met.
#[derive(Clone, Copy)]
struct Met {
    elements: u32,
    nonfinite: u32,
    zero: u32,
    /// The extremes of what is finite and not zero, as bits of an element.
    greatest: u32,
    least: u32,
    sums: Sums,
}

impl Met {
    #[inline(always)]
    fn new<F: Element>(window: Window) -> Self {
        let sums = Sums::new::<F>(window);
        Self { elements: 0, nonfinite: 0, zero: 0, greatest: 0, least: u32::MAX, sums }
    }

    /// Takes a chunk, unless there is something in it that the registers have no room for.
    #[inline(always)]
    fn observe_chunk<B: Block, F: Element>(
        &mut self,
        chunk: [F; CHUNK],
        format: Format,
        floor: u32,
    ) -> bool {
        let bits = chunk.map(F::to_bits);
        let (mut greatest, mut least, mut zero) = (0, u32::MAX, 0);
        // Over slices, here and below: the compiler unrolls them, and keeps no array in memory for them.
        for &bits in &bits {
            let magnitude = magnitude::<F>(bits);
            (greatest, least) = (magnitude.max(greatest), magnitude.min(least));
        }
        if least < floor {
            least = u32::MAX;
            for &bits in &bits {
                let magnitude = magnitude::<F>(bits);
                let is_zero = magnitude < floor;
                zero += u32::from(is_zero);
                least = if is_zero { least } else { magnitude.min(least) };
            }
            greatest = if greatest < floor { 0 } else { greatest };
        }
        if !self.sums.have_room(least, greatest) {
            return false;
        }
        self.elements += CHUNK as u32;
        self.zero += zero;
        (self.greatest, self.least) = (greatest.max(self.greatest), least.min(self.least));
        // What counts as zero is zero.
        let widened = widen::<B, F, CHUNK>(format, chunk);
        for &x in &widened {
            self.sums.add::<F>(x);
        }
        true
    }

    /// Takes an element.
    #[inline(always)]
    fn observe<F: Element, S: Shared>(&mut self, x: F, floor: u32, limbs: Limbs<S>) {
        self.elements += 1;
        let bits = x.to_bits();
        let magnitude = magnitude::<F>(bits);
        if magnitude > F::ENCODING.max_finite_bits() {
            self.nonfinite += 1;
        } else if magnitude < floor {
            self.zero += 1;
        } else {
            self.greatest = magnitude.max(self.greatest);
            self.least = magnitude.min(self.least);
            if self.sums.have_room(magnitude, magnitude) {
                self.sums.add::<F>(F::ENCODING.widen(bits));
            } else {
                limbs.add::<F>(bits);
            }
        }
    }
}
