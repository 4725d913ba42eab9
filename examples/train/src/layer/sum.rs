//! Weight gradients over micro-batches and losses.
//!
//! Micro-batches are summed by the binary tree over them in their order: `((0 + 1) + (2 + 3)) + (4 + 5)`.  Ranks that have a part of
//! them each, and sum what they have over the ranks by the same tree, have the same bits as one that has them all.

use std::mem;

use adaloss_hal::{
    Memory, Mut,
    network::{Accumulate, HasAccumulate},
};

use super::Vector;

/// A micro-batch among those of a step that are summed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MicroBatch {
    /// Its number, from 0.
    pub nth: usize,
    /// Whether it is the last one, with which the sums are complete.
    pub is_last: bool,
}

impl MicroBatch {
    /// The only one of a step.
    pub const ONLY: Self = Self { nth: 0, is_last: true };

    /// Returns so many micro-batches.
    pub fn all(count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(move |nth| Self { nth, is_last: nth + 1 == count })
    }
}

impl Default for MicroBatch {
    fn default() -> Self {
        Self::ONLY
    }
}

/// A sum over micro-batches, in the memory of a device.
pub struct Total<D: Memory> {
    /// The sum so far of the last micro-batches, and of all when it is complete.
    value: Vector<D, f32>,
    /// The sums of those before, each over twice as many or more than the next.
    before: Vec<Vector<D, f32>>,
}

impl<D: Memory> Total<D> {
    /// Makes a sum of nothing, of so many elements.
    pub fn zeroed(device: &mut D, length: usize) -> Result<Self, D::Error> {
        Ok(Self { value: Vector::zeroed(device, length)?, before: Vec::new() })
    }

    /// Returns the sum, which is complete behind the last micro-batch.
    pub const fn value(&self) -> &Vector<D, f32> {
        &self.value
    }

    /// Returns the sum, to be changed when it is complete.
    pub const fn value_mut(&mut self) -> &mut Vector<D, f32> {
        &mut self.value
    }

    /// Computes what a micro-batch has, and takes it in.
    pub fn put(
        &mut self,
        device: &mut D,
        part: MicroBatch,
        compute: impl FnOnce(&mut D, Mut<'_, D, f32>) -> Result<(), D::Error>,
    ) -> Result<(), D::Error>
    where
        D: HasAccumulate,
    {
        match part.nth {
            0 => self.before.clear(),
            nth => {
                for _ in 0..nth.trailing_zeros() {
                    self.take_in_before(device)?;
                }
                let fresh = Vector::zeroed(device, self.value.len())?;
                self.before.push(mem::replace(&mut self.value, fresh));
            }
        }
        compute(device, self.value.view_mut())
    }

    /// Computes what another loss adds to the micro-batch that was put last.
    pub fn add(
        &mut self,
        device: &mut D,
        compute: impl FnOnce(&mut D, Mut<'_, D, f32>) -> Result<(), D::Error>,
    ) -> Result<(), D::Error>
    where
        D: HasAccumulate,
    {
        let mut fresh = Vector::zeroed(device, self.value.len())?;
        compute(device, fresh.view_mut())?;
        device.run(Accumulate { input: fresh.view(), to: self.value.view_mut() })
    }

    /// Completes the sum, behind the last micro-batch.
    pub fn complete(&mut self, device: &mut D) -> Result<(), D::Error>
    where
        D: HasAccumulate,
    {
        while !self.before.is_empty() {
            self.take_in_before(device)?;
        }
        Ok(())
    }

    /// Adds the last of the sums before to that of the last micro-batches.
    fn take_in_before(&mut self, device: &mut D) -> Result<(), D::Error>
    where
        D: HasAccumulate,
    {
        let Some(mut sum) = self.before.pop() else { return Ok(()) };
        device.run(Accumulate { input: self.value.view(), to: sum.view_mut() })?;
        self.value = sum;
        Ok(())
    }
}
