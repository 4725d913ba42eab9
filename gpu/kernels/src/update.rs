//! Steps of an optimizer that read scaled gradients, and are taken or not as the device decides.

use core::array;

use adaloss_core::{
    format::{Element, Format},
    policy::Cell,
};

use crate::{
    Block,
    convert::widen,
    memory::{CHUNK, Out, halves, has_chunks, is_off, read_halves},
    unscale::{Part, each_part},
};

/// Stochastic gradient descent with momentum, as `adaloss_hal::network::Sgd` without clipping.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Sgd {
    /// What the momentum is multiplied by before it is taken from the weight.
    pub learning_rate: f32,
    /// What the momentum keeps of itself.
    pub momentum: f32,
    /// What is added of the weight to its gradient.
    pub weight_decay: f32,
}

/// One weight that is updated.
#[derive(Debug)]
#[repr(C)]
pub struct Weight<F> {
    /// The first element of the gradient.
    pub gradient: *const F,
    /// The first f32 of the weight.
    pub weight: *mut f32,
    /// The first f32 of its momentum.
    pub momentum: *mut f32,
    /// Elements of each.
    pub count: usize,
    /// The cell whose scale the gradient carries.
    pub cell: *const Cell,
}

impl<F> Clone for Weight<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Weight<F> {}

/// Unscales gradients and updates weights in one pass, if nothing was found to be wrong with them.
///
/// `bad` is what [`unscale`](crate::unscale::unscale) counted before: where it is not zero, or the predicate `when` is there
/// and 0, nothing is written, and weights, momenta and `steps` stay as they were, bit for bit.  Else `steps` is
/// increased by one.  No host has to know which.
///
/// # Safety
///
/// Everything that the parts name is there and initialised, and `bad`; nobody else reads or writes
/// weights, momenta and `steps` during the launch, or writes `bad` or `when`; each part is named once.
/// `when` and `steps` may be NULL.
pub unsafe fn sgd<B: Block, F: Element>(
    block: &mut B,
    format: Format,
    sgd: Sgd,
    weights: &[Weight<F>],
    parts: &[Part],
    (bad, when): (*const u64, *const u32),
    steps: *mut u64,
) {
    // SAFETY: the caller's promise.
    if unsafe { *bad > 0 || is_off(when) } {
        return;
    }
    let format = Format { encoding: F::ENCODING, ..format };
    let (first, threads) = (block.index(), block.threads() as usize);
    block.each(|thread| {
        if first == 0 && thread == 0 && !steps.is_null() {
            // SAFETY: the caller's promise; one thread of the launch comes here.
            unsafe { *steps = (*steps).wrapping_add(1) };
        }
    });
    each_part(block, parts, |block, part| {
        let Some(&Weight { gradient, weight, momentum, count, cell }) =
            weights.get(part.gradient as usize)
        else {
            return;
        };
        // SAFETY: the caller's promise.
        let (weight, momentum, inverse) = unsafe {
            let inverse = (*cell).scale().inverse().factor();
            (Out::new(weight, count), Out::new(momentum, count), inverse)
        };
        let update = |x: f32, w: f32, m: f32| {
            let unscaled = x * inverse;
            let g = unscaled + sgd.weight_decay * w;
            let m = sgd.momentum * m + g;
            (w - sgd.learning_rate * m, m)
        };
        let by_chunks = has_chunks(gradient) && weight.has_chunks() && momentum.has_chunks();
        let [chunks, rest] = part.places(count, by_chunks);
        block.each(|thread| {
            for index in chunks(thread, threads) {
                let places = halves(index, thread);
                // SAFETY: the caller's promise; the chunk is this thread's alone.
                unsafe {
                    let chunk = read_halves(gradient, places);
                    let (w, m) = (weight.read_halves(places), momentum.read_halves(places));
                    if let (Some(w), Some(m)) = (w, m) {
                        let scaled = widen::<B, _, _>(format, chunk);
                        let updated: [_; CHUNK] =
                            array::from_fn(|nth| update(scaled[nth], w[nth], m[nth]));
                        momentum.write_halves(places, updated.map(|(_, m)| m));
                        weight.write_halves(places, updated.map(|(w, _)| w));
                    }
                }
            }
            for index in rest(thread, threads) {
                // SAFETY: the caller's promise; the element is this thread's alone.
                unsafe {
                    if let (Some(w), Some(m)) = (weight.read(index), momentum.read(index)) {
                        let scaled = format.widen((*gradient.add(index)).to_bits());
                        let (w, m) = update(scaled, w, m);
                        momentum.write(index, m);
                        weight.write(index, w);
                    }
                }
            }
        });
    });
}
