//! The device: host memory as the portable device has it, and what the mistakes share.

use adaloss_core::{
    format::{Element, Format, Narrowing, Noise, f16},
    policy::Cell,
    scale::Scale,
    statistics::Outcome,
};
use adaloss_hal::{
    Capabilities, Epilogue, Fitting, HostError, HostHeap, HostMemory, HostSpace, Narrow, Plain,
    Propagate, Run, Summarise, Unscale, portable::Portable,
};

use crate::mistake::Mistake;

/// The portable device with a mistake.
pub(crate) struct Mistaken {
    pub(crate) mistake: Mistake,
    pub(crate) capabilities: Capabilities,
}

impl Mistaken {
    pub(crate) fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }
}

impl HostMemory for Mistaken {
    type Error = HostError;

    fn can_do(&self) -> Capabilities {
        self.capabilities
    }
}

impl HostHeap for Mistaken {}

impl<F: Element + Plain> Run<Summarise<'_, '_, HostSpace, F>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Summarise<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        Portable.execute(operation)
    }
}

impl<F: Element + Plain> Run<Narrow<'_, '_, HostSpace, F>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Narrow<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        Portable.execute(operation)
    }
}

impl<F: Element + Plain> Run<Propagate<'_, '_, HostSpace, F>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Propagate<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        Portable.execute(operation)
    }
}

impl<F: Element + Plain> Run<Unscale<'_, '_, HostSpace, F>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unscale<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        Portable.execute(operation)
    }
}

/// Returns the f32 results of an operation of the portable device.
pub(crate) fn results(
    length: usize,
    operation: impl for<'w> FnOnce(&'w mut [f32], Epilogue<'w, HostSpace>) -> Result<(), HostError>,
) -> Result<Vec<f32>, HostError> {
    let (cell, mut outcome) = ([Cell::at(Scale::ONE)], [Outcome::EMPTY]);
    let mut results = vec![0.0; length];
    let epilogue = Epilogue {
        from: &cell[..],
        to: &cell[..],
        narrowing: Narrowing::to(Format::BINARY32),
        noise: Noise::default(),
        stores: true,
        when: None,
        outcome: &mut outcome[..],
        histogram: None,
    };
    operation(&mut results, epilogue)?;
    Ok(results)
}

/// Returns the nearest number with the eleven digits of binary16.
pub(crate) fn in_binary16(x: f32) -> f32 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let unit = 2.0_f32.powi(x.abs().log2().floor() as i32);
    f16::from_f32(x / unit).to_f32() * unit
}
