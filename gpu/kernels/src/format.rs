//! Conversions by themselves, without scales and without counts.

use adaloss_core::format::{Element, Format, Narrowing, Noise, Rounding};

use crate::{Block, block::share, memory::Out};

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
    let (format, of) = (Format { encoding: F::ENCODING, ..format }, share(block, values.len()));
    block.each(|thread| {
        for index in of(thread) {
            let Some(x) = values.get(index) else { return };
            // SAFETY: each place is in one share.
            unsafe { to.write(index, format.widen(x.to_bits())) };
        }
    });
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
    let of = share(block, values.len());
    block.each(|thread| {
        for index in of(thread) {
            let Some(&x) = values.get(index) else { return };
            let word = match narrowing.rounding {
                Rounding::Stochastic => noise.word_at(index as u64),
                Rounding::NearestEven | Rounding::TowardZero => 0,
            };
            // SAFETY: each place is in one share.
            unsafe { to.write(index, F::narrow(x, narrowing, 0, word)) };
        }
    });
}
