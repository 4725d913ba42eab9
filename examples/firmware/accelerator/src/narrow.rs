//! The driver: the corridor.

use adaloss_core::{
    format::{Encoding, Format, Overflow, Rounding, Subnormals, f16},
    policy::{self, Cell},
    propagate::{Scaled, shifted},
    statistics::Statistics,
    unscale::{Unscaled, unscale},
};
use adaloss_hal::{Branch, Certify, Device, Epilogue, Finish, Fitting, Narrow, Note, Run};

use crate::{
    Accelerator, AcceleratorError, Bus, Name, NameMut, Register, command,
    device::{AcceleratorSpace, CHUNK, same_length},
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
    /// Checks an epilogue, so that nothing has been written when it is wrong.
    fn open(
        &mut self,
        epilogue: &Epilogue<'_, AcceleratorSpace>,
    ) -> Result<Ending, AcceleratorError> {
        let narrowing = epilogue.narrowing;
        let truncate = match narrowing.rounding {
            Rounding::NearestEven => 0,
            Rounding::TowardZero => option::TRUNCATE,
            Rounding::Stochastic => return Err(AcceleratorError::Narrowing),
        };
        if narrowing.format != FORMAT {
            return Err(AcceleratorError::Narrowing);
        }
        let saturate = match narrowing.overflow {
            Overflow::Infinity => 0,
            Overflow::Saturate => option::SATURATE,
        };
        let outcome = epilogue.outcome.shared();
        same_length("an outcome", 1, outcome.len())?;
        let (mut measure, mut histogram) = (0, 0);
        if let Some(name) = &epilogue.histogram {
            same_length("a histogram", 1, name.shared().len())?;
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
            outcome: outcome.address(),
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

impl<B: Bus> Narrow<f16> for Accelerator<'_, B> {
    fn statistics(
        &mut self,
        values: Name<'_, f16>,
        to: NameMut<'_, Statistics>,
    ) -> Result<(), AcceleratorError> {
        let mut statistics = self.one("statistics", to.shared())?;
        let mut chunk = [f16::ZERO; CHUNK];
        for part in values.chunks(CHUNK) {
            let chunk = &mut chunk[..part.len()];
            self.read(part, chunk)?;
            chunk.iter().for_each(|x| statistics.observe(FORMAT.widen(x.to_bits().into())));
        }
        self.write(&[statistics], to)
    }

    fn apply(
        &mut self,
        values: Name<'_, f32>,
        to: NameMut<'_, f16>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), AcceleratorError> {
        let to = to.shared();
        same_length("the narrowed tensor", values.len(), to.len())?;
        let ending = self.open(&epilogue)?;
        self.start((values.address(), to.address()), values.len(), &ending)
    }

    fn propagate(
        &mut self,
        branches: &[Branch<Name<'_, f16>, Name<'_, Cell>>],
        to: NameMut<'_, f16>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), AcceleratorError> {
        let to = to.shared();
        if branches.is_empty() {
            return Err(AcceleratorError::Length { what: "a join" });
        }
        for branch in branches {
            same_length("a branch of a join", to.len(), branch.gradient.len())?;
            same_length("the cell of a branch", 1, branch.cell.len())?;
        }
        let ending = self.open(&epilogue)?;
        let mut first = 0;
        for to in to.chunks(CHUNK) {
            let range = first..first + to.len();
            first = range.end;
            let mut sums = [0.0; CHUNK];
            let mut chunk = [f16::ZERO; CHUNK];
            for (nth, branch) in branches.iter().enumerate() {
                let part = branch.gradient.part(range.clone());
                let part = part.ok_or(AcceleratorError::Length { what: "a branch of a join" })?;
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

    fn unscale(
        &mut self,
        gradient: Name<'_, f16>,
        cell: Name<'_, Cell>,
        to: NameMut<'_, f32>,
        met: NameMut<'_, Unscaled>,
    ) -> Result<(), AcceleratorError> {
        same_length("the unscaled tensor", gradient.len(), to.shared().len())?;
        let scale = self.one("the cell of a gradient", cell)?.scale();
        let mut total = self.one("what unscaling met", met.shared())?;
        let (mut scaled, mut unscaled) = ([f16::ZERO; CHUNK], [0.0; CHUNK]);
        let mut to = to;
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
        self.write(&[total], met)
    }
}

impl<B: Bus> Run<Certify<'_, '_, AcceleratorSpace>> for Accelerator<'_, B> {
    fn execute(
        &mut self,
        operation: Fitting<'_, Certify<'_, '_, AcceleratorSpace>>,
    ) -> Result<(), AcceleratorError> {
        let Certify { config, histogram, cell, certificate } = operation.into_inner();
        let seen = self.one("the histogram", *histogram)?;
        let mut state = self.one("the cell", cell.shared())?;
        let certified = policy::certify(config, &seen, state.scale(), &mut state);
        self.write(&[state], cell.reborrow())?;
        self.write(&[certified], certificate.reborrow())
    }
}

impl<B: Bus> Run<Note<'_, '_, AcceleratorSpace>> for Accelerator<'_, B> {
    fn execute(
        &mut self,
        operation: Fitting<'_, Note<'_, '_, AcceleratorSpace>>,
    ) -> Result<(), AcceleratorError> {
        let Note { config, outcome, from, cell } = operation.into_inner();
        let outcome = self.one("the outcome", *outcome)?;
        let incoming = self.one("the cell that results come from", *from)?.scale();
        let mut state = self.one("the cell", cell.shared())?;
        // What is to be narrowed once more is for the host to ask.
        let _ = policy::note(config, &outcome, incoming, &mut state);
        self.write(&[state], cell.reborrow())
    }
}

impl<B: Bus> Run<Finish<'_, '_, AcceleratorSpace>> for Accelerator<'_, B> {
    fn execute(
        &mut self,
        operation: Fitting<'_, Finish<'_, '_, AcceleratorSpace>>,
    ) -> Result<(), AcceleratorError> {
        let Finish { config, cells } = operation.into_inner();
        for nth in 0..cells.shared().len() {
            let Some(cell) = cells.reborrow().part(nth..nth + 1) else { break };
            let mut state = self.one("a cell", cell.shared())?;
            policy::finish(config, &mut state);
            self.write(&[state], cell)?;
        }
        Ok(())
    }
}
