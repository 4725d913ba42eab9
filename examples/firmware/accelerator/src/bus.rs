//! What the accelerator looks like from the microcontroller.

use core::fmt;

/// The registers, words of 32 bits; an address counts bytes in the accelerator's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Register {
    /// Writing a [`command`] starts it; the accelerator takes one at a time.
    Command,
    /// Reads as a [`status`].
    Status,
    /// The address of the f32 values.
    Values,
    /// The address of the binary16 results.
    Results,
    /// The number of elements.
    Length,
    /// What is added to the exponent of every value before it is rounded, signed.
    Shift,
    /// The exponent of the scale that the values carry, signed.
    Incoming,
    /// A sum of [`option`]s.
    Options,
    /// The address of the outcome that is added to, in the layout of `adaloss_core`.
    Outcome,
    /// The address of the histogram that is added to, in the layout of `adaloss_core`.
    Histogram,
}

impl Register {
    pub(crate) const COUNT: usize = Self::Histogram as usize + 1;
}

/// What [`Register::Command`] takes.
pub mod command {
    /// Narrows values, counts their fates, and counts the values themselves, as the options say.
    pub const NARROW: u32 = 1;
}

/// What [`Register::Status`] reads as.
pub mod status {
    /// There is nothing to do; the last command did what it was told.
    pub const IDLE: u32 = 0;
    /// A command is being worked on.
    pub const BUSY: u32 = 1;
    /// The last command was refused and has done nothing: there is none of that number, or an
    /// address or the length leads out of memory.
    pub const FAULT: u32 = 2;
}

/// What [`Register::Options`] is the sum of.
pub mod option {
    /// Results are stored and their fates counted.
    pub const STORE: u32 = 1;
    /// Values are counted in the histogram.
    pub const MEASURE: u32 = 2;
    /// What is beyond the format, infinities too, becomes the largest finite number.
    pub const SATURATE: u32 = 4;
    /// Rounds towards zero instead of to the nearest even number.
    pub const TRUNCATE: u32 = 8;
}

/// The way to an accelerator: a model, or volatile accesses to where it is mapped.
pub trait Bus {
    /// Reads a register.
    fn load(&mut self, register: Register) -> u32;

    /// Writes a register.
    fn store(&mut self, register: Register, word: u32);

    /// Reads the accelerator's memory, which it must not be working on.
    ///
    /// # Errors
    ///
    /// The bytes are not all within it.
    fn read(&self, address: u32, to: &mut [u8]) -> Result<(), Fault>;

    /// Writes the accelerator's memory, which it must not be working on.
    ///
    /// # Errors
    ///
    /// The bytes are not all within it.
    fn write(&mut self, address: u32, from: &[u8]) -> Result<(), Fault>;
}

impl<B: Bus + ?Sized> Bus for &mut B {
    fn load(&mut self, register: Register) -> u32 {
        (**self).load(register)
    }

    fn store(&mut self, register: Register, word: u32) {
        (**self).store(register, word);
    }

    fn read(&self, address: u32, to: &mut [u8]) -> Result<(), Fault> {
        (**self).read(address, to)
    }

    fn write(&mut self, address: u32, from: &[u8]) -> Result<(), Fault> {
        (**self).write(address, from)
    }
}

/// An access that leads out of the accelerator's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it began.
    pub address: u32,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the accelerator has no memory at {:#x}", self.address)
    }
}

impl core::error::Error for Fault {}
