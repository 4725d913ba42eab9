//! A scaler as a block of bytes.

use adaloss_core::policy::Config;
use adaloss_plug::{Memory, RestoreError};

use crate::{Scaler, ScalerError};

impl Scaler {
    /// Returns everything that the next steps depend on; weights and optimizer are the caller's.
    ///
    /// # Errors
    ///
    /// Core refuses the block, which has the size that core asked for.
    pub fn save(&self) -> Result<Vec<u8>, ScalerError> {
        self.lock().memory.save().map_err(ScalerError::Checkpoint)
    }

    /// Makes a scaler that goes on as the one that was saved, bit for bit.
    ///
    /// # Errors
    ///
    /// The bytes are no checkpoint, are damaged, or belong to another configuration or number of layers; the
    /// error says which.
    pub fn restore(config: Config, layers: usize, from: &[u8]) -> Result<Self, ScalerError> {
        let scaler = Self::new(config, layers)?;
        scaler.lock().memory = Memory::restore(config, layers, from)?;
        Ok(scaler)
    }
}

impl From<RestoreError> for ScalerError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::State(error) => Self::Checkpoint(error),
            RestoreError::Length { expected, length } => {
                Self::CheckpointLength { expected, length }
            }
            RestoreError::Limits => Self::CheckpointLimits,
        }
    }
}
