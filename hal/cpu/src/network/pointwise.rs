//! The rectifier, in the bits.

use adaloss_core::format::Element;

use super::{CHUNK, Cpu, vectors};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Plain, Run,
    network::{Relu, ReluInput},
};

impl<W: Element + Plain> Run<Relu<'_, HostSpace, W>> for Cpu {
    fn execute(&mut self, operation: Fitting<'_, Relu<'_, HostSpace, W>>) -> Result<(), HostError> {
        let Relu { values } = operation.into_inner();
        self.each_chunk(values, SIZE, |_, values| {
            vectors(
                #[inline(always)]
                || values.iter_mut().for_each(|x| *x = rectified(*x)),
            );
        });
        Ok(())
    }
}

impl<W: Element + Plain, G: Element + Plain> Run<ReluInput<'_, '_, HostSpace, W, G>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, ReluInput<'_, '_, HostSpace, W, G>>,
    ) -> Result<(), HostError> {
        let ReluInput { output, gradient } = operation.into_inner();
        self.each_chunk(gradient, SIZE, |nth, gradient| {
            let output = &output[nth * SIZE..][..gradient.len()];
            vectors(
                #[inline(always)]
                || {
                    let pairs = gradient.iter_mut().zip(output);
                    pairs.for_each(|(x, output)| *x = gated(*x, *output));
                },
            );
        });
        Ok(())
    }
}

/// Elements of a chunk: there is so little to do for each that longer ones are worth it.
const SIZE: usize = 8 * CHUNK;

/// Returns +0 of an element with a negative sign that is not NaN.
#[inline(always)]
fn rectified<E: Element>(x: E) -> E {
    let bits = x.to_bits();
    // From -0 to the last negative number, which is infinity where there is one.
    let is_negative = bits.wrapping_sub(E::ENCODING.sign_bit()) <= last_number::<E>();
    E::from_bits(if is_negative { 0 } else { bits })
}

/// Returns +0 where the output of the rectifier is zero.
#[inline(always)]
fn gated<W: Element, G: Element>(x: G, output: W) -> G {
    let magnitude = output.to_bits() & (W::ENCODING.sign_bit() - 1);
    G::from_bits(if magnitude == 0 { 0 } else { x.to_bits() })
}

/// Returns the bits of the greatest magnitude that is not NaN.
#[inline(always)]
pub(super) fn last_number<E: Element>() -> u32 {
    let encoding = E::ENCODING;
    if encoding.has_infinity() { encoding.overflow_bits() } else { encoding.max_finite_bits() }
}
