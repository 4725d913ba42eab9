//! Into low precision: f32 values are narrowed and what became of them is counted.

use adaloss_core::format::Element;

use crate::{
    Block,
    block::share,
    epilogue::{Epilogue, Sink, Tally},
    memory::Out,
};

/// Narrows a tensor as an epilogue says, on all blocks of a grid.
///
/// # Safety
///
/// The cells of the epilogue are there and nobody writes them during the launch; outcome and
/// histogram are NULL or structures that nobody else reads or writes meanwhile.
pub unsafe fn apply<B: Block, F: Element>(
    block: &mut B,
    values: &[f32],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise.
    let sink = unsafe { Sink::<F>::open(block, epilogue) };
    let (shared, of) = (block.shared(), share(block, values.len()));
    let tallies = block.each(|thread| {
        let mut tally = Tally::EMPTY;
        for index in of(thread) {
            if let Some(&x) = values.get(index) {
                // SAFETY: each place is in one share.
                unsafe { sink.put(shared, &mut tally, index, x, to) };
            }
        }
        tally
    });
    sink.close(block, &tallies);
}
