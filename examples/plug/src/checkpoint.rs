//! A memory as a block of bytes: what core writes, and the limits behind it.

use std::fmt;

use adaloss_core::{
    policy::Config,
    scaler::{CheckpointError, State},
};
use crc::{CRC_32_ISO_HDLC, Crc};

use crate::{
    Memory,
    limit::{Limit, Limits},
};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

impl Memory {
    /// Returns everything that the next steps depend on.
    ///
    /// # Errors
    ///
    /// Core refuses the block, which has the size that core asked for.
    pub fn save(&self) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = vec![0; State::checkpoint_bytes(self.layers())];
        self.state.save(&self.cells, &mut bytes)?;
        let limits = self.limits.now().iter().flat_map(|limit| limit.to_bytes());
        let limits = limits.collect::<Vec<_>>();
        bytes.extend(&limits);
        bytes.extend(CRC.checksum(&limits).to_le_bytes());
        Ok(bytes)
    }

    /// Makes a memory that goes on as the one that was saved, bit for bit.
    ///
    /// # Errors
    ///
    /// The bytes are no checkpoint, are damaged, or belong to another configuration or number of
    /// layers; the error says which.
    pub fn restore(config: Config, layers: usize, from: &[u8]) -> Result<Self, RestoreError> {
        let Self { mut state, mut cells, .. } = Self::new(config, layers);
        let state_bytes = State::checkpoint_bytes(layers);
        state
            .load(from.get(..state_bytes).unwrap_or(from), &mut cells)
            .map_err(RestoreError::State)?;
        let expected = state_bytes + 2 * (layers + 1) + 4;
        if from.len() != expected {
            return Err(RestoreError::Length { expected, length: from.len() });
        }
        let limits = read_limits(&from[state_bytes..]).ok_or(RestoreError::Limits)?;
        Ok(Self { state, cells, limits: Limits::new(limits) })
    }
}

fn read_limits(from: &[u8]) -> Option<Vec<Limit>> {
    let (limits, checksum) = from.split_last_chunk()?;
    if CRC.checksum(limits).to_le_bytes() != *checksum {
        return None;
    }
    let (limits, _) = limits.as_chunks();
    limits.iter().map(|&two| Limit::from_bytes(two)).collect()
}

/// Why bytes are no checkpoint of a memory.
#[derive(Clone, Debug, PartialEq)]
pub enum RestoreError {
    /// Core refuses its part.
    State(CheckpointError),
    /// The checkpoint has another length than one with so many layers.
    Length {
        /// The bytes of a checkpoint.
        expected: usize,
        /// The bytes given.
        length: usize,
    },
    /// What follows the cells is damaged.
    Limits,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(f),
            Self::Length { expected, length } => {
                write!(
                    f,
                    "a checkpoint of this scaler has {expected} bytes, not {length}; restore it into a scaler \
                     with the layers that it was saved with"
                )
            }
            Self::Limits => {
                f.write_str("the checkpoint is damaged behind its cells; restore an earlier one")
            }
        }
    }
}

impl std::error::Error for RestoreError {}
