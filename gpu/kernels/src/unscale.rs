//! Back to f32: scales are taken out of many tensors in one launch, and the step is judged.

use core::{array, mem::offset_of};

use adaloss_core::{
    format::{Element, Format},
    policy::Cell,
    unscale::{Unscaled, least_exact},
};

use crate::{
    Block,
    block::{Share, WARP, sum_warp},
    convert::widen,
    memory::{CHUNK, Counters, NOTHING, Out, chunks_in_tiles, halves, has_chunks, read_halves},
    nearest::magnitude,
};

/// One gradient that is unscaled.
#[derive(Debug)]
#[repr(C)]
pub struct Gradient<F> {
    /// The first element.
    pub from: *const F,
    /// The first f32 that is written; any address where nothing is.
    pub to: *mut f32,
    /// Elements of either.
    pub count: usize,
    /// The cell whose scale the gradient carries.
    pub cell: *const Cell,
    /// Takes what was met.
    pub met: *mut Unscaled,
}

impl<F> Clone for Gradient<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Gradient<F> {}

/// The part of a gradient that one block unscales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Part {
    /// Which gradient.
    pub gradient: u32,
    /// The part's number: it begins at that many times [`PART`].
    pub part: u32,
}

impl Part {
    /// Returns where a thread, one of so many, finds the chunks of this part of a tensor with so many
    /// elements, which are to be taken in [`halves`], and the elements that are in none.
    #[inline(always)]
    pub(crate) fn places(
        self,
        count: usize,
        by_chunks: bool,
    ) -> [impl Fn(u32, usize) -> Share + Copy; 2] {
        let begin = self.part as usize * PART;
        let end = count.min(begin.saturating_add(PART));
        let chunks = chunks_in_tiles(end.saturating_sub(begin), by_chunks);
        let places = |first: usize, size: usize, end: usize| {
            move |thread: u32, threads: usize| {
                Share::of(first + size * thread as usize..end, size * threads)
            }
        };
        let rest = begin + CHUNK * chunks;
        [places(begin, CHUNK, rest), places(rest, 1, end)]
    }
}

/// Calls a function with each part that is a block's: every so many-th of all.
#[inline(always)]
pub(crate) fn each_part<B: Block>(block: &mut B, parts: &[Part], work: impl Fn(&mut B, Part)) {
    let (mut nth, step) = (block.index() as usize, block.blocks() as usize);
    while let Some(&part) = parts.get(nth) {
        nth += step;
        work(block, part);
    }
}

/// Elements of a [`Part`], all but the last of a gradient.
pub const PART: usize = 1 << 16;

/// Returns the parts of gradients with so many elements each.
///
/// A host fills a table with them once, and launches as many blocks as it likes.
pub fn parts(counts: impl Iterator<Item = usize>) -> impl Iterator<Item = Part> {
    (0..).zip(counts).flat_map(|(gradient, count)| {
        (0..count.div_ceil(PART) as u32).map(move |part| Part { gradient, part })
    })
}

/// How an unscaled gradient is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Into {
    /// Over what was there.
    Place,
    /// Added to what was there: the gradient of another micro-batch.
    Sum,
    /// Nowhere: only counted, for a step that reads the gradients again.
    Nothing,
}

/// Unscales the parts of gradients: each element widened, multiplied by `2^-K`, and counted.
///
/// `bad` takes the number of elements that are not finite, of all gradients together: while it is
/// zero, the step is usable.  With [`Into::Sum`] an element counts as it is before it is added; a sum that
/// leaves f32 counts as not finite, too.
///
/// # Safety
///
/// Everything that the parts name is there and initialised; nobody else reads or writes results, counts
/// and `bad` during the launch, and each part is named once.
pub unsafe fn unscale<B: Block, F: Element>(
    block: &mut B,
    format: Format,
    gradients: &[Gradient<F>],
    parts: &[Part],
    into: Into,
    bad: *mut u64,
) {
    each_part(block, parts, |block, part| {
        if let Some(gradient) = gradients.get(part.gradient as usize) {
            // SAFETY: the caller's promise.
            unsafe { unscale_part(block, format, gradient, part, into, bad) };
        }
    });
}

/// Unscales one gradient, of any length, which needs no table.
///
/// # Safety
///
/// As for [`unscale`].
pub unsafe fn unscale_one<B: Block, F: Element>(
    block: &mut B,
    format: Format,
    gradient: &Gradient<F>,
    into: Into,
    bad: *mut u64,
) {
    let (mut part, step) = (block.index(), block.blocks());
    while (part as usize) < gradient.count.div_ceil(PART) {
        // SAFETY: the caller's promise.
        unsafe { unscale_part(block, format, gradient, Part { gradient: 0, part }, into, bad) };
        part += step;
    }
}

