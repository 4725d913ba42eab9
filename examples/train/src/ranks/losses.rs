//! The losses of a step, from all ranks.

use adaloss_core::unscale::LossSum;
use anyhow::{Context, Result};

use super::Team;

/// Returns the losses of all micro-batches, in their order, and whether any rank was asked to end.
pub(crate) fn gather_losses(
    team: &Team,
    own: &[LossSum],
    ends: bool,
) -> Result<(Vec<LossSum>, bool)> {
    let mut message = vec![u8::from(ends)];
    message.extend(own.iter().flat_map(|sum| {
        let LossSum { loss, weight, rows, correct } = *sum;
        [loss.to_bits(), weight.to_bits(), rows, correct].map(u64::to_le_bytes).concat()
    }));
    let length = message.len();
    let all = team.gather(message).context("the losses")?;
    let parts = || all.chunks(length).filter_map(|part| part.split_first());
    let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let losses = parts().flat_map(|(_, losses)| losses.as_chunks::<8>().0.as_chunks::<4>().0);
    let losses = losses.map(|sum| {
        let [loss, weight, rows, correct] = sum.each_ref().map(number);
        let [loss, weight] = [loss, weight].map(f64::from_bits);
        LossSum { loss, weight, rows, correct }
    });
    Ok((losses.collect(), parts().any(|(&ends, _)| ends != 0)))
}
