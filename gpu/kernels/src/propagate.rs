//! Joins: branches are brought to one scale, summed in f32, and narrowed again.

use core::array;

use adaloss_core::{
    format::{Element, Format},
    policy::Cell,
    propagate::shifted,
};

use crate::{
    Block,
    convert::widen,
    epilogue::{Epilogue, Sink},
    memory::{CHUNK, NOTHING, Out, has_chunks, read_halves},
};

/// One branch of a join.
#[derive(Debug)]
#[repr(C)]
pub struct Branch<F> {
    /// The first element; there are as many as results.
    pub gradient: *const F,
    /// The cell whose scale the gradient carries.
    pub cell: *const Cell,
}

impl<F> Clone for Branch<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Branch<F> {}

/// Sums branches in the order given, at the scale of the epilogue's `from`, and narrows the sums.
///
/// # Safety
///
/// As for [`apply`](crate::apply::apply); each branch has as many elements as `to`, and a cell.
pub unsafe fn propagate<B: Block, F: Element>(
    block: &mut B,
    branches: &[Branch<F>],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise.
    if unsafe { epilogue.is_off() } {
        return;
    }
    // SAFETY: the caller's promise.
    let sink = unsafe { Sink::<F>::open_all(block, epilogue) };
    let (incoming, format) = (sink.incoming(), epilogue.narrowing.format);
    let format = Format { encoding: F::ENCODING, ..format };
    let shift = |branch: &Branch<F>| {
        // SAFETY: the caller's promise.
        incoming / unsafe { (*branch.cell).scale() }
    };
    let one = |index: usize| {
        let terms = branches.iter().map(|branch| {
            // SAFETY: the caller's promise.
            let x = unsafe { *branch.gradient.add(index) };
            shifted(format.widen(x.to_bits()), shift(branch))
        });
        terms.reduce(|sum, x| sum + x).unwrap_or(0.0)
    };
    let factor = |branch: &Branch<F>| shift(branch).factor().unwrap_or(0.0);
    let terms = |branch: &Branch<F>, factor: f32, places: [usize; 2]| {
        // SAFETY: the caller's promise; the chunk is within the branch.
        let chunk: [F; CHUNK] = unsafe { read_halves(branch.gradient, places) };
        widen::<B, _, _>(format, chunk).map(|x| x * factor)
    };
    let by_chunks = branches
        .iter()
        .all(|branch| has_chunks(branch.gradient) && shift(branch).factor().is_some());
    // Most joins are of two, whose factors are known before the first chunk, and which are read together.
    if let [first, second] = branches {
        let factors = [factor(first), factor(second)];
        let chunk = |places| {
            let [a, b] = [terms(first, factors[0], places), terms(second, factors[1], places)];
            array::from_fn(|nth| a[nth] + b[nth])
        };
        // SAFETY: the caller's promise.
        return unsafe { sink.run(block, to, by_chunks, one, chunk) };
    }
    let chunk = |places| {
        branches.iter().fold([NOTHING; CHUNK], |sums, branch| {
            let terms = terms(branch, factor(branch), places);
            array::from_fn(|nth| sums[nth] + terms[nth])
        })
    };
    // SAFETY: the caller's promise.
    unsafe { sink.run(block, to, by_chunks, one, chunk) }
}
