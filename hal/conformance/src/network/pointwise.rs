//! `relu` and its gradient: every bit pattern of the activations.

use adaloss_core::format::Element;

use crate::{
    Case, Failure,
    bench::{Bench, pattern},
    results::Expected,
    tensor::Tensor,
    values,
};
use adaloss_hal::{
    Memory, Plain,
    network::{HasRelu, Relu, ReluInput},
};

/// Lengths around those of warps and blocks.
pub(super) const LENGTHS: [usize; 9] = [0, 1, 2, 31, 33, 64, 257, 1000, 1025];

pub(super) fn check<W, G, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasRelu<W, G>,
{
    for first in values::patterns::<W>() {
        check_values::<W, G, D>(bench, first, values::PATTERNS)?;
    }
    for length in LENGTHS {
        check_values::<W, G, D>(bench, 1 << (W::ENCODING.bits() - 1), length)?;
        check_values::<W, G, D>(bench, 0, length)?;
    }
    check_refusals::<W, G, D>(bench)
}

/// Rectifies patterns, and gates a gradient with them.
fn check_values<W, G, D>(bench: &mut Bench<'_, D>, first: u32, length: usize) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasRelu<W, G>,
{
    let subnormals = bench.report.capabilities.subnormals;
    let value = |index| kept(W::from_bits(first.wrapping_add(index as u32)), subnormals);
    let case = Case::new("relu", length);
    let mut values = Tensor::<D, W>::filled(case, bench.device, length, value)?;
    bench.writes(
        case,
        &mut values,
        &value,
        |device, values| device.run(Relu { values }),
        &|index| {
            let x = value(index);
            let is_negative = x.to_bits() & W::ENCODING.sign_bit() != 0 && !x.widen().is_nan();
            Expected::Bits(if is_negative { 0 } else { x.to_bits() })
        },
    )?;

    let case = Case::new("relu_input", length);
    values.fill(case, bench.device, value)?;
    let output = values.view(case)?;
    let gradient = |index| kept(pattern::<G>(index), subnormals);
    let mut to = Tensor::<D, G>::filled(case, bench.device, length, gradient)?;
    bench.writes(
        case,
        &mut to,
        &gradient,
        |device, gradient| device.run(ReluInput { output, gradient }),
        &|index| {
            let is_zero = value(index).widen() == 0.0;
            Expected::Bits(if is_zero { 0 } else { gradient(index).to_bits() })
        },
    )
}

/// Makes a subnormal normal where the device has none.
fn kept<E: Element>(x: E, subnormals: bool) -> E {
    let is_subnormal = x.to_bits() & (E::ENCODING.sign_bit() - 1) < E::ENCODING.min_normal_bits();
    if !subnormals && is_subnormal && x.widen() != 0.0 {
        E::from_bits(x.to_bits() | E::ENCODING.min_normal_bits())
    } else {
        x
    }
}

/// Lengths that do not fit.
fn check_refusals<W, G, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasRelu<W, G>,
{
    let case = Case::new("relu_input refused", 33);
    let output = Tensor::<D, W>::filled(case, bench.device, 33, |_| W::from_bits(0))?;
    let output = output.view(case)?;
    let mut to = Tensor::<D, G>::filled(case, bench.device, 33, pattern)?;
    bench.refuses_mutated_writes(case, &mut to, &mut |device, gradient, mutation| {
        device.run(mutation.apply(ReluInput { output, gradient }))
    })
}
