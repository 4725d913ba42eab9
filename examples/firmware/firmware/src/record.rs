//! Recorded layers: the true gradients of a training run, to be walked through again.

use core::fmt;

use adaloss_core::{format::f16, statistics::Statistics};
use embedded_io::{Read, ReadExactError};

use crate::layers::{BATCH, WIDTHS};

/// A file of recorded layers, read from the front.
///
/// It begins with [`Record::MAGIC`] and the number of steps.  A step is the gradient of the loss, of
/// shape (batch, classes), and then for each layer but the first, the last one first, its weight in
/// binary16, of shape (outputs, inputs), and the gradient of its input, of shape (batch, inputs).
/// Gradients are f32 and carry no scale.  Everything is little endian.
#[derive(Debug)]
pub struct Record<R> {
    from: R,
    steps: u32,
}

/// A record that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It does not begin as one.
    Magic,
    /// It ends before it should.
    End,
    /// It cannot be read.
    Read,
}

impl<R: Read> Record<R> {
    /// What a record begins with: its version, batch and widths.
    pub const MAGIC: [u8; 16] = {
        let mut magic = *b"adaloss1\0\0\0\0\0\0\0\0";
        magic[8] = BATCH as u8;
        let mut l = 0;
        while l < WIDTHS.len() {
            magic[9 + l] = WIDTHS[l] as u8;
            l += 1;
        }
        magic
    };

    /// Opens a record.
    ///
    /// # Errors
    ///
    /// It is none, or of another network.
    pub fn open(from: R) -> Result<Self, RecordError> {
        let mut record = Self { from, steps: 0 };
        let mut magic = [0; 16];
        record.bytes(&mut magic)?;
        if magic != Self::MAGIC {
            return Err(RecordError::Magic);
        }
        let mut steps = [0; 4];
        record.bytes(&mut steps)?;
        Ok(Self { steps: u32::from_le_bytes(steps), ..record })
    }

    /// Returns how many steps were recorded.
    pub const fn steps(&self) -> u32 {
        self.steps
    }

    /// Reads the elements of a gradient.
    pub(crate) fn gradient(&mut self, to: &mut [f32]) -> Result<(), RecordError> {
        let mut words = [[0; 4]; 32];
        for to in to.chunks_mut(words.len()) {
            let words = &mut words[..to.len()];
            self.bytes(words.as_flattened_mut())?;
            to.iter_mut().zip(words).for_each(|(x, word)| *x = f32::from_le_bytes(*word));
        }
        Ok(())
    }

    /// Reads a weight of so many elements and returns its statistics, if they are wanted.
    pub(crate) fn weight(
        &mut self,
        elements: usize,
        is_wanted: bool,
    ) -> Result<Statistics, RecordError> {
        let mut statistics = Statistics::EMPTY;
        let mut row = [0; 2 * 32];
        for _ in 0..elements / 32 {
            self.bytes(&mut row)?;
            if is_wanted {
                let elements = row.chunks_exact(2).map(|x| f16::from_le_bytes([x[0], x[1]]));
                elements.for_each(|x| statistics.observe(x.to_f32()));
            }
        }
        Ok(statistics)
    }

    fn bytes(&mut self, to: &mut [u8]) -> Result<(), RecordError> {
        self.from.read_exact(to).map_err(|error| match error {
            ReadExactError::UnexpectedEof => RecordError::End,
            ReadExactError::Other(_) => RecordError::Read,
        })
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "this is no record of the layers of this network",
            Self::End => "the record ends before its last layer",
            Self::Read => "the record cannot be read",
        })
    }
}

impl core::error::Error for RecordError {}
