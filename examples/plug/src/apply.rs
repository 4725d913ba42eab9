//! Into low precision: gradients on the host are narrowed by core, and widened for the framework.

use adaloss_core::{
    apply::{ApplyError, Pass},
    format::{E4M3, E5M2, Element, Encoding, bf16, f16},
};

/// Does what a pass asks for; returns the narrowed values, widened again, if it stores.
///
/// # Errors
///
/// Core refuses the pass, whose encoding and lengths fit.
pub fn narrow(values: &[f32], pass: &mut Pass<'_>) -> Result<Vec<f32>, ApplyError> {
    match pass.narrowing().format.encoding {
        Encoding::Binary16 => narrow_to::<f16>(values, pass),
        Encoding::BFloat16 => narrow_to::<bf16>(values, pass),
        Encoding::E5M2 => narrow_to::<E5M2>(values, pass),
        Encoding::E4M3 => narrow_to::<E4M3>(values, pass),
        Encoding::Binary32 => narrow_to::<f32>(values, pass),
    }
}

fn narrow_to<F: Element>(values: &[f32], pass: &mut Pass<'_>) -> Result<Vec<f32>, ApplyError> {
    let mut narrowed = vec![F::from_bits(0); values.len()];
    pass.apply(values, &mut narrowed)?;
    if !pass.stores() {
        return Ok(Vec::new());
    }
    let format = pass.narrowing().format;
    Ok(narrowed.iter().map(|x| format.widen(x.to_bits())).collect())
}

/// Tells whether every number of a gradient's encoding is one of a tensor's.
pub const fn holds(tensor: Encoding, gradient: Encoding) -> bool {
    use Encoding::{BFloat16, Binary16, Binary32, E4M3, E5M2};
    matches!(
        (tensor, gradient),
        (Binary32, _)
            | (Binary16, Binary16 | E5M2 | E4M3)
            | (BFloat16, BFloat16 | E5M2 | E4M3)
            | (E5M2, E5M2)
            | (E4M3, E4M3)
    )
}
