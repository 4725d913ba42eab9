//! The accelerator, in software.

use crate::{
    bus::{Bus, Fault, Register, command, option, status},
    unit::{Became, Unit},
};

/// An accelerator with `BYTES` bytes of memory.
///
/// It is busy for a while after each command, and does its work at the end of it: a driver that does
/// not wait reads what was there before.
#[derive(Clone, Debug)]
pub struct Model<const BYTES: usize> {
    registers: [u32; Register::COUNT],
    /// How often the status still reads busy.
    busy: u32,
    memory: [u8; BYTES],
}

/// Where the counters of an `Outcome` are, in bytes.
mod outcome {
    pub(super) const ELEMENTS: u32 = 0;
    pub(super) const NONFINITE: u32 = 8;
    pub(super) const ZERO: u32 = 16;
    pub(super) const UNDERFLOW: u32 = 24;
    pub(super) const OVERFLOW: u32 = 40;
    pub(super) const MAX_BITS: u32 = 48;
    pub(super) const SIZE: u32 = 56;
}

/// Where those of a `Histogram` are, after the four bytes of its narrowing and four more.
mod histogram {
    pub(super) const ELEMENTS: u32 = 8;
    pub(super) const NONFINITE: u32 = 16;
    pub(super) const ZERO: u32 = 24;
    pub(super) const FLOORS: u32 = 32;
    pub(super) const CEILINGS: u32 = FLOORS + 8 * BINS as u32;
    pub(super) const BINS: i32 = 254;
    pub(super) const SIZE: u32 = 4096;
}

impl<const BYTES: usize> Model<BYTES> {
    /// Makes an idle accelerator whose memory is zero.
    pub const fn new() -> Self {
        Self { registers: [0; Register::COUNT], busy: 0, memory: [0; BYTES] }
    }

    fn register(&self, register: Register) -> u32 {
        self.registers[register as usize]
    }

    fn has(&self, option: u32) -> bool {
        self.register(Register::Options) & option != 0
    }

    /// Does what the command register says.
    fn run(&mut self) -> Result<(), Fault> {
        if self.register(Register::Command) != command::NARROW {
            return Err(Fault { address: 0 });
        }
        let (values, results) = (self.register(Register::Values), self.register(Register::Results));
        let (outcome, histogram) =
            (self.register(Register::Outcome), self.register(Register::Histogram));
        let length = self.register(Register::Length);
        let (stores, measures) = (self.has(option::STORE), self.has(option::MEASURE));

        // Every address is looked at before anything is written.
        self.check(values, 4, length)?;
        if stores {
            self.check(results, 2, length)?;
            self.check(outcome, 1, outcome::SIZE)?;
        }
        if measures {
            self.check(histogram, 1, histogram::SIZE)?;
        }
        for i in 0..length {
            let bits = self.word(values + 4 * i)?;
            if measures {
                self.measure(bits, histogram)?;
            }
            if stores {
                self.narrow(bits, results + 2 * i, outcome)?;
            }
        }
        Ok(())
    }

    /// Narrows one value and counts its fate.
    fn narrow(&mut self, bits: u32, result: u32, counts: u32) -> Result<(), Fault> {
        let shift = self.register(Register::Shift) as i32;
        let (narrowed, became) = self.unit().narrow(bits, shift);
        self.write(result, &narrowed.to_ne_bytes())?;
        self.count(counts + outcome::ELEMENTS)?;
        match became {
            Became::Zero => self.count(counts + outcome::ZERO)?,
            Became::Vanished => self.count(counts + outcome::UNDERFLOW)?,
            Became::Overflowed => self.count(counts + outcome::OVERFLOW)?,
            Became::NonFinite => return self.count(counts + outcome::NONFINITE),
            Became::Normal => {}
        }
        let greatest = self.word(counts + outcome::MAX_BITS)?.max(bits & 0x7fff_ffff);
        self.write(counts + outcome::MAX_BITS, &greatest.to_ne_bytes())
    }

    /// Counts one value by the scales at which it lives.
    fn measure(&mut self, bits: u32, counts: u32) -> Result<(), Fault> {
        self.count(counts + histogram::ELEMENTS)?;
        let incoming = self.register(Register::Incoming) as i32;
        let Some((least, greatest)) = self.unit().shifts(bits) else {
            let is_zero = bits & 0x7fff_ffff == 0;
            let counter = if is_zero { histogram::ZERO } else { histogram::NONFINITE };
            return self.count(counts + counter);
        };
        // The scales 2^-126 to 2^126 have bins, and the last of either kind takes what has none.
        let bin = |label: i32| 8 * label.clamp(0, histogram::BINS - 1) as u32;
        self.count(counts + histogram::FLOORS + bin(least + incoming + 126))?;
        self.count(counts + histogram::CEILINGS + bin(greatest + incoming + 127))
    }

    fn unit(&self) -> Unit {
        Unit { truncates: self.has(option::TRUNCATE), saturates: self.has(option::SATURATE) }
    }

    /// Adds one to a counter of 64 bits.
    fn count(&mut self, address: u32) -> Result<(), Fault> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        self.write(address, &u64::from_ne_bytes(bytes).wrapping_add(1).to_ne_bytes())
    }

    fn word(&self, address: u32) -> Result<u32, Fault> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// Returns an error where so many elements of some bytes are not all in memory.
    fn check(&self, address: u32, bytes: u32, elements: u32) -> Result<(), Fault> {
        let size = elements.checked_mul(bytes).ok_or(Fault { address })?;
        self.range(address, size as usize).map(drop)
    }

    fn range(&self, address: u32, size: usize) -> Result<core::ops::Range<usize>, Fault> {
        let first = address as usize;
        match first.checked_add(size) {
            Some(end) if end <= BYTES => Ok(first..end),
            _ => Err(Fault { address }),
        }
    }
}

impl<const BYTES: usize> Default for Model<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> Bus for Model<BYTES> {
    fn load(&mut self, register: Register) -> u32 {
        if register == Register::Status && self.busy > 0 {
            self.busy -= 1;
            if self.busy == 0 {
                let done = if self.run().is_ok() { status::IDLE } else { status::FAULT };
                self.registers[Register::Status as usize] = done;
            }
            return status::BUSY;
        }
        self.register(register)
    }

    fn store(&mut self, register: Register, word: u32) {
        self.registers[register as usize] = word;
        if register == Register::Command {
            self.busy = 3;
        }
    }

    fn read(&self, address: u32, to: &mut [u8]) -> Result<(), Fault> {
        let range = self.range(address, to.len())?;
        to.copy_from_slice(&self.memory[range]);
        Ok(())
    }

    fn write(&mut self, address: u32, from: &[u8]) -> Result<(), Fault> {
        let range = self.range(address, from.len())?;
        self.memory[range].copy_from_slice(from);
        Ok(())
    }
}
