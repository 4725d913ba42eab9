//! `statistics`: counts, extremes and exact moments of a low-precision tensor.

use adaloss_core::{format::Element, statistics::Statistics};

use super::{
    Case, Failure,
    apply::LENGTHS,
    bench::{Bench, Predicate, Predicates},
    tensor::{Tensor, read_one},
    values,
};
use adaloss_hal::{HasNarrow, Memory, Plain, Summarise};

pub(super) fn check<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
) -> Result<(), Failure> {
    for (nth, length) in LENGTHS.into_iter().enumerate() {
        let value = |index| F::from_bits(values::word(nth as u32, index));
        check_values::<F, D>(bench, length, &value)?;
        check_values::<F, D>(bench, length, &|_| values::moderate(0, 0))?;
    }
    for first in values::patterns::<F>() {
        let value = |index| F::from_bits(first + index as u32);
        check_values::<F, D>(bench, values::PATTERNS, &value)?;
    }

    let case = Case::new("statistics into no element", 1);
    let values = Tensor::<D, F>::filled(case, bench.device, 1, |_| F::from_bits(0))?;
    let mut to = case.succeeds(bench.device.zeroed::<Statistics>(1))?;
    let input = values.view(case)?;
    let predicates = Predicates::new(case, bench.device)?;
    let when = Some(predicates.view(case, Predicate::On)?);
    bench.refuses_every_mutation(case, &mut |device, mutation| {
        let to = D::view_mut(&mut to);
        device.run(mutation.apply(Summarise::<D::Space, F> { input, to, when }))
    })?;
    let case = Case { epilogue: "with a predicate of 0", ..Case::new("statistics", 1) };
    let (to_write, when) = (D::view_mut(&mut to), Some(predicates.view(case, Predicate::Off)?));
    case.succeeds(bench.device.run(Summarise::<D::Space, F> { input, to: to_write, when }))?;
    let found = read_one(case, bench.device, D::view(&to))?;
    case.whole("the statistics of an operation that is off", &Statistics::zeroed(), &found)
}

fn check_values<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
    length: usize,
    value: &dyn Fn(usize) -> F,
) -> Result<(), Failure> {
    let case = Case::new("statistics", length);
    let format = values::native(F::ENCODING, bench.report.capabilities);
    // What is there is added to.
    let mut expected = Statistics::EMPTY;
    for _ in 0..32 {
        // From nothing to 2^32 - 1 of each: counts are about to carry into their upper halves.
        let so_far = expected;
        expected.merge(&so_far);
        [-3.0e-5, f32::NAN, 0.0].into_iter().for_each(|x| expected.observe(x));
    }
    let values = Tensor::<D, F>::filled(case, bench.device, length, value)?;
    let mut to = case.succeeds(bench.device.zeroed(1))?;
    case.succeeds(bench.device.write(&[expected], D::view_mut(&mut to)))?;
    let predicates = Predicates::new(case, bench.device)?;
    let when = Some(predicates.view(case, Predicate::OneBit)?).filter(|_| length % 2 == 1);
    let (input, to_write) = (values.view(case)?, D::view_mut(&mut to));
    case.succeeds(bench.device.run(Summarise::<D::Space, F> { input, to: to_write, when }))?;

    (0..length).for_each(|index| expected.observe(format.widen(value(index).to_bits())));
    let found = read_one(case, bench.device, D::view(&to))?;
    let number = |what, expected: u64, found: u64| case.number(what, expected as i64, found as i64);
    number("the count of non-finite elements", expected.nonfinite, found.nonfinite)?;
    number("the count of zeros", expected.zero, found.zero)?;
    number("the count of finite elements", expected.moments.count(), found.moments.count())?;
    number("the least magnitude (bits)", expected.min_bits.into(), found.min_bits.into())?;
    number("the greatest magnitude (bits)", expected.max_bits.into(), found.max_bits.into())?;
    case.whole("a sum of the moments", &expected, &found)?;
    bench.report.operations += 1;
    bench.report.elements += length as u64;
    Ok(())
}