/// Unscales a part of a gradient.
///
/// # Safety
///
/// As for [`unscale`].
#[inline(always)]
unsafe fn unscale_part<B: Block, F: Element>(
    block: &mut B,
    format: Format,
    gradient: &Gradient<F>,
    part: Part,
    into: Into,
    bad: *mut u64,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match into {
            Into::Sum => unscale_into::<B, F, true>(block, format, gradient, part, true, bad),
            _ => {
                let stores = into == Into::Place;
                unscale_into::<B, F, false>(block, format, gradient, part, stores, bad);
            }
        }
    }
}

/// Unscales a part of a gradient, and adds it to what was there, or not.
///
/// # Safety
///
/// As for [`unscale`].
#[inline(always)]
unsafe fn unscale_into<B: Block, F: Element, const SUMS: bool>(
    block: &mut B,
    format: Format,
    gradient: &Gradient<F>,
    part: Part,
    stores: bool,
    bad: *mut u64,
) {
    let &Gradient { from, to, count, cell, met } = gradient;
    let (format, threads) = (Format { encoding: F::ENCODING, ..format }, block.threads() as usize);
    // SAFETY: the caller's promise.
    let (to, scale) = unsafe { (Out::new(to, count), (*cell).scale()) };
    let inverse = scale.inverse().factor();
    let by_chunks = has_chunks(from) && (!stores || to.has_chunks());
    let [chunks, rest] = part.places(count, by_chunks);
    let least_exact = least_exact(scale).to_bits();
    let counts = block.each(|thread| {
        let (mut elements, mut nonfinite, mut tiny) = (0_u32, 0, 0);
        // SAFETY: the caller's promise; the chunk is this thread's alone.
        let read = |places: [usize; 2]| unsafe {
            let before = if SUMS { to.read_halves(places) } else { None };
            (read_halves(from, places), before.unwrap_or([NOTHING; CHUNK]))
        };
        let mut take = |places: [usize; 2], (chunk, before): ([F; CHUNK], [f32; CHUNK])| {
            let scaled = widen::<B, _, _>(format, chunk);
            let results: [_; CHUNK] = array::from_fn(|nth| {
                let unscaled = scaled[nth] * inverse;
                if SUMS { before[nth] + unscaled } else { unscaled }
            });
            if stores {
                // SAFETY: as above.
                unsafe { to.write_halves(places, results) };
            }
            elements += CHUNK as u32;
            // Over slices: the compiler unrolls them, and keeps no array in memory for them.
            let (mut greatest, mut least) = (0, u32::MAX);
            for (x, result) in scaled.iter().zip(&results) {
                greatest = magnitude(*result).max(greatest);
                least = magnitude(*x).wrapping_sub(1).min(least);
            }
            // Both are rare, and found for a chunk at a time.
            if greatest >= f32::INFINITY.to_bits() {
                results.iter().for_each(|x| nonfinite += u32::from(!x.is_finite()));
            }
            if least < least_exact - 1 {
                for (x, result) in scaled.iter().zip(&results) {
                    let is_tiny = magnitude(*x).wrapping_sub(1) < least_exact - 1;
                    tiny += u32::from(is_tiny & result.is_finite());
                }
            }
        };
        let mut places = chunks(thread, threads).map(|index| halves(index, thread));
        // Two chunks are on their way at a time; of f32, or to be added, one is as much already.
        let by_two = !SUMS && size_of::<F>() < 4;
        while let Some(place) = places.next() {
            let chunk = read(place);
            if by_two && let Some(next) = places.next() {
                let other = read(next);
                take(place, chunk);
                take(next, other);
            } else {
                take(place, chunk);
            }
        }
        let mut counts = Unscaled::default();
        let mut unscale = |x: F, before: f32| {
            let scaled = format.widen(x.to_bits());
            let unscaled = scaled * inverse;
            let result = before + unscaled;
            counts.record(scaled, if result.is_finite() { unscaled } else { result });
            result
        };
        for index in rest(thread, threads) {
            // SAFETY: the caller's promise; the element is this thread's alone.
            unsafe {
                let before = if SUMS { to.read(index) } else { None };
                let result = unscale(*from.add(index), before.unwrap_or(NOTHING));
                if stores {
                    to.write(index, result);
                }
            }
        }
        elements += counts.elements as u32;
        [elements, nonfinite + counts.nonfinite as u32, tiny + counts.tiny as u32]
    });
    let counts = sum_warp(block, counts);
    // SAFETY: the caller's promise.
    let (met, bad) = unsafe { (Counters::new(met), Counters::new(bad)) };
    block.map(&counts, |thread, [elements, nonfinite, tiny]| {
        if thread % WARP != 0 {
            return;
        }
        if let Some(met) = met {
            met.add::<B>(offset_of!(Unscaled, elements) / 8, elements.into());
            met.add::<B>(offset_of!(Unscaled, nonfinite) / 8, nonfinite.into());
            met.add::<B>(offset_of!(Unscaled, tiny) / 8, tiny.into());
        }
        if let Some(bad) = bad {
            bad.add::<B>(0, nonfinite.into());
        }
    });
}
