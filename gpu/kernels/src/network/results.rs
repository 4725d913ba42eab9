//! Results that end in an epilogue, each computed by one thread.

use adaloss_core::format::Element;

use crate::{
    Block,
    block::share,
    epilogue::{Epilogue, Sink, Tally},
    memory::Out,
};

/// Narrows results as an epilogue says, one by one.
///
/// # Safety
///
/// As for [`each_row`].
#[inline(always)]
pub(super) unsafe fn each<B: Block, F: Element>(
    block: &mut B,
    to: Out<'_, F>,
    epilogue: &Epilogue,
    result: impl Fn(usize) -> f32,
) {
    // SAFETY: the caller's promise.
    unsafe { each_row(block, to, epilogue, 1, |_| (), |place, ()| result(place)) }
}

/// Narrows results as an epilogue says: a row of so many by one thread, which computes first what they have in common.
///
/// # Safety
///
/// Nobody else reads or writes `to` during the launch, and the epilogue is as [`apply`](crate::apply::apply) asks for.
#[inline(always)]
pub(super) unsafe fn each_row<B: Block, F: Element, T: Copy>(
    block: &mut B,
    to: Out<'_, F>,
    epilogue: &Epilogue,
    width: usize,
    common: impl Fn(usize) -> T,
    result: impl Fn(usize, T) -> f32,
) {
    // SAFETY: the caller's promise.
    if unsafe { epilogue.is_off() } {
        return;
    }
    // SAFETY: the caller's promise.
    let sink = unsafe { Sink::<F>::open(block, epilogue) };
    let shared = block.shared();
    let rows = share(block, to.len().checked_div(width).unwrap_or(0));
    let tallies = block.each(|thread| {
        let mut tally = Tally::EMPTY;
        for row in rows(thread) {
            let common = common(row);
            for place in row * width..(row + 1) * width {
                let result = result(place, common);
                if let Some(x) = sink.take_one::<B>(shared, &mut tally, place, result) {
                    // SAFETY: each row is in one share.
                    unsafe { to.write(place, x) };
                }
            }
        }
        tally
    });
    sink.close(block, &tallies);
}
