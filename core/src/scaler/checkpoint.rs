//! A scaler as a block of bytes: versioned, checksummed, of a fixed size.

use core::fmt;

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};

use super::{LossScaler, State, Streams, Totals};
use crate::policy::{Cell, Config};

/// The checksum of zlib and Ethernet, without a table: checkpoints are rare and flash is scarce.
pub(super) const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

const MAGIC: [u8; 8] = *b"adaloss\0";
const VERSION: u32 = 2;

/// Magic, version, capacity, cells in use, digest of the configuration; totals, skips.
const HEADER: usize = 8 + 4 * 4 + 5 * 8 + 4;

impl<const CELLS: usize> LossScaler<CELLS> {
    /// The size of a checkpoint, whatever the number of cells in use.
    pub const CHECKPOINT_BYTES: usize = State::checkpoint_bytes(CELLS);

    /// Writes everything that the next steps depend on, little endian.
    ///
    /// The certificate log is a report and not kept.
    ///
    /// # Errors
    ///
    /// `to` is not of [`CHECKPOINT_BYTES`](Self::CHECKPOINT_BYTES) bytes; nothing was written.
    pub fn save(&self, to: &mut [u8]) -> Result<(), CheckpointError> {
        self.state.save(&self.cells, to)
    }

    /// Reads a checkpoint: the scaler goes on as the one that was saved, bit for bit.
    ///
    /// # Errors
    ///
    /// The bytes are no checkpoint, are damaged, or belong to another version, configuration or
    /// number of cells; the error says which.
    ///
    /// # Examples
    ///
    /// ```
    /// use adaloss_core::{format::Format, policy::Config, scaler::LossScaler};
    /// let config = Config::for_format(Format::BINARY16);
    /// let scaler = LossScaler::<4>::new(config);
    /// let mut bytes = [0; LossScaler::<4>::CHECKPOINT_BYTES];
    /// scaler.save(&mut bytes)?;
    /// assert_eq!(LossScaler::<4>::restore(config, &bytes)?.digest(), scaler.digest());
    /// # Ok::<(), adaloss_core::scaler::CheckpointError>(())
    /// ```
    pub fn restore(config: Config, from: &[u8]) -> Result<Self, CheckpointError> {
        const { Self::HAS_CELLS };
        let mut cells = [Cell::new(); CELLS];
        let state = State::restore(config, from, &mut cells)?;
        Ok(Self { state, cells, log: heapless::Deque::new() })
    }
}

impl State {
    /// Returns the size of a checkpoint with so many cells, whether they are in use or not.
    pub const fn checkpoint_bytes(cells: usize) -> usize {
        HEADER + (1 + cells) * Cell::BYTES + 4
    }

    /// Writes everything that the next steps depend on, as [`LossScaler::save`] does.
    ///
    /// # Errors
    ///
    /// `to` is not of [`checkpoint_bytes`](Self::checkpoint_bytes) for these cells; nothing was
    /// written.
    pub fn save(&self, cells: &[Cell], to: &mut [u8]) -> Result<(), CheckpointError> {
        let (expected, length) = (Self::checkpoint_bytes(cells.len()), to.len());
        let Some((body, checksum)) = to.split_last_chunk_mut::<4>() else {
            return Err(CheckpointError::Length { expected, length });
        };
        if length != expected {
            return Err(CheckpointError::Length { expected, length });
        }
        let Totals { steps, skipped, recovered, certificates, broken } = self.run.totals;
        let in_use = self.run.in_use(cells);
        let config = config_digest(&self.config);
        let words = [VERSION, cells.len() as u32, in_use.len() as u32, config];
        let counters = [steps, skipped, recovered, certificates, broken];
        let unused = core::iter::repeat_n([0; Cell::BYTES], cells.len() - in_use.len());
        let bytes = MAGIC
            .into_iter()
            .chain(words.into_iter().flat_map(u32::to_le_bytes))
            .chain(counters.into_iter().flat_map(u64::to_le_bytes))
            .chain(self.run.skipped_in_row.to_le_bytes())
            .chain(self.run.loss.to_bytes())
            .chain(in_use.iter().flat_map(Cell::to_bytes))
            .chain(unused.flatten());
        body.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        *checksum = CRC.checksum(body).to_le_bytes();
        Ok(())
    }

    /// Reads a checkpoint, as [`LossScaler::restore`] does, and its cells into `cells`.
    ///
    /// # Errors
    ///
    /// The bytes are no checkpoint, are damaged, or belong to another version, configuration or
    /// number of cells; the error says which, and `cells` are as they were.
    pub fn restore(
        config: Config,
        from: &[u8],
        cells: &mut [Cell],
    ) -> Result<Self, CheckpointError> {
        let mut state = Self::new(config);
        state.load(from, cells)?;
        Ok(state)
    }

