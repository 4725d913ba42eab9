//! Softmax cross entropy, by `libm`, whose functions have the same bits everywhere.
//!
//! A row is that of a warp, or of as many threads as there are classes, rounded up to a power of two; exponentials are added up in f64:
//! of `t` threads, class `i` is of thread `i % t`, which adds up its own in their order, and threads are added in pairs.
//!
//! Three launches take it: the weights of the rows are added up, then rows and their losses, then both sums are added to
//! what is there, by [`add_sums`](crate::sums::add_sums).

use adaloss_core::unscale::LossSum;

use crate::{
    Block,
    block::{Share, WARP, fold_group, sum_group_float, sum_warp},
    sums::{PARTS, Term, parts_together, sum_of_parts, sum_parts, sum_parts_together},
};

/// Rows of logits, their labels, and where the loss goes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Loss {
    /// Rows, one for each label.
    pub rows: usize,
    /// Classes, of which there is at least one.
    pub classes: usize,
    /// The first logit.
    pub logits: *const f32,
    /// The first label.
    pub labels: *const u32,
    /// What the first class weighs, or NULL: each weighs 1.
    pub weights: *const f32,
    /// The first element of the gradient.
    pub gradient: *mut f32,
    /// What rows, and those that are right, are counted in; loss and weight are left to another launch.
    pub sum: *mut LossSum,
    /// The parts of the losses' sum, and then those of the weights' sum: twice [`PARTS`].
    pub parts: *mut f64,
}

impl Loss {
    /// Returns how many threads have a row together, as a power of two.
    #[inline(always)]
    const fn together_log2(&self) -> u32 {
        let needed = usize::BITS - self.classes.saturating_sub(1).leading_zeros();
        if needed < WARP.ilog2() { needed } else { WARP.ilog2() }
    }

    /// Returns how many parts either sum has.
    #[inline(always)]
    pub const fn parts(&self) -> usize {
        parts_together(self.rows, self.together_log2())
    }

    /// Returns the label of a row, if it is a class.
    ///
    /// # Safety
    ///
    /// The labels are there, and there is such a row.
    #[inline(always)]
    unsafe fn label(&self, row: usize) -> Option<usize> {
        // SAFETY: the caller's promise.
        let label = unsafe { *self.labels.add(row) } as usize;
        (label < self.classes).then_some(label)
    }

    /// Returns what a class weighs.
    ///
    /// # Safety
    ///
    /// The weights are there, unless they are NULL, and there is such a class.
    #[inline(always)]
    unsafe fn weight(&self, class: usize) -> f64 {
        // SAFETY: the caller's promise.
        if self.weights.is_null() { 1.0 } else { f64::from(unsafe { *self.weights.add(class) }) }
    }
}

/// Adds up the weights of the rows, part by part.
///
/// # Safety
///
/// Labels and weights are there and nobody writes them during the launch, and there is room for the parts, which nobody else
/// reads or writes.
pub unsafe fn weights<B: Block>(block: &mut B, of: &Loss) {
    let nothing = block.each(|_| ());
    // SAFETY: the caller's promise. What is of no class adds +0, which changes no sum that begins at +0.
    unsafe {
        let terms = (of.rows, of.parts());
        sum_parts(block, terms, of.parts.add(PARTS), nothing, |row, ()| {
            of.label(row).map_or(0.0, |label| of.weight(label))
        });
    }
}

/// Computes losses and gradients of the rows, counts them, and adds up the losses, part by part.
///
/// # Safety
///
/// As for [`weights()`], which has run; and so for logits, gradient and sum.
pub unsafe fn softmax_cross_entropy<B: Block>(block: &mut B, of: &Loss) {
    let &Loss { rows, sum, parts, .. } = of;
    // SAFETY: the caller's promise.
    let total = unsafe { sum_of_parts(block, parts.add(PARTS), of.parts()) };
    let counts = block.map(&total, |_, total| (total, [0_u32; 2]));
    // SAFETY: as above; a row is its threads' alone.
    let counts = unsafe {
        let terms = (rows, of.parts());
        sum_parts_together(block, terms, of.together_log2(), parts, counts, |block, row, own| {
            of.row(block, row, own)
        })
    };
    let counts = block.map(&counts, |_, (_, counts)| counts);
    let counts = sum_warp(block, counts);
    block.map(&counts, |thread, [rows, correct]| {
        if thread % WARP == 0 {
            // SAFETY: the caller's promise: the sum is there, and counted in atomically alone.
            unsafe {
                B::add(&raw mut (*sum).rows, rows.into());
                B::add(&raw mut (*sum).correct, correct.into());
            }
        }
    });
}

