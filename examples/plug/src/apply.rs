//! Into low precision: gradients on the host are narrowed by core, and widened for the framework.

use adaloss_core::{
    apply::{ApplyError, Pass},
    format::{Element, Encoding},
    with_element,
};

/// Does what a pass asks for; returns the narrowed values, widened again, if it stores.
///
/// # Errors
///
/// Core refuses the pass, whose encoding and lengths fit.
pub fn narrow(values: &[f32], pass: &mut Pass<'_>) -> Result<Vec<f32>, ApplyError> {
    with_element!(pass.narrowing().format.encoding, F => narrow_to::<F>(values, pass))
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
    tensor.precision() >= gradient.precision()
        && tensor.min_subnormal_log2() <= gradient.min_subnormal_log2()
        && tensor.widen(tensor.max_finite_bits()) >= gradient.widen(gradient.max_finite_bits())
}
