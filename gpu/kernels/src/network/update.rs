//! Optimizers on f32 masters and unscaled gradients, element by element.

use core::{array, ptr};

use crate::{
    Block,
    memory::{HALF, Out, each_in_tiles, has_chunks, is_off, read_chunk},
    sums::{parts_of_elements, sum_parts},
    update::Sgd,
};

/// Adds up the squares of a gradient, part by part; [`add_sums`](crate::sums::add_sums) adds them to what is there.
///
/// # Safety
///
/// There is room for the parts of so many terms, which nobody else reads or writes during the launch.
pub unsafe fn square_norm<B: Block>(block: &mut B, gradient: &[f32], to: *mut f64) {
    let (nothing, terms) =
        (block.each(|_| ()), (gradient.len(), parts_of_elements(gradient.len())));
    let square = |index: usize, (): &mut ()| {
        let x = gradient.get(index).copied().map_or(0.0, f64::from);
        x * x
    };
    // SAFETY: the caller's promise.
    unsafe { sum_parts(block, terms, to, nothing, square) };
}

/// What an optimizer's step is given beside its constants.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Step {
    /// Elements of gradient and weight.
    pub count: usize,
    /// The first element of the gradient.
    pub gradient: *const f32,
    /// The first element of the weight.
    pub weight: *mut f32,
    /// The sum of the squares of all gradients.
    pub square_norm: *const f64,
    /// The greatest norm of all gradients together; NaN where it is not clipped.
    pub max_norm: f32,
    /// The predicate, or NULL.
    pub when: *const u32,
}

impl Step {
    /// Returns the factor of the gradients.
    ///
    /// # Safety
    ///
    /// The sum of the squares is there.
    #[inline(always)]
    unsafe fn clip<B: Block>(&self) -> f32 {
        // SAFETY: the caller's promise.
        let norm = B::root_wide(unsafe { *self.square_norm });
        let max_norm = f64::from(self.max_norm);
        if norm > max_norm { (max_norm / (norm + 1.0e-6)) as f32 } else { 1.0 }
    }

    /// Updates the weight and two tensors of state, of which the second may have no elements, each element by a function of
    /// gradient, weight and state.
    ///
    /// # Safety
    ///
    /// Gradient, weight and state are there; nobody else reads or writes weight and state during the launch, or writes the
    /// gradient.
    #[inline(always)]
    unsafe fn run<B: Block>(
        &self,
        block: &mut B,
        (first, second): (Out<'_, f32>, Out<'_, f32>),
        update: impl Fn(f32, f32, (f32, f32)) -> (f32, f32, f32),
    ) {
        let &Self { count, gradient, weight, .. } = self;
        // SAFETY: the caller's promise.
        let weight = unsafe { Out::new(weight, count) };
        // SAFETY: as above; each place is handed to one thread.
        let half = |index| unsafe {
            let g: [f32; HALF] = read_chunk(gradient.add(index));
            let Some(w) = weight.read_chunk::<HALF>(index) else { return };
            let m = first.read_chunk::<HALF>(index).unwrap_or([0.0; HALF]);
            let v = second.read_chunk::<HALF>(index).unwrap_or([0.0; HALF]);
            let updated: [_; HALF] = array::from_fn(|nth| update(g[nth], w[nth], (m[nth], v[nth])));
            weight.write_chunk(index, updated.map(|(w, ..)| w));
            first.write_chunk(index, updated.map(|(_, m, _)| m));
            second.write_chunk(index, updated.map(|(.., v)| v));
        };
        // Of more at a time, the compiler would keep them in memory.
        let chunk = |places: [usize; 2]| places.into_iter().for_each(half);
        // SAFETY: as above.
        let one = |index| unsafe {
            let Some(w) = weight.read(index) else { return };
            let state = (first.read(index).unwrap_or(0.0), second.read(index).unwrap_or(0.0));
            let (w, m, v) = update(*gradient.add(index), w, state);
            weight.write(index, w);
            first.write(index, m);
            second.write(index, v);
        };
        let by_chunks = has_chunks(gradient)
            && weight.has_chunks()
            && first.has_chunks()
            && second.has_chunks();
        each_in_tiles(block, count, by_chunks, chunk, one);
    }
}

/// Updates a weight and its momentum, unless the predicate is there and 0.
///
/// # Safety
///
/// Everything named is there, with so many elements; nobody else reads or writes weight and momentum during the launch, or
/// writes anything else of it.
pub unsafe fn sgd_step<B: Block>(block: &mut B, sgd: Sgd, step: &Step, momentum: *mut f32) {
    // SAFETY: the caller's promise.
    if unsafe { is_off(step.when) } {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let clip = step.clip::<B>();
        let state = (Out::new(momentum, step.count), Out::new(ptr::null_mut(), 0));
        step.run(block, state, |gradient, w, (m, _)| {
            let g = clip * gradient + sgd.weight_decay * w;
            let m = sgd.momentum * m + g;
            (w - sgd.learning_rate * m, m, 0.0)
        });
    }
}

/// Adam with decoupled weight decay, as `adaloss_hal::network::AdamW` without clipping.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct AdamW {
    /// Step size.
    pub learning_rate: f32,
    /// Decay rates of the two moments.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decay of weights, in units of the step size.
    pub weight_decay: f32,
}

impl AdamW {
    /// Returns what the two moments are divided by at an update, which is numbered from 1.
    #[inline(always)]
    fn corrections(&self, update: u32) -> [f32; 2] {
        self.betas.map(|beta| (1.0 - libm::pow(f64::from(beta), f64::from(update))) as f32)
    }
}

/// Updates a weight and its two moments, `n` first ones and then `n` second ones, unless the predicate is there and 0.
///
/// # Safety
///
/// As for [`sgd_step`]; and the number of the update is there.
pub unsafe fn adamw_step<B: Block>(
    block: &mut B,
    adamw: AdamW,
    step: &Step,
    update: *const u32,
    moments: *mut f32,
) {
    // SAFETY: the caller's promise.
    if unsafe { is_off(step.when) } {
        return;
    }
    let AdamW { learning_rate, betas: [beta, gamma], epsilon, weight_decay } = adamw;
    // SAFETY: the caller's promise.
    unsafe {
        let clip = step.clip::<B>();
        let [of_first, of_second] = adamw.corrections(*update);
        let decay = 1.0 - learning_rate * weight_decay;
        let second = Out::new(moments.wrapping_add(step.count), step.count);
        step.run(block, (Out::new(moments, step.count), second), |gradient, w, (m, v)| {
            let g = clip * gradient;
            let m = beta * m + (1.0 - beta) * g;
            let v = gamma * v + (1.0 - gamma) * (g * g);
            let root = B::root(v / of_second);
            (decay * w - learning_rate * (m / of_first) / (root + epsilon), m, v)
        });
    }
}
