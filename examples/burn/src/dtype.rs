//! Types of burn's tensors, as encodings of core's.

use adaloss_core::format::Encoding;
use burn::tensor::DType;

/// Returns the encoding of a tensor whose type can hold gradients.
pub(crate) const fn encoding(dtype: DType) -> Option<Encoding> {
    match dtype {
        DType::F32 => Some(Encoding::Binary32),
        DType::F16 => Some(Encoding::Binary16),
        DType::BF16 => Some(Encoding::BFloat16),
        _ => None,
    }
}
