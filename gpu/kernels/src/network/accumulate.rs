//! Sums of f32 tensors.

use core::array;

use crate::{
    Block,
    memory::{CHUNK, Out, each_in_tiles, each_place, has_chunks, is_off, read_chunk, read_halves},
};

/// Adds a tensor to every row of another.
///
/// # Safety
///
/// Nobody else reads or writes the elements of `to` during the launch.
pub unsafe fn accumulate<B: Block>(block: &mut B, input: &[f32], to: Out<'_, f32>) {
    let (first, columns) = (input.as_ptr(), input.len());
    let column = |index: usize| index.checked_rem(columns).unwrap_or(0);
    // SAFETY: each place is handed to one thread, and no chunk of a row goes beyond its end.
    let chunk = |index| unsafe {
        let added: [f32; CHUNK] = read_chunk(first.add(column(index)));
        if let Some(before) = to.read_chunk::<CHUNK>(index) {
            to.write_chunk(index, array::from_fn::<_, CHUNK, _>(|nth| before[nth] + added[nth]));
        }
    };
    // SAFETY: as above.
    let one = |index| unsafe {
        if let (Some(before), Some(added)) = (to.read(index), input.get(column(index))) {
            to.write(index, before + added);
        }
    };
    let by_chunks = columns.is_multiple_of(CHUNK) && has_chunks(first) && to.has_chunks();
    each_place(block, to.len(), by_chunks && columns > 0, chunk, one);
}

/// Moves a tensor towards another, `to + share (input - to)`, unless the predicate is there and 0.
///
/// # Safety
///
/// There are as many elements of either; nobody else reads or writes those of `to` during the launch, or writes the
/// predicate, which may be NULL.
pub unsafe fn blend<B: Block>(
    block: &mut B,
    share: f32,
    input: &[f32],
    to: Out<'_, f32>,
    when: *const u32,
) {
    // SAFETY: the caller's promise.
    if unsafe { is_off(when) } {
        return;
    }
    let moved = |to: f32, from: f32| to + share * (from - to);
    let first = input.as_ptr();
    // SAFETY: each place is handed to one thread, and there are as many of the input.
    let chunk = |places| unsafe {
        let from = read_halves(first, places);
        if let Some(before) = to.read_halves(places) {
            to.write_halves(
                places,
                array::from_fn::<_, CHUNK, _>(|nth| moved(before[nth], from[nth])),
            );
        }
    };
    // SAFETY: as above.
    let one = |index| unsafe {
        if let (Some(before), Some(&from)) = (to.read(index), input.get(index)) {
            to.write(index, moved(before, from));
        }
    };
    let by_chunks = has_chunks(first) && to.has_chunks() && to.len() <= input.len();
    each_in_tiles(block, to.len(), by_chunks, chunk, one);
}
