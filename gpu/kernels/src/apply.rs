//! Into low precision: f32 values are narrowed and what became of them is counted.

use adaloss_core::format::Element;

use crate::{
    Block,
    epilogue::{Epilogue, Sink},
    memory::{Out, has_chunks, read_halves},
};

/// Narrows a tensor as an epilogue says, on all blocks of a grid.
///
/// # Safety
///
/// There are as many values as results.  The cells of the epilogue are there and nobody writes them
/// during the launch, nor the predicate, which may be NULL; outcome and histogram are NULL or structures that
/// nobody else reads or writes meanwhile.
pub unsafe fn apply<B: Block, F: Element>(
    block: &mut B,
    values: &[f32],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise.
    if unsafe { epilogue.is_off() } {
        return;
    }
    let first = values.as_ptr();
    // SAFETY: the caller's promise; chunks are within the tensor.
    unsafe {
        Sink::<F>::open_all(block, epilogue).run(
            block,
            to,
            has_chunks(first) && to.len() <= values.len(),
            |index| values.get(index).copied().unwrap_or(0.0),
            |places| read_halves(first, places),
        );
    }
}
