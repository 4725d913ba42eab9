//! What a device writes down between two reads, and what goes wrong on the way.

use core::fmt;

use adaloss_core::scaler::device::{Entry, Line};

use crate::{
    device::{Memory, Mut},
    space::AddressSpace,
};

/// The number of a line, and where it is written.
pub(super) type NextLine<'l, D> = (u64, Mut<'l, D, Line>);

/// A line that is written later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    serial: u64,
    place: usize,
}

/// The lines that a device writes between two reads.
pub(super) struct Row<D: Memory> {
    lines: D::Buffer<Line>,
    count: usize,
    /// Lines that were asked for since the last read.
    written: usize,
    /// The number of the next line, from 1.
    serial: u64,
}

impl<D: Memory> Row<D> {
    pub(super) fn new(device: &mut D, count: usize) -> Result<Self, D::Error> {
        Ok(Self { lines: device.zeroed(count)?, count, written: 0, serial: 1 })
    }

    pub(super) const fn written(&self) -> usize {
        self.written
    }

    /// Says how many lines are to be read, those in the first places.
    pub(super) fn set_written(&mut self, lines: usize) {
        self.written = lines.min(self.count);
    }

    /// Fails where there is no room for another line.
    pub(super) const fn check(&self) -> Result<(), EngineError<D::Error>> {
        let Self { written, count, .. } = *self;
        if written < count { Ok(()) } else { Err(EngineError::Full { lines: count }) }
    }

    /// Keeps the next line for what is written later.
    pub(super) fn keep(&mut self) -> Result<Kept, EngineError<D::Error>> {
        self.check()?;
        let kept = Kept { serial: self.serial, place: self.written };
        (self.written, self.serial) = (self.written + 1, self.serial + 1);
        Ok(kept)
    }

    /// Returns a line that was kept, with its number.
    pub(super) fn kept(&mut self, kept: Kept) -> Option<NextLine<'_, D>> {
        let Kept { serial, place } = kept;
        let line = D::Space::part_mut(D::view_mut(&mut self.lines), place..place + 1)?;
        Some((serial, line))
    }

    /// Takes the next line, with its number.
    pub(super) fn next(&mut self) -> Result<NextLine<'_, D>, EngineError<D::Error>> {
        let (kept, lines) = (self.keep()?, self.count);
        self.kept(kept).ok_or(EngineError::Full { lines })
    }

    /// Copies the lines to the host: nothing where there are none, or no room for them.
    pub(super) fn read<'l>(
        &mut self,
        device: &mut D,
        room: &'l mut [Line],
    ) -> Result<Lines<'l>, EngineError<D::Error>> {
        let Self { written, serial, count, .. } = *self;
        let lines = room.len();
        let room = room.get_mut(..written).ok_or(EngineError::Room { written, lines })?;
        let part = D::Space::part(D::view(&self.lines), 0..written);
        device.read(part.ok_or(EngineError::Full { lines: count })?, room)?;
        self.written = 0;
        Ok(Lines { first: serial - written as u64, lines: room })
    }
}

/// What was written since the last read, in order.
///
/// An item is an error where the device left out what should have written the line.
#[derive(Clone, Debug)]
pub struct Lines<'l> {
    first: u64,
    lines: &'l [Line],
}

/// A device did not write a line: it left out an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut;

impl Iterator for Lines<'_> {
    type Item = Result<Entry, LeftOut>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, rest) = self.lines.split_first()?;
        let entry = line.entry(self.first).ok_or(LeftOut);
        (self.first, self.lines) = (self.first + 1, rest);
        Some(entry)
    }
}

impl DoubleEndedIterator for Lines<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (line, rest) = self.lines.split_last()?;
        self.lines = rest;
        Some(line.entry(self.first + rest.len() as u64).ok_or(LeftOut))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device left out an operation: what it should have written down is missing")
    }
}

impl core::error::Error for LeftOut {}

/// What an engine refuses, or its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineError<E> {
    /// There is no room for another line.
    Full {
        /// How many lines there is room for.
        lines: usize,
    },
    /// More lines were written than there is room for on the host.
    Room {
        /// How many were written.
        written: usize,
        /// How many there is room for.
        lines: usize,
    },
    /// The engine has no such cell.
    NoCell {
        /// What was asked for.
        id: usize,
        /// How many cells there are.
        cells: usize,
    },
    /// The device failed.
    Device(E),
}

impl<E> From<E> for EngineError<E> {
    fn from(error: E) -> Self {
        Self::Device(error)
    }
}

impl<E: fmt::Display> fmt::Display for EngineError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { lines } => {
                write!(f, "{lines} lines are full: read them more often, or make room for more")
            }
            Self::Room { written, lines } => {
                write!(
                    f,
                    "{written} lines were written and there is room for {lines}: read them into more"
                )
            }
            Self::NoCell { id, cells } => {
                write!(f, "cell {id} was asked for and the engine has {cells}")
            }
            Self::Device(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for EngineError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Device(error) => error.source(),
            Self::Full { .. } | Self::Room { .. } | Self::NoCell { .. } => None,
        }
    }
}
