//! Sums of f32 tensors.

use crate::{
    network::Accumulate,
    portable::{Portable, PortableError, possible, same_length},
};

impl Accumulate for Portable {
    fn accumulate(&mut self, from: &[f32], to: &mut [f32]) -> Result<(), PortableError> {
        possible("accumulation", to.len().is_multiple_of(from.len()))?;
        for (to, from) in to.iter_mut().zip(from.iter().cycle()) {
            *to += from;
        }
        Ok(())
    }

    fn blend(&mut self, share: f32, from: &[f32], to: &mut [f32]) -> Result<(), PortableError> {
        same_length("a blend", from.len(), to.len())?;
        for (to, from) in to.iter_mut().zip(from) {
            *to += share * (from - *to);
        }
        Ok(())
    }
}
