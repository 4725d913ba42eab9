//! What benchmarks begin with.

use adaloss_core::{
    format::{Element, Narrowing, Noise},
    policy::Cell,
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_gpu::{Buffer, Cuda, GpuSpace};
use adaloss_hal::{AddressSpace, Device, Epilogue, Memory};

/// Values as gradients have them: of either sign, over some thirty binades.
pub(crate) fn gradients(device: &mut Cuda, elements: usize) -> anyhow::Result<Buffer<f32>> {
    let noise = Noise { seed: 2019, stream: 1 };
    let values: Vec<f32> = (0..elements as u32)
        .map(|index| {
            let word = noise.word(index);
            let exponent = 119 - (word >> 23 & 0xf) - (word >> 27 & 0xf);
            f32::from_bits(word & 0x807f_ffff | exponent << 23)
        })
        .collect();
    let mut buffer = device.zeroed(elements)?;
    device.write(&values, buffer.view_mut())?;
    Ok(buffer)
}

/// What an epilogue ends in.
pub(crate) struct End {
    pub(crate) cells: Buffer<Cell>,
    pub(crate) outcome: Buffer<Outcome>,
    pub(crate) histogram: Buffer<Histogram>,
}

impl End {
    /// Results come at scale 1, and go to a scale of `2^to_log2`.
    pub(crate) fn new<F: Element>(device: &mut Cuda, to_log2: i32) -> anyhow::Result<Self> {
        let mut of = Self {
            cells: device.zeroed(2)?,
            outcome: device.zeroed(1)?,
            histogram: device.zeroed(1)?,
        };
        let cells = [Cell::new(), Cell::at(Scale::new(to_log2)?)];
        device.write(&cells, of.cells.view_mut())?;
        let empty = Histogram::new(Narrowing::to(F::ENCODING.into()));
        device.write(&[empty], of.histogram.view_mut())?;
        Ok(of)
    }

    pub(crate) fn epilogue<F: Element>(
        &mut self,
        stores: bool,
        measures: bool,
    ) -> Epilogue<'_, GpuSpace> {
        let cell = |nth| GpuSpace::part(Cuda::view(&self.cells), nth..nth + 1).expect("two cells");
        Epilogue {
            from: cell(0),
            to: cell(1),
            narrowing: Narrowing::to(F::ENCODING.into()),
            noise: Noise::default(),
            stores,
            when: None,
            outcome: self.outcome.view_mut(),
            histogram: measures.then(|| self.histogram.view_mut()),
        }
    }
}
