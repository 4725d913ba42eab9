//! [`Apply::slice`] for the encoding that a narrowing names.

use adaloss_core::{apply::Apply, format::Element, statistics::Outcome, with_element};

/// Narrows a slice into elements of the narrowing's own type and returns their bits.
pub(crate) fn slice(apply: &Apply, values: &[f32], first: u64, outcome: &mut Outcome) -> Vec<u32> {
    with_element!(apply.narrowing.format.encoding, F => slice_of::<F>(apply, values, first, outcome))
}

fn slice_of<F: Element>(
    apply: &Apply,
    values: &[f32],
    first: u64,
    outcome: &mut Outcome,
) -> Vec<u32> {
    let mut narrowed = vec![F::from_bits(0); values.len()];
    apply.slice(values, &mut narrowed, first, outcome).expect("the type of the encoding");
    narrowed.into_iter().map(F::to_bits).collect()
}