    /// Reads a checkpoint of a scaler with this configuration where this one is: for memory that has
    /// no room for two.
    ///
    /// # Errors
    ///
    /// As [`restore`](Self::restore) says; the scaler and `cells` are as they were.
    pub fn load(&mut self, from: &[u8], cells: &mut [Cell]) -> Result<(), CheckpointError> {
        let mut reader = Reader { rest: from };
        // What the bytes are comes before how many there are: the error should name the cause.
        if reader.take::<8>() != Some(MAGIC) {
            return Err(CheckpointError::Foreign);
        }
        let expected = Self::checkpoint_bytes(cells.len());
        let truncated = CheckpointError::Length { expected, length: from.len() };
        let version = reader.u32().ok_or(truncated)?;
        if version != VERSION {
            return Err(CheckpointError::Version { version });
        }
        let capacity = reader.u32().ok_or(truncated)?;
        if capacity as usize != cells.len() {
            return Err(CheckpointError::Capacity { capacity, expected: cells.len() });
        }
        if from.len() != expected {
            return Err(truncated);
        }
        let (body, checksum) = from.split_last_chunk::<4>().ok_or(truncated)?;
        if CRC.checksum(body).to_le_bytes() != *checksum {
            return Err(CheckpointError::Damaged);
        }
        let in_use = reader.u32().ok_or(truncated)? as usize;
        if reader.u32().ok_or(truncated)? != config_digest(&self.config) {
            return Err(CheckpointError::OtherConfig);
        }

        let totals = Totals {
            steps: reader.u64().ok_or(truncated)?,
            skipped: reader.u64().ok_or(truncated)?,
            recovered: reader.u64().ok_or(truncated)?,
            certificates: reader.u64().ok_or(truncated)?,
            broken: reader.u64().ok_or(truncated)?,
        };
        let skipped_in_row = reader.u32().ok_or(truncated)?;
        if !are_possible(&self.config, &totals, skipped_in_row) {
            return Err(CheckpointError::Counts);
        }
        let loss = reader.cell(&self.config, 0)?;
        let no_such_cell = CheckpointError::Cell { index: cells.len() + 1 };
        let (used, unused) = cells.split_at_mut_checked(in_use).ok_or(no_such_cell)?;
        // All are looked at before the first is written.
        let mut ahead = reader;
        for index in 1..=used.len() {
            ahead.cell(&self.config, index)?;
        }
        // What is not in use is zero: one scaler has one block of bytes.
        for (index, _) in (in_use + 1..).zip(unused) {
            let bytes: [u8; Cell::BYTES] = ahead.take().ok_or(truncated)?;
            if bytes.iter().any(|&byte| byte != 0) {
                return Err(CheckpointError::Cell { index });
            }
        }
        for (index, to) in (1..).zip(used) {
            *to = reader.cell(&self.config, index)?;
        }
        self.histogram.clear();
        self.run.restore(totals, skipped_in_row, in_use, loss);
        self.streams = Streams::default();
        Ok(())
    }
}

/// Tells whether a run can have counted its steps so.
fn are_possible(config: &Config, totals: &Totals, skipped_in_row: u32) -> bool {
    let Totals { steps, skipped, .. } = *totals;
    // As many in a row as are allowed stop the run, which then counts from zero.
    skipped_in_row < config.max_skips() && u64::from(skipped_in_row) <= skipped && skipped <= steps
}

pub(super) fn config_digest(config: &Config) -> u32 {
    CRC.checksum(&config.to_bytes())
}

/// Bytes that are taken from the front.
#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn cell(&mut self, config: &Config, index: usize) -> Result<Cell, CheckpointError> {
        self.take()
            .and_then(|bytes| Cell::from_bytes(&bytes))
            .filter(|cell| cell.is_possible(config))
            .ok_or(CheckpointError::Cell { index })
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Bytes that are no checkpoint of this scaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The bytes do not begin as a checkpoint does.
    Foreign,
    /// The checkpoint was written by another version.
    Version {
        /// The version found.
        version: u32,
    },
    /// The checkpoint is of a scaler with another number of cells.
    Capacity {
        /// The cells it was written for.
        capacity: u32,
        /// The cells of this scaler.
        expected: usize,
    },
    /// The block is too short or too long.
    Length {
        /// The bytes of a checkpoint.
        expected: usize,
        /// The bytes given.
        length: usize,
    },
    /// The checksum does not match.
    Damaged,
    /// The checkpoint was written under another configuration.
    OtherConfig,
    /// More steps were skipped, in all or in a row, than a run can have skipped.
    Counts,
    /// A cell holds what no cell, or none of this policy's, can hold.
    Cell {
        /// Which cell: 0 is the loss, 1 the first layer.
        index: usize,
    },
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("these bytes are no checkpoint of a loss scaler"),
            Self::Version { version } => write!(
                f,
                "a checkpoint of version {version} cannot be read, only version {VERSION} can: begin with \
                 a new scaler, which finds its scales within a few steps"
            ),
            Self::Capacity { capacity, expected } => write!(
                f,
                "a checkpoint for {capacity} cells does not fit a scaler of {expected} cells"
            ),
            Self::Length { expected, length } => {
                write!(f, "a checkpoint has {expected} bytes and here are {length}")
            }
            Self::Damaged => f.write_str("the checkpoint is damaged: its checksum does not match"),
            Self::OtherConfig => {
                f.write_str("the checkpoint was written under another configuration")
            }
            Self::Counts => {
                f.write_str("the checkpoint counts more skipped steps than a run can have")
            }
            Self::Cell { index } => write!(f, "cell {index} of the checkpoint is not legal"),
        }
    }
}

impl core::error::Error for CheckpointError {}
