//! Into low precision: a gradient is narrowed by core and becomes a tensor of burn's again.

use adaloss_core::{
    apply::{ApplyError, Pass},
    format::{E4M3, E5M2, Element, Encoding, Format, bf16, f16},
};
use burn::tensor::DType;

/// Does what a pass asks for; returns the narrowed values, widened again, if it stores.
pub(crate) fn narrow(values: &[f32], pass: &mut Pass<'_>) -> Result<Vec<f32>, ApplyError> {
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

/// Tells whether every number of a format is one of the tensor's type.
pub(crate) fn holds(dtype: DType, format: Format) -> bool {
    match dtype {
        DType::F32 => true,
        DType::F16 => {
            matches!(format.encoding, Encoding::Binary16 | Encoding::E5M2 | Encoding::E4M3)
        }
        DType::BF16 => {
            matches!(format.encoding, Encoding::BFloat16 | Encoding::E5M2 | Encoding::E4M3)
        }
        _ => false,
    }
}
