//! A scaler as a block of bytes: what core writes, and the limits behind it.

use adaloss_core::{policy::Config, scale::Scale, scaler::State};
use crc::{CRC_32_ISO_HDLC, Crc};

use crate::{Scaler, ScalerError, scaler::Memory};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

impl Scaler {
    /// Returns everything that the next steps depend on; weights and optimizer are the caller's.
    ///
    /// # Errors
    ///
    /// Core refuses the block, which has the size that core asked for.
    pub fn save(&self) -> Result<Vec<u8>, ScalerError> {
        let Memory { state, cells, limits } = &self.lock().memory;
        let mut bytes = vec![0; State::checkpoint_bytes(cells.len())];
        state.save(cells, &mut bytes).map_err(ScalerError::Checkpoint)?;
        let limits = limits.iter().flat_map(|limit| (limit.log2() as i16).to_le_bytes());
        let limits = limits.collect::<Vec<_>>();
        bytes.extend(&limits);
        bytes.extend(CRC.checksum(&limits).to_le_bytes());
        Ok(bytes)
    }

    /// Makes a scaler that goes on as the one that was saved, bit for bit.
    ///
    /// # Errors
    ///
    /// The bytes are no checkpoint, are damaged, or belong to another configuration or number of layers; the
    /// error says which.
    pub fn restore(config: Config, layers: usize, from: &[u8]) -> Result<Self, ScalerError> {
        let scaler = Self::new(config, layers)?;
        {
            let Memory { state, cells, limits } = &mut scaler.lock().memory;
            let state_bytes = State::checkpoint_bytes(layers);
            state
                .load(from.get(..state_bytes).unwrap_or(from), cells)
                .map_err(ScalerError::Checkpoint)?;
            let expected = state_bytes + 2 * (layers + 1) + 4;
            if from.len() != expected {
                return Err(ScalerError::CheckpointLength { expected, length: from.len() });
            }
            *limits = read_limits(&from[state_bytes..]).ok_or(ScalerError::CheckpointLimits)?;
        }
        Ok(scaler)
    }
}

fn read_limits(from: &[u8]) -> Option<Vec<Scale>> {
    let (limits, checksum) = from.split_last_chunk()?;
    if CRC.checksum(limits).to_le_bytes() != *checksum {
        return None;
    }
    let (limits, _) = limits.as_chunks();
    limits.iter().map(|&two| Scale::new(i16::from_le_bytes(two).into()).ok()).collect()
}
