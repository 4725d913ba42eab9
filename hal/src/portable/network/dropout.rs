//! Dropout, from the random words of the mask.

use adaloss_core::format::Element;

use crate::{
    host::HostError,
    host::Sink,
    network::Dropout,
    plain::Plain,
    portable::Portable,
    run::{Fitting, Run},
    space::HostSpace,
};

impl<E: Element + Plain> Run<Dropout<'_, '_, HostSpace, E>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Dropout<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let Dropout { mask, input, to, epilogue } = operation.into_inner();
        let gain = mask.gain();
        Sink::open(epilogue.reborrow())?.each(0, to, |index| {
            if mask.drops(index as u64) { 0.0 } else { gain * input[index].widen() }
        })
    }
}
