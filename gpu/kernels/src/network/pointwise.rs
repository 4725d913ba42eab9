//! The rectifier, in the bits.

use core::array;

use adaloss_core::format::Element;

use super::operand::Operand;
use crate::{
    Block,
    memory::{CHUNK, Out, each_place},
};

/// Sets elements with a negative sign to +0, -0 among them; a NaN stays what it is.
///
/// # Safety
///
/// Nobody else reads or writes the elements during the launch.
pub unsafe fn relu<B: Block, F: Element>(block: &mut B, values: Out<'_, F>) {
    let rectified = |x: F| {
        let (bits, sign) = (x.to_bits(), F::ENCODING.sign_bit());
        let is_nan = bits & !sign > const { greatest::<F>() };
        if bits & sign != 0 && !is_nan { F::from_bits(0) } else { x }
    };
    // SAFETY: each place is handed to one thread.
    let chunk = |index| unsafe {
        if let Some(chunk) = values.read_chunk::<CHUNK>(index) {
            values.write_chunk(index, chunk.map(rectified));
        }
    };
    // SAFETY: as above.
    let one = |index| unsafe {
        if let Some(x) = values.read(index) {
            values.write(index, rectified(x));
        }
    };
    each_place(block, values.len(), values.has_chunks(), chunk, one);
}

/// Returns the bits of the greatest number, infinity where there is one.
const fn greatest<F: Element>() -> u32 {
    F::ENCODING.max_finite_bits() + F::ENCODING.has_infinity() as u32
}

/// Sets the elements of a gradient to +0 where the output of the rectifier is zero.
///
/// # Safety
///
/// There are as many elements of the output, and nobody writes them during the launch; nobody else reads or writes the
/// gradient.
pub unsafe fn relu_input<B: Block, G: Element>(
    block: &mut B,
    output: Operand,
    gradient: Out<'_, G>,
) {
    // SAFETY: the caller's promise; each place is handed to one thread.
    let chunk = |index| unsafe {
        if let Some(chunk) = gradient.read_chunk::<CHUNK>(index) {
            let zeros = output.zeros(index);
            let kept = |nth: usize| if zeros[nth] { G::from_bits(0) } else { chunk[nth] };
            gradient.write_chunk(index, array::from_fn::<_, CHUNK, _>(kept));
        }
    };
    // SAFETY: as above.
    let one = |index| unsafe {
        if output.is_zero(index) {
            gradient.write(index, G::from_bits(0));
        }
    };
    let by_chunks = output.has_chunks() && gradient.has_chunks();
    each_place(block, gradient.len(), by_chunks, chunk, one);
}
