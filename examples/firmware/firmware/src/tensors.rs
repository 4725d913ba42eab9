//! The tensors of a walk, in the device's memory.

use core::slice;

use adaloss_core::{
    apply::Pass, format::f16, policy::Cell, scale::Scale, statistics::Statistics, unscale::Unscaled,
};
use adaloss_hal::{
    AddressSpace, DeviceEpilogue, HasNarrow, Memory, Mut, Narrow, Summarise, Unscale,
};

use crate::{layers::GRADIENT, report::CRC};

/// Everything that a walk keeps on the device: less than 6 KiB, 4 of them a histogram.
pub(crate) struct Tensors<D: Memory> {
    epilogue: DeviceEpilogue<D>,
    /// The f32 results of a layer, and then what unscaling makes of them.
    results: D::Buffer<f32>,
    length: usize,
    /// The gradient that arrives and the one that leaves, in turn.
    gradients: [D::Buffer<f16>; 2],
    scale: D::Buffer<Cell>,
    statistics: D::Buffer<Statistics>,
    met: D::Buffer<Unscaled>,
}

impl<D: Memory + HasNarrow<f16>> Tensors<D> {
    pub(crate) fn new(device: &mut D) -> Result<Self, D::Error> {
        Ok(Self {
            epilogue: DeviceEpilogue::new(device)?,
            results: device.zeroed(GRADIENT)?,
            length: 0,
            gradients: [device.zeroed(GRADIENT)?, device.zeroed(GRADIENT)?],
            scale: device.zeroed(1)?,
            statistics: device.zeroed(1)?,
            met: device.zeroed(1)?,
        })
    }

    /// Puts f32 results where a product would leave them.
    pub(crate) fn compute(&mut self, device: &mut D, results: &[f32]) -> Result<(), D::Error> {
        self.length = results.len();
        first_mut::<D, _>(&mut self.results, self.length)
            .map_or(Ok(()), |to| device.write(results, to))
    }

    /// Does what a pass asks for with the results; they go to gradient `to`, which is returned.
    pub(crate) fn narrow(
        &mut self,
        device: &mut D,
        pass: &mut Pass<'_>,
        to: usize,
    ) -> Result<(), D::Error> {
        let Self { epilogue, results, length, gradients, .. } = self;
        epilogue.run(device, pass, |device, mut epilogue| {
            let input = D::Space::part(D::view(results), 0..*length);
            let narrowed = first_mut::<D, _>(&mut gradients[to], *length);
            let epilogue = epilogue.reborrow();
            let operation = input.zip(narrowed).map(|(input, to)| Narrow { input, to, epilogue });
            operation.map_or(Ok(()), |operation| device.run(operation))
        })
    }

    /// Returns the statistics of the first elements of a gradient.
    pub(crate) fn observe(
        &mut self,
        device: &mut D,
        gradient: usize,
        length: usize,
    ) -> Result<Statistics, D::Error> {
        let mut statistics = Statistics::EMPTY;
        device.write(&[statistics], D::view_mut(&mut self.statistics))?;
        if let Some(values) = D::Space::part(D::view(&self.gradients[gradient]), 0..length) {
            let to = D::view_mut(&mut self.statistics);
            device.run(Summarise::<D::Space, f16> { input: values, to, when: None })?;
        }
        device.read(D::view(&self.statistics), slice::from_mut(&mut statistics))?;
        Ok(statistics)
    }

    /// Unscales a gradient, to where its results were.
    pub(crate) fn unscale(
        &mut self,
        device: &mut D,
        gradient: usize,
        scale: Scale,
    ) -> Result<Unscaled, D::Error> {
        let mut met = Unscaled::default();
        device.write(&[Cell::at(scale)], D::view_mut(&mut self.scale))?;
        device.write(&[met], D::view_mut(&mut self.met))?;
        let from = D::Space::part(D::view(&self.gradients[gradient]), 0..self.length);
        let to = first_mut::<D, _>(&mut self.results, self.length);
        if let Some((gradient, to)) = from.zip(to) {
            let (cell, counts) = (D::view(&self.scale), D::view_mut(&mut self.met));
            device.run(Unscale::<D::Space, f16> { gradient, cell, to, counts })?;
        }
        device.read(D::view(&self.met), slice::from_mut(&mut met))?;
        Ok(met)
    }

    /// Returns a checksum over the bits of a gradient.
    pub(crate) fn checksum(&self, device: &mut D, gradient: usize) -> Result<u32, D::Error> {
        let mut elements = [f16::ZERO; GRADIENT];
        let elements = &mut elements[..self.length];
        if let Some(from) = D::Space::part(D::view(&self.gradients[gradient]), 0..self.length) {
            device.read(from, elements)?;
        }
        let mut digest = CRC.digest();
        elements.iter().for_each(|x| digest.update(&x.to_le_bytes()));
        Ok(digest.finalize())
    }
}

/// Names the first elements of a buffer.
fn first_mut<D: Memory, T: adaloss_hal::Plain>(
    buffer: &mut D::Buffer<T>,
    length: usize,
) -> Option<Mut<'_, D, T>> {
    D::Space::part_mut(D::view_mut(buffer), 0..length)
}
