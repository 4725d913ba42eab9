//! Conversions by themselves, without scales and without counts.

use adaloss_core::{
    apply::Apply,
    format::{Element, Format, Narrowing, Noise, Rounding},
    scale::Shift,
};

use crate::{
    Block,
    block::Factor,
    convert,
    memory::{CHUNK, Out, each_in_tiles, each_of, has_chunks, is_off, read_halves},
    nearest::{Fates, Nearest},
};

/// Widens a tensor to f32, exactly, or with subnormals as zero where the format flushes.
///
/// # Safety
///
/// Nobody else reads or writes the elements of `to` during the launch.
pub unsafe fn widen<B: Block, F: Element>(
    block: &mut B,
    format: Format,
    values: &[F],
    to: Out<'_, f32>,
) {
    let format = Format { encoding: F::ENCODING, ..format };
    let first = values.as_ptr();
    let by_chunks = has_chunks(first) && to.has_chunks() && to.len() <= values.len();
    let one = |index: usize| {
        let Some(&x) = values.get(index) else { return };
        // SAFETY: each place is one thread's.
        unsafe { to.write(index, format.widen(x.to_bits())) };
    };
    let chunk = |places: [usize; 2]| {
        // SAFETY: the chunk is within the tensor.
        let chunk: [F; CHUNK] = unsafe { read_halves(first, places) };
        let mut widened = convert::widen::<B, F, CHUNK>(format, chunk);
        let has_nan = |numbers: &[f32]| numbers.iter().fold(false, |any, x| any | x.is_nan());
        if size_of::<F>() < 4 && has_nan(&widened) {
            // Whose sign is kept here.
            for (x, widened) in chunk.iter().zip(&mut widened) {
                let sign = (x.to_bits() & F::ENCODING.sign_bit()) << (32 - F::ENCODING.bits());
                let nan = f32::from_bits(sign | f32::NAN.to_bits());
                *widened = if widened.is_nan() { nan } else { *widened };
            }
        }
        // SAFETY: the chunk is one thread's.
        unsafe { to.write_halves(places, widened) };
    };
    each_in_tiles(block, to.len(), by_chunks, chunk, one);
}

/// Makes factors for tensor cores of elements of 8 bits, every one of which a format of 16 bits has.
///
/// # Safety
///
/// As for [`widen`]; and the predicate is NULL, or a word that nobody writes during the launch.
pub unsafe fn factors<B: Block, F: Element, E: Factor>(
    block: &mut B,
    values: &[F],
    to: Out<'_, E>,
    when: *const u32,
) {
    // SAFETY: the caller's promise.
    if unsafe { is_off(when) } {
        return;
    }
    let (first, format) = (values.as_ptr(), Format::from(F::ENCODING));
    let by_chunks = has_chunks(first) && to.has_chunks() && to.len() <= values.len();
    let one = |index: usize| {
        let Some(&x) = values.get(index) else { return };
        let x = E::narrow(x.widen(), Narrowing::to(E::ENCODING.into()), 0, 0);
        // SAFETY: each place is one thread's.
        unsafe { to.write(index, x) };
    };
    let chunk = |places: [usize; 2]| {
        // SAFETY: the chunk is within the tensor.
        let chunk: [F; CHUNK] = unsafe { read_halves(first, places) };
        let widened = convert::widen::<B, F, CHUNK>(format, chunk);
        // SAFETY: the chunk is one thread's.
        unsafe { to.write_halves(places, convert::round::<B, E, CHUNK>(widened)) };
    };
    each_in_tiles(block, to.len(), by_chunks, chunk, one);
}

/// Narrows a tensor of f32.
///
/// # Safety
///
/// As for [`widen`].
pub unsafe fn narrow<B: Block, F: Element>(
    block: &mut B,
    narrowing: Narrowing,
    noise: Noise,
    values: &[f32],
    to: Out<'_, F>,
) {
    let mut narrowing = narrowing;
    // Equal to what it was, and known to the compiler.
    narrowing.format.encoding = F::ENCODING;
    let nearest = Nearest::<F>::new(&Apply { narrowing, shift: Shift::NONE, noise });
    let first = values.as_ptr();
    let by_chunks = has_chunks(first) && to.has_chunks() && to.len() <= values.len();
    let one = |index: usize| {
        let Some(&x) = values.get(index) else { return };
        let word = match narrowing.rounding {
            Rounding::Stochastic => noise.word_at(index as u64),
            Rounding::NearestEven | Rounding::TowardZero => 0,
        };
        // SAFETY: each place is one thread's.
        unsafe { to.write(index, F::narrow(x, narrowing, 0, word)) };
    };
    let chunk = |places: [usize; 2]| {
        // SAFETY: the chunk is within the tensor.
        let chunk: [f32; CHUNK] = unsafe { read_halves(first, places) };
        let mut fates = Fates::NONE;
        if let Some(nearest) = nearest
            && let Some(narrowed) = nearest.narrow::<B, CHUNK>(chunk, &mut fates)
        {
            // SAFETY: the chunk is one thread's.
            unsafe { to.write_halves(places, narrowed) };
        } else {
            // As many as there are; the compiler does not know it, and unrolls no loop over the rare ones.
            each_of(places, to.len()).for_each(one);
        }
    };
    each_in_tiles(block, to.len(), by_chunks && nearest.is_some(), chunk, one);
}