impl Loss {
    /// Computes the gradient of a row, whose label weighs its share of a total, and counts it; the first of its threads gets its
    /// weighted loss.
    ///
    /// # Safety
    ///
    /// As for [`softmax_cross_entropy`], for the threads whose row it is.
    #[inline(always)]
    unsafe fn row<B: Block>(
        &self,
        block: &mut B,
        row: &B::Each<Term>,
        own: &B::Each<(f64, [u32; 2])>,
    ) -> B::Each<(f64, (f64, [u32; 2]))> {
        let &Self { classes, logits, gradient, .. } = self;
        let threads = 1 << self.together_log2();
        let of_thread =
            |thread: u32| Share::of((thread & (threads - 1)) as usize..classes, threads as usize);
        // NaN where a logit is not finite, so that everything else becomes NaN too.
        let greatest = block.map(row, |thread, Term { index, .. }| {
            let mut greatest = f32::NEG_INFINITY;
            for class in of_thread(thread) {
                // SAFETY: the caller's promise, here and below.
                let x = unsafe { *logits.add(index * classes + class) };
                greatest = greater(greatest, if x.is_finite() { x } else { f32::NAN });
            }
            [greatest.to_bits()]
        });
        let greatest = fold_group(block, greatest, threads, |one, other| {
            greater(f32::from_bits(one), f32::from_bits(other)).to_bits()
        });
        let greatest = block.map(&greatest, |_, [bits]| f32::from_bits(bits));
        // Exponentials wait in the gradient for their sum.
        let sums = block.zip(row, &greatest, |thread, Term { index, is_own, .. }, max| {
            let (mut sum, mut equal) = (0.0, 0);
            for class in of_thread(thread) {
                let place = index * classes + class;
                // SAFETY: as above; the row is its threads' alone, and each class one thread's.
                unsafe {
                    let x = *logits.add(place);
                    let power = libm::expf(x - max);
                    sum += f64::from(power);
                    equal += u32::from(x == max);
                    if is_own {
                        *gradient.add(place) = power;
                    }
                }
            }
            ([sum], [equal])
        });
        let equal = block.map(&sums, |_, (_, equal)| equal);
        let equal = fold_group(block, equal, threads, u32::wrapping_add);
        let sums = block.map(&sums, |_, (sum, _)| sum);
        let sums = sum_group_float(block, sums, threads);
        let found = block.zip(&sums, &equal, |_, [sum], [equal]| (sum as f32, equal));
        let found = block.zip(&greatest, &found, |_, max, (sum, equal)| (max, sum, equal));
        let found = block.zip(&found, own, |_, found, own| (found, own));
        block.zip(row, &found, |thread, Term { index, is_own, .. }, (found, own)| {
            let (max, sum, equal) = found;
            let (total, mut counts) = own;
            // SAFETY: as above.
            let label = unsafe { self.label(index) };
            if !is_own {
                return (0.0, own);
            }
            // SAFETY: as above; a label is a class.
            let (weight, of_label) = label.map_or((0.0, 0.0), |label| unsafe {
                (self.weight(label), *logits.add(index * classes + label))
            });
            let share = (weight / total) as f32;
            for class in of_thread(thread) {
                let place = index * classes + class;
                let target = if Some(class) == label { 1.0 } else { 0.0 };
                // SAFETY: as above: this thread has written the exponential.
                unsafe {
                    let power = *gradient.add(place);
                    let of_class = share * (power / sum - target);
                    *gradient.add(place) = if label.is_some() { of_class } else { 0.0 };
                }
            }
            if label.is_some() && thread & (threads - 1) == 0 {
                counts[0] += 1;
                // The label's logit is, alone, the greatest.
                counts[1] += u32::from(of_label == max && equal == 1);
            }
            // -ln(probability), without a probability that could be zero.
            let loss = libm::logf(sum) - (of_label - max);
            let loss = if label.is_some() { weight * f64::from(loss) } else { 0.0 };
            (loss, (total, counts))
        })
    }
}

/// Returns the greater of two numbers, or NaN if one is.
#[inline(always)]
fn greater(one: f32, other: f32) -> f32 {
    if one.is_nan() || other.is_nan() { f32::NAN } else { one.max(other) }
}
