//! Softmax cross entropy: a row by each thread, in the order of its classes, by `libm`, whose functions have the same bits everywhere.
//!
//! Three launches take it: the weights of the rows are added up, then rows and their losses, then both sums are added to
//! what is there, by [`add_sums`](crate::sums::add_sums).

use core::slice;

use adaloss_core::unscale::LossSum;

use crate::{
    Block,
    block::{WARP, sum_warp},
    memory::Out,
    sums::{PARTS, parts_of_rows, sum_of_parts, sum_parts},
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
        let terms = (of.rows, parts_of_rows(of.rows));
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
    let total = unsafe { sum_of_parts(block, parts.add(PARTS), parts_of_rows(rows)) };
    let counts = block.map(&total, |_, total| (total, [0_u32; 2]));
    // SAFETY: as above; a row is one thread's alone.
    let counts = unsafe {
        sum_parts(block, (rows, parts_of_rows(rows)), parts, counts, |row, (total, counts)| {
            of.row(row, *total, counts)
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
    /// Computes the gradient of a row, whose label weighs its share of a total, and counts it; returns its weighted loss.
    ///
    /// # Safety
    ///
    /// As for [`softmax_cross_entropy`], for the thread whose row it is.
    #[inline(always)]
    unsafe fn row(&self, row: usize, total: f64, counts: &mut [u32; 2]) -> f64 {
        let (first, classes) = (row * self.classes, self.classes);
        // SAFETY: the caller's promise.
        let (logits, gradient) = unsafe {
            let logits = slice::from_raw_parts(self.logits.add(first), classes);
            (logits, Out::new(self.gradient.add(first), classes))
        };
        // SAFETY: as above.
        let Some(label) = (unsafe { self.label(row) }) else {
            // SAFETY: the row is this thread's alone.
            (0..classes).for_each(|class| unsafe { gradient.write(class, 0.0) });
            return 0.0;
        };
        // SAFETY: as above; a label is a class.
        let (weight, of_label) = unsafe { (self.weight(label), *self.logits.add(first + label)) };
        let softmax = Softmax::of(logits);
        counts[0] += 1;
        counts[1] += u32::from(softmax.is_correct(logits, of_label));
        let share = (weight / total) as f32;
        for (class, &x) in logits.iter().enumerate() {
            let target = if class == label { 1.0 } else { 0.0 };
            // SAFETY: the row is this thread's alone.
            unsafe { gradient.write(class, share * (softmax.probability(x) - target)) };
        }
        weight * f64::from(softmax.loss(of_label))
    }
}

/// The softmax of a row of logits.
#[derive(Clone, Copy)]
struct Softmax {
    /// The greatest logit; NaN where one is not finite, so that everything else becomes NaN too.
    max: f32,
    /// The sum of the exponentials of what the logits are below it.
    total: f32,
}

impl Softmax {
    #[inline(always)]
    fn of(logits: &[f32]) -> Self {
        let is_finite = logits.iter().all(|x| x.is_finite());
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let max = if is_finite { greatest } else { f32::NAN };
        Self { max, total: logits.iter().fold(0.0, |sum, x| sum + libm::expf(x - max)) }
    }

    #[inline(always)]
    fn probability(self, logit: f32) -> f32 {
        libm::expf(logit - self.max) / self.total
    }

    /// Returns `-ln(probability)` without computing a probability that could be zero.
    #[inline(always)]
    fn loss(self, logit: f32) -> f32 {
        libm::logf(self.total) - (logit - self.max)
    }

    /// Tells whether the logit of the label is, alone, the greatest.
    #[inline(always)]
    fn is_correct(self, logits: &[f32], of_label: f32) -> bool {
        of_label == self.max && logits.iter().filter(|&&x| x == self.max).count() == 1
    }
}
