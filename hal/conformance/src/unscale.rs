//! `unscale`: back to f32, exactly where f32 can, and counted.

use adaloss_core::{
    format::Element, policy::Cell, propagate::Scaled, scale::Scale, unscale::Unscaled,
};

use super::{
    Case, Discrepancy, Failure,
    bench::{Bench, pattern},
    tensor::{Tensor, download, read_one, upload},
    values,
};
use adaloss_hal::{AddressSpace, HasNarrow, Memory, Plain, Unscale};

/// The ends of the legal scales, and the exponents at which a format's numbers become tiny in f32.
const SCALES: [i32; 12] = [-126, -125, -77, -11, -1, 0, 1, 15, 102, 111, 125, 126];

pub(super) fn check<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
) -> Result<(), Failure> {
    for first in values::patterns::<F>() {
        let value = |index| F::from_bits(first + index as u32);
        check_values(bench, values::PATTERNS, &SCALES, &value)?;
    }
    for (nth, length) in [0, 1, 33, 257, 1025].into_iter().enumerate() {
        let value = |index| F::from_bits(values::word(nth as u32, index));
        check_values(bench, length, &[-3, 24], &value)?;
    }
    check_refusals::<F, D>(bench)
}

fn check_values<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
    length: usize,
    scales: &[i32],
    value: &dyn Fn(usize) -> F,
) -> Result<(), Failure> {
    let setup = Case::new("unscale (setup)", length);
    let gradient = Tensor::<D, F>::filled(setup, bench.device, length, value)?;
    let mut to = Tensor::<D, f32>::filled(setup, bench.device, length, pattern)?;
    let mut cell = setup.succeeds(bench.device.zeroed::<Cell>(1))?;
    let mut unscale_counts = setup.succeeds(bench.device.zeroed::<Unscaled>(1))?;
    let format = values::native(F::ENCODING, bench.report.capabilities);
    for scale in scales.iter().copied().map(Scale::saturating) {
        let case = Case { from: scale, ..Case::new("unscale", length) };
        // Added to, and about to carry into the upper half.
        let mut expected =
            Unscaled { elements: (6 << 32) - 1, nonfinite: (3 << 32) - 1, tiny: (2 << 32) - 1 };
        upload(case, bench.device, to.whole_mut(), &pattern)?;
        case.succeeds(bench.device.write(&[Cell::at(scale)], D::view_mut(&mut cell)))?;
        case.succeeds(bench.device.write(&[expected], D::view_mut(&mut unscale_counts)))?;
        case.succeeds(bench.device.run(Unscale::<D::Space, F> {
            gradient: gradient.view(case)?,
            cell: D::view(&cell),
            to: to.view_mut(case)?,
            counts: D::view_mut(&mut unscale_counts),
        }))?;

        let flushes = !bench.report.capabilities.subnormals;
        download(case, bench.device, to.whole(), &mut |place, found: f32| {
            let index = place.wrapping_sub(1);
            if index >= length {
                let expected = pattern::<f32>(place).to_bits();
                return match found.to_bits() {
                    found if found == expected => Ok(()),
                    found => {
                        Err(case.fails(Discrepancy::Written { index: place, expected, found }))
                    }
                };
            }
            let scaled = [value(index)];
            let mut right = [0.0];
            if let Ok(counts) =
                adaloss_core::unscale::unscale(format, Scaled::new(&scaled[..], scale), &mut right)
            {
                expected.merge(&counts);
            }
            let is_tiny = right[0].abs() < f32::MIN_POSITIVE;
            let same = right[0].to_bits() == found.to_bits()
                || right[0].is_nan() && found.is_nan()
                || flushes && is_tiny && found.to_bits() == 0.0_f32.copysign(right[0]).to_bits();
            if same {
                return Ok(());
            }
            let (operand, expected) = (Some(format.widen(scaled[0].to_bits())), right[0].to_bits());
            Err(case.fails(Discrepancy::Element {
                index,
                operand,
                expected,
                found: found.to_bits(),
            }))
        })?;
        let found = read_one(case, bench.device, D::view(&unscale_counts))?;
        let number =
            |what, expected: u64, found: u64| case.number(what, expected as i64, found as i64);
        number("the count of elements", expected.elements, found.elements)?;
        number("the count of non-finite elements", expected.nonfinite, found.nonfinite)?;
        number("the count of tiny results", expected.tiny, found.tiny)?;
        bench.report.operations += 1;
        bench.report.elements += length as u64;
    }
    Ok(())
}

/// Lengths that do not fit; nothing may be written.
fn check_refusals<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
) -> Result<(), Failure> {
    let case = Case::new("unscale of operands that do not fit", 33);
    let gradient = Tensor::<D, F>::filled(case, bench.device, 33, |_| F::from_bits(0))?;
    let cell = case.succeeds(bench.device.zeroed::<Cell>(1))?;
    let mut to = Tensor::<D, f32>::filled(case, bench.device, 33, |_| 1.0)?;
    let mut counts = case.succeeds(bench.device.zeroed::<Unscaled>(1))?;
    let (gradient, cell) = (gradient.view(case)?, D::view(&cell));
    bench.refuses_mutated_writes(case, &mut to, &mut |device, mut to, mutation| {
        let to = D::Space::reborrow_mut(&mut to);
        let counts = D::view_mut(&mut counts);
        device.run(mutation.apply(Unscale::<D::Space, F> { gradient, cell, to, counts }))
    })?;
    let found = read_one(case, bench.device, D::view(&counts))?;
    case.whole("the counts of an operation that was refused", &Unscaled::default(), &found)
}
