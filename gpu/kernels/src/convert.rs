//! Conversions of a few elements at a time, by the instructions that a device has for them.

use adaloss_core::format::{Element, Format, Subnormals};

use crate::{Block, memory::word_of};

/// Widens elements to f32, exactly, or with subnormals as zeros where the format flushes.
///
/// A NaN becomes a NaN, whose bits and sign may be any.
#[inline(always)]
pub(crate) fn widen<B: Block, F: Element, const N: usize>(
    format: Format,
    elements: [F; N],
) -> [f32; N] {
    let word = |nth: usize| word_of(&elements, nth);
    let mut widened = [0.0; N];
    match size_of::<F>() {
        4 => widened = elements.map(|x| f32::from_bits(x.to_bits())),
        2 => widened.as_chunks_mut().0.iter_mut().enumerate().for_each(|(nth, two)| {
            *two = B::widen_two::<F>(word(nth));
        }),
        _ => widened.as_chunks_mut().0.iter_mut().enumerate().for_each(|(nth, four)| {
            *four = B::widen_four::<F>(word(nth));
        }),
    }
    match format.subnormals {
        Subnormals::Gradual => widened,
        Subnormals::Flush => widened.map(|x| {
            let least = F::ENCODING.widen(F::ENCODING.min_normal_bits());
            let zero = f32::from_bits(x.to_bits() & 0x8000_0000);
            if x.abs() < least { zero } else { x }
        }),
    }
}

/// Rounds numbers to elements: to nearest even, with gradual underflow.
///
/// What is beyond the largest finite element, or no number, becomes any bits; of f32, each stays what it is.
#[inline(always)]
pub(crate) fn round<B: Block, F: Element, const N: usize>(numbers: [f32; N]) -> [F; N] {
    let number = |nth: usize| if nth < N { numbers[nth] } else { 0.0 };
    let mut rounded = [F::from_bits(0); N];
    match size_of::<F>() {
        4 => rounded = numbers.map(|x| F::from_bits(x.to_bits())),
        // Over slices: compilers for GPUs unroll them, and keep no array in memory for them.
        2 => rounded.chunks_mut(2).enumerate().for_each(|(nth, two)| {
            let word = B::round_two::<F>([number(2 * nth), number(2 * nth + 1)]);
            two.iter_mut().zip([word & 0xffff, word >> 16]).for_each(|(to, bits)| {
                *to = F::from_bits(bits);
            });
        }),
        _ => rounded.chunks_mut(4).enumerate().for_each(|(nth, four)| {
            let of = 4 * nth;
            let word = B::round_four::<F>([0, 1, 2, 3].map(|nth| number(of + nth)));
            four.iter_mut().zip(word.to_le_bytes()).for_each(|(to, bits)| {
                *to = F::from_bits(bits.into());
            });
        }),
    }
    rounded
}
