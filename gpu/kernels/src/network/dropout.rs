//! Dropout, from the random words of the mask.

use adaloss_core::format::{Element, Noise};

use super::results::each;
use crate::{Block, epilogue::Epilogue, memory::Out};

/// Which elements become zero, and what the others are multiplied by.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Mask {
    /// What random words of dropped elements are below.
    pub below: u32,
    /// The factor of the others.
    pub gain: f32,
    /// The random words, by the places of the elements.
    pub noise: Noise,
}

/// Zeros elements that the mask drops, multiplies the others, and narrows them as the epilogue says.
///
/// # Safety
///
/// As for [`apply`](crate::apply::apply).
pub unsafe fn dropout<B: Block, F: Element>(
    block: &mut B,
    mask: Mask,
    input: &[F],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    let result = |place: usize| match input.get(place) {
        Some(x) if mask.noise.word_at(place as u64) >= mask.below => mask.gain * x.widen(),
        _ => 0.0,
    };
    // SAFETY: the caller's promise.
    unsafe { each(block, to, epilogue, result) }
}
