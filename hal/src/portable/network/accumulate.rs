//! Sums of f32 tensors.

use crate::{
    host::HostError,
    network::{Accumulate, Blend},
    portable::Portable,
    run::{Fitting, Run},
    space::HostSpace,
};

impl Run<Accumulate<'_, '_, HostSpace>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Accumulate<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Accumulate { input, to } = operation.into_inner();
        for (to, from) in to.iter_mut().zip(input.iter().cycle()) {
            *to += from;
        }
        Ok(())
    }
}

impl Run<Blend<'_, '_, HostSpace>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Blend<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Blend { share, input, to, .. } = operation.into_inner();
        for (to, from) in to.iter_mut().zip(*input) {
            *to += *share * (from - *to);
        }
        Ok(())
    }
}
