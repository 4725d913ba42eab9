//! `dropout`: the mask bit for bit, and one rounding of the gain.

use adaloss_core::{
    format::{Element, Noise},
    policy::Fraction,
};

use super::pointwise::LENGTHS;
use crate::{Case, Failure, bench::Bench, tensor::Tensor, values};
use adaloss_hal::{
    Memory, Plain,
    network::{Dropout, HasDropout, Mask},
};

/// Nothing, some shares whose gain has to be rounded, half, and nearly everything, of 2^32.
const SHARES: [u32; 5] = [0, 429_496_729, 1 << 31, 3_865_470_566, u32::MAX];

pub(super) fn check<E, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + HasDropout<E>,
{
    for (turn, length) in (0..).zip(LENGTHS) {
        for (nth, share) in (0..).zip(SHARES.map(Fraction::from_bits)) {
            let mask = Mask { share, noise: Noise { seed: 7 + nth, stream: turn } };
            check_mask::<E, D>(bench, mask, length, 5 * turn + nth)?;
        }
    }
    check_refusals::<E, D>(bench)
}

fn check_mask<E, D>(
    bench: &mut Bench<'_, D>,
    mask: Mask,
    length: usize,
    turn: u32,
) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + HasDropout<E>,
{
    // A NaN and an infinity, which are dropped like any number.
    let value = |index: usize| match index % 13 {
        3 => E::from_bits(E::ENCODING.nan_bits()),
        5 => E::from_bits(E::ENCODING.overflow_bits()),
        _ => values::moderate(turn, index),
    };
    let case = Case::new("dropout", length);
    let input = Tensor::<D, E>::filled(case, bench.device, length, value)?;
    let mut to = Tensor::filled(case, bench.device, length, |_| E::from_bits(0))?;
    let input = input.view(case)?;
    let gain = (1.0 / (1.0 - mask.share.to_f64())) as f32;
    bench.exactly(
        case,
        turn,
        &mut to,
        &|device, to, epilogue| device.run(Dropout { mask, input, to, epilogue }),
        &|index| {
            let is_dropped = mask.noise.word(index as u32) < mask.share.bits();
            if is_dropped { 0.0 } else { value(index).widen() * gain }
        },
    )
}

/// Operands and epilogues that do not fit.
fn check_refusals<E, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + HasDropout<E>,
{
    let narrowing = values::plain(E::ENCODING, bench.report.capabilities);
    let case = Case { narrowing: Some(narrowing), ..Case::new("dropout refused", 33) };
    let mask = Mask { share: Fraction::PER_MILLE, noise: Noise::default() };
    let input = Tensor::<D, E>::filled(case, bench.device, 33, |_| E::from_bits(0))?;
    let input = input.view(case)?;
    let mut to = Tensor::filled(case, bench.device, 33, |_| E::from_bits(0))?;
    bench.refuses_mutated(case, &mut to, &|device, to, epilogue, mutation| {
        device.run(mutation.apply(Dropout { mask, input, to, epilogue }))
    })
}
