//! The driver: the corridor.

use adaloss_core::{
    format::{Encoding, Format, Overflow, Rounding, Subnormals, f16},
    propagate::{Scaled, shifted},
    unscale::unscale,
};
use adaloss_hal::{Device, Epilogue, Fitting, Narrow, Propagate, Run, Summarise, Unscale};

use crate::{
    Accelerator, AcceleratorError, Bus, Register, command,
    device::{AcceleratorSpace, CHUNK},
    option,
};

/// What the accelerator narrows to.
const FORMAT: Format = Format::new(Encoding::Binary16, Subnormals::Flush);

/// An epilogue as the registers take it.
struct Ending {
    options: u32,
    shift: i32,
    incoming: adaloss_core::scale::Scale,
    outcome: u32,
    histogram: u32,
}

impl<B: Bus> Accelerator<'_, B> {
    /// Reads the scales of an epilogue that fits.
    fn open(
        &mut self,
        epilogue: &Epilogue<'_, AcceleratorSpace>,
    ) -> Result<Ending, AcceleratorError> {
        let narrowing = epilogue.narrowing;
        let truncate = match narrowing.rounding {
            Rounding::NearestEven => 0,
            Rounding::TowardZero => option::TRUNCATE,
            // What was checked for another device.
            Rounding::Stochastic => return Err(AcceleratorError::Narrowing),
        };
        let saturate = match narrowing.overflow {
            Overflow::Infinity => 0,
            Overflow::Saturate => option::SATURATE,
        };
        let (mut measure, mut histogram) = (0, 0);
        if let Some(name) = &epilogue.histogram {
            (measure, histogram) = (option::MEASURE, name.shared().address());
        }
        let incoming = self.one("the cell that results come from", epilogue.from)?.scale();
        let outgoing = self.one("the cell that results go to", epilogue.to)?.scale();
        Ok(Ending {
            options: truncate
                | saturate
                | measure
                | if epilogue.stores { option::STORE } else { 0 },
            shift: (outgoing / incoming).log2(),
            incoming,
            outcome: epilogue.outcome.shared().address(),
            histogram,
        })
    }

    /// Starts the one command there is, and returns while it runs.
    fn start(
        &mut self,
        (values, results): (u32, u32),
        length: usize,
        ending: &Ending,
    ) -> Result<(), AcceleratorError> {
        self.wait()?;
        for (register, word) in [
            (Register::Values, values),
            (Register::Results, results),
            (Register::Length, length as u32),
            (Register::Shift, ending.shift as u32),
            (Register::Incoming, ending.incoming.log2() as u32),
            (Register::Options, ending.options),
            (Register::Outcome, ending.outcome),
            (Register::Histogram, ending.histogram),
            (Register::Command, command::NARROW),
        ] {
            self.bus.store(register, word);
        }
        Ok(())
    }
}

impl<B: Bus> Run<Summarise<'_, '_, AcceleratorSpace, f16>> for Accelerator<'_, B> {
    fn execute(
        &mut self,
        operation: Fitting<'_, Summarise<'_, '_, AcceleratorSpace, f16>>,
    ) -> Result<(), AcceleratorError> {
        let Summarise { input, to, .. } = operation.into_inner();
        let mut statistics = self.one("the statistics", to.shared())?;
        let mut chunk = [f16::ZERO; CHUNK];
        for part in input.chunks(CHUNK) {
            let chunk = &mut chunk[..part.len()];
            self.read(part, chunk)?;
            chunk.iter().for_each(|x| statistics.observe(FORMAT.widen(x.to_bits().into())));
        }
        self.write(&[statistics], to.reborrow())
    }
}

impl<B: Bus> Run<Narrow<'_, '_, AcceleratorSpace, f16>> for Accelerator<'_, B> {
    fn execute(
        &mut self,
        operation: Fitting<'_, Narrow<'_, '_, AcceleratorSpace, f16>>,
    ) -> Result<(), AcceleratorError> {
        let Narrow { input, to, epilogue } = operation.into_inner();
        let ending = self.open(epilogue)?;
        self.start((input.address(), to.shared().address()), input.len(), &ending)
    }
}

impl<B: Bus> Run<Propagate<'_, '_, AcceleratorSpace, f16>> for Accelerator<'_, B> {
    fn execute(
        &mut self,
        operation: Fitting<'_, Propagate<'_, '_, AcceleratorSpace, f16>>,
    ) -> Result<(), AcceleratorError> {
        let Propagate { branches, to, epilogue } = operation.into_inner();
        let (to, ending) = (to.shared(), self.open(epilogue)?);
        let mut first = 0;
        for to in to.chunks(CHUNK) {
            let range = first..first + to.len();
            first = range.end;
            let mut sums = [0.0; CHUNK];
            let mut chunk = [f16::ZERO; CHUNK];
            for (nth, branch) in branches.iter().enumerate() {
                let part = branch.gradient.part(range.clone());
                let part = part.ok_or(AcceleratorError::Length { what: "a branch" })?;
                let chunk = &mut chunk[..part.len()];
                self.read(part, chunk)?;
                let shift =
                    ending.incoming / self.one("the cell of a branch", branch.cell)?.scale();
                for (sum, x) in sums.iter_mut().zip(chunk) {
                    let x = shifted(FORMAT.widen(x.to_bits().into()), shift);
                    *sum = if nth == 0 { x } else { *sum + x };
                }
            }
            // The last chunk's sums may still be read.
            self.wait()?;
            let memory = self.sums.name().address();
            for (address, x) in (memory..).step_by(size_of::<f32>()).zip(&sums[..to.len()]) {
                self.bus.write(address, &x.to_ne_bytes())?;
            }
            self.start((memory, to.address()), to.len(), &ending)?;
        }
        Ok(())
    }
}

impl<B: Bus> Run<Unscale<'_, '_, AcceleratorSpace, f16>> for Accelerator<'_, B> {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unscale<'_, '_, AcceleratorSpace, f16>>,
    ) -> Result<(), AcceleratorError> {
        let Unscale { gradient, cell, to, counts } = operation.into_inner();
        let scale = self.one("the cell of the gradient", *cell)?.scale();
        let mut total = self.one("the counts", counts.shared())?;
        let (mut scaled, mut unscaled) = ([f16::ZERO; CHUNK], [0.0; CHUNK]);
        for (from, nth) in gradient.chunks(CHUNK).zip(0..) {
            let (scaled, unscaled) = (&mut scaled[..from.len()], &mut unscaled[..from.len()]);
            self.read(from, scaled)?;
            let part = unscale(FORMAT, Scaled::new(&*scaled, scale), unscaled);
            total.merge(&part.map_err(|_| AcceleratorError::Length { what: "a part" })?);
            let first = nth * CHUNK;
            if let Some(to) = to.reborrow().part(first..first + unscaled.len()) {
                self.write(unscaled, to)?;
            }
        }
        self.write(&[total], counts.reborrow())
    }
}
