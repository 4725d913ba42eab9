//! Weight gradients over micro-batches and losses.

use adaloss_hal::{
    Memory, Mut,
    network::{Accumulate, Blend, HasAccumulate},
};

use super::Vector;

/// Where a gradient goes that was computed anew.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    /// The number of its micro-batch, from 0.
    pub(super) nth: usize,
    /// Whether the gradient of another loss of this micro-batch is there already.
    pub(super) adds: bool,
}

/// Computes a gradient, and makes it the mean over micro-batches of the sum over losses.
pub(super) fn summed<D: Memory + HasAccumulate>(
    device: &mut D,
    Sum { nth, adds }: Sum,
    gradient: &mut Vector<D, f32>,
    compute: impl FnOnce(&mut D, Mut<'_, D, f32>) -> Result<(), D::Error>,
) -> Result<(), D::Error> {
    if nth == 0 && !adds {
        return compute(device, gradient.view_mut());
    }
    let mut fresh = Vector::zeroed(device, gradient.len())?;
    compute(device, fresh.view_mut())?;
    let share = 1.0 / (nth as f32 + 1.0);
    if !adds {
        let (input, to) = (fresh.view(), gradient.view_mut());
        return device.run(Blend { share, input, to, when: None });
    }
    // The mean so far has this micro-batch's share of the other loss in it.
    if nth > 0 {
        let mut part = Vector::zeroed(device, gradient.len())?;
        device.run(Blend { share, input: fresh.view(), to: part.view_mut(), when: None })?;
        fresh = part;
    }
    device.run(Accumulate { input: fresh.view(), to: gradient.view_mut() })
}
