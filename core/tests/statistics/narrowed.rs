//! [`Apply::slice`] for the encoding that a narrowing names.

use adaloss_core::{
    apply::Apply,
    format::{E4M3, E5M2, Element, Encoding, bf16, f16},
    statistics::Outcome,
};

/// Narrows a slice into elements of the narrowing's own type and returns their bits.
pub(crate) fn slice(apply: &Apply, values: &[f32], first: u64, outcome: &mut Outcome) -> Vec<u32> {
    match apply.narrowing.format.encoding {
        Encoding::Binary16 => slice_of::<f16>(apply, values, first, outcome),
        Encoding::BFloat16 => slice_of::<bf16>(apply, values, first, outcome),
        Encoding::E5M2 => slice_of::<E5M2>(apply, values, first, outcome),
        Encoding::E4M3 => slice_of::<E4M3>(apply, values, first, outcome),
        Encoding::Binary32 => slice_of::<f32>(apply, values, first, outcome),
    }
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
