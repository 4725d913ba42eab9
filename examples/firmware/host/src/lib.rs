//! The host's side of the firmware examples: what is recorded, and what boards have to print.

mod record;

use adaloss_core::scaler::State;
use adaloss_firmware::{Perceptron, Record, Walk, config, train};
use adaloss_hal::portable::Portable;
use anyhow::{Context, Result};

pub use record::record;

/// Walks recorded layers with a policy on the portable device, and returns what was printed.
///
/// # Errors
///
/// There is no such policy, or the record is none.
pub fn walk(record: &[u8], policy: &str) -> Result<String> {
    let config = config(policy).with_context(|| format!("there is no policy \"{policy}\""))?;
    let mut printed = String::new();
    let (mut device, mut state) = (Portable, State::new(config));
    Walk::new(&mut device, &mut state)?.run(&mut Record::open(record)?, &mut printed)?;
    Ok(printed)
}

/// Trains on the portable device, and returns what was printed.
///
/// # Errors
///
/// None.
pub fn trained(epochs: u32) -> Result<String> {
    let mut printed = String::new();
    train(&mut Perceptron::new(), epochs, &mut printed)?;
    Ok(printed)
}
