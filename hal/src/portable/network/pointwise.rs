//! The rectifier, in the bits.

use adaloss_core::format::Element;

use crate::{
    Plain,
    network::Pointwise,
    portable::{Portable, PortableError, same_length},
};

impl<W: Element + Plain, G: Element + Plain> Pointwise<W, G> for Portable {
    fn relu(&mut self, values: &mut [W]) -> Result<(), PortableError> {
        for x in values {
            let is_negative = x.to_bits() & W::ENCODING.sign_bit() != 0;
            if is_negative && !x.widen().is_nan() {
                *x = W::from_bits(0);
            }
        }
        Ok(())
    }

    fn relu_input(&mut self, output: &[W], gradient: &mut [G]) -> Result<(), PortableError> {
        same_length("the gradient of a rectifier", output.len(), gradient.len())?;
        for (gradient, output) in gradient.iter_mut().zip(output) {
            if output.widen() == 0.0 {
                *gradient = G::from_bits(0);
            }
        }
        Ok(())
    }
}
