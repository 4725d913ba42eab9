//! The rectifier, in the bits.

use adaloss_core::format::Element;

use crate::{
    host::HostError,
    network::{Relu, ReluInput},
    plain::Plain,
    portable::Portable,
    run::{Fitting, Run},
    space::HostSpace,
};

impl<W: Element + Plain> Run<Relu<'_, HostSpace, W>> for Portable {
    fn execute(&mut self, operation: Fitting<'_, Relu<'_, HostSpace, W>>) -> Result<(), HostError> {
        let Relu { values } = operation.into_inner();
        for x in values.iter_mut() {
            let is_negative = x.to_bits() & W::ENCODING.sign_bit() != 0;
            if is_negative && !x.widen().is_nan() {
                *x = W::from_bits(0);
            }
        }
        Ok(())
    }
}

impl<W: Element + Plain, G: Element + Plain> Run<ReluInput<'_, '_, HostSpace, W, G>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, ReluInput<'_, '_, HostSpace, W, G>>,
    ) -> Result<(), HostError> {
        let ReluInput { output, gradient } = operation.into_inner();
        for (gradient, output) in gradient.iter_mut().zip(*output) {
            if output.widen() == 0.0 {
                *gradient = G::from_bits(0);
            }
        }
        Ok(())
    }
}
