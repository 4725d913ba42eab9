//! Joins: branches are brought to one scale, summed in f32, and narrowed again.

use adaloss_core::{
    format::{Element, Format},
    policy::Cell,
    propagate::shifted,
};

use crate::{
    Block,
    block::share,
    epilogue::{Epilogue, Sink, Tally},
    memory::Out,
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
    let sink = unsafe { Sink::<F>::open(block, epilogue) };
    let (shared, of) = (block.shared(), share(block, to.len()));
    let format = Format { encoding: F::ENCODING, ..epilogue.narrowing.format };
    let tallies = block.each(|thread| {
        let mut tally = Tally::EMPTY;
        for index in of(thread) {
            let mut sum = None;
            for branch in branches {
                // SAFETY: the caller's promise.
                let (x, scale) = unsafe { (*branch.gradient.add(index), (*branch.cell).scale()) };
                let x = shifted(format.widen(x.to_bits()), sink.incoming() / scale);
                sum = Some(sum.map_or(x, |sum: f32| sum + x));
            }
            // SAFETY: each place is in one share.
            unsafe { sink.put(shared, &mut tally, index, sum.unwrap_or(0.0), to) };
        }
        tally
    });
    sink.close(block, &tallies);
}
