//! The device: host memory as the portable device has it, and what the mistakes share.

use adaloss_core::{
    apply::ApplyError,
    format::{Element, Format, Narrowing, Noise, Rounding, Subnormals, f16},
    policy::Cell,
    scale::Scale,
    statistics::{Outcome, Statistics},
    unscale::Unscaled,
};
use adaloss_hal::{
    BranchOf, Capabilities, Epilogue, HostHeap, HostMemory, HostSpace, Narrow, Plain,
    portable::{Portable, PortableError},
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

    /// Hands an epilogue to the portable device, if this one has what it asks for.
    pub(crate) fn over<'a>(
        &self,
        epilogue: Epilogue<'a, HostSpace>,
    ) -> Result<Epilogue<'a, HostSpace>, PortableError> {
        let Narrowing { format, rounding, .. } = epilogue.narrowing;
        let refuses = !self.capabilities.subnormals && format.subnormals == Subnormals::Gradual
            || !self.capabilities.stochastic_rounding && rounding == Rounding::Stochastic;
        if refuses {
            let asked = format.encoding;
            return Err(ApplyError::Encoding { asked, given: asked }.into());
        }
        Ok(epilogue)
    }
}

impl HostMemory for Mistaken {
    type Error = PortableError;

    fn can_do(&self) -> Capabilities {
        self.capabilities
    }
}

impl HostHeap for Mistaken {}

impl<F: Element + Plain> Narrow<F> for Mistaken {
    fn statistics(&mut self, values: &[F], to: &mut [Statistics]) -> Result<(), PortableError> {
        Portable.statistics(values, to)
    }

    fn apply(
        &mut self,
        values: &[f32],
        to: &mut [F],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        Portable.apply(values, to, self.over(epilogue)?)
    }

    fn propagate(
        &mut self,
        branches: &[BranchOf<'_, Self, F>],
        to: &mut [F],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        Portable.propagate(branches, to, self.over(epilogue)?)
    }

    fn unscale(
        &mut self,
        gradient: &[F],
        cell: &[Cell],
        to: &mut [f32],
        met: &mut [Unscaled],
    ) -> Result<(), PortableError> {
        Portable.unscale(gradient, cell, to, met)
    }
}

/// Returns the f32 results of an operation of the portable device.
pub(crate) fn results(
    length: usize,
    operation: impl for<'w> FnOnce(&'w mut [f32], Epilogue<'w, HostSpace>) -> Result<(), PortableError>,
) -> Result<Vec<f32>, PortableError> {
    let (cell, mut outcome) = ([Cell::at(Scale::ONE)], [Outcome::EMPTY]);
    let mut results = vec![0.0; length];
    let epilogue = Epilogue {
        from: &cell[..],
        to: &cell[..],
        narrowing: Narrowing::to(Format::BINARY32),
        noise: Noise::default(),
        stores: true,
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
