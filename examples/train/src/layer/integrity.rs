//! What verdicts and networks rely on: results that were computed, and weights that are numbers.

use std::fmt;

use adaloss_core::unscale::Cause;
use adaloss_hal::{
    Memory,
    network::{HasUpdate, SquareNorm},
};
use anyhow::{Result, ensure};

use super::Vector;

/// Something that training changes is not finite any more, or beyond the format of weights: no step can
/// be made with it, and none mends it.
///
/// The context of the error says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diverged(pub Cause);

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, and the network is lost", self.0)
    }
}

impl std::error::Error for Diverged {}

/// Returns the sum of the squares of some values; it is finite where each of them is, as neither the
/// square of an f32 nor a sum of such squares leaves f64.
pub fn squares<D: Memory + HasUpdate>(
    device: &mut D,
    values: &Vector<D, f32>,
) -> Result<f64, D::Error> {
    let mut sum = Vector::of(device, &[0.0])?;
    device.run(SquareNorm { gradient: values.view(), to: sum.view_mut() })?;
    sum.read_one(device)
}

/// Checks that some values are finite.
pub fn finite<D>(device: &mut D, values: &Vector<D, f32>) -> Result<()>
where
    D: Memory<Error: Send + Sync + 'static> + HasUpdate,
{
    ensure!(squares(device, values)?.is_finite(), Diverged(Cause::NonFinite));
    Ok(())
}

/// Checks that an operation counted each of its results: one that was left out counts none, and a
/// verdict from its counts would mean nothing.
pub fn complete(what: &str, counted: u64, all: usize) -> Result<()> {
    ensure!(
        counted == all as u64,
        "of {all} {what} {counted} were counted: the device left out an operation"
    );
    Ok(())
}
