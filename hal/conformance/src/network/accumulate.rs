//! `accumulate`, which rounds once, and `blend`.

use crate::{
    Case, Failure, Shape,
    bench::{Bench, Predicate, Predicates, pattern},
    near::Near,
    results::Expected,
    tensor::Tensor,
    values,
};
use adaloss_hal::{
    AddressSpace, Memory,
    network::{Accumulate, Blend, HasAccumulate},
};

/// Rows and columns.
const SHAPES: [[usize; 2]; 10] =
    [[1, 1], [1, 7], [7, 1], [3, 5], [16, 16], [129, 33], [2, 1000], [0, 5], [1, 0], [1, 1025]];

pub(super) fn check<D: Memory + HasAccumulate>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    for (stream, [rows, columns]) in (0..).zip(SHAPES) {
        check_rows(bench, stream, rows, columns)?;
        for share in [0.0, 0.1, 0.5, 1.0] {
            check_blend(bench, stream, share, columns)?;
        }
    }
    check_refusals(bench)
}

/// An f32 of any magnitude up to 2^20, or now and then not finite.
fn value(stream: u32, index: usize) -> f32 {
    match values::word(!stream, index) % 64 {
        0 => f32::NAN,
        1 => f32::NEG_INFINITY,
        _ => values::random(stream, index, -20, 20),
    }
}

fn check_rows<D: Memory + HasAccumulate>(
    bench: &mut Bench<'_, D>,
    stream: u32,
    rows: usize,
    columns: usize,
) -> Result<(), Failure> {
    let case = Case::new("accumulate", rows * columns).of(Shape::rows(rows, columns));
    let from = |index| value(stream, index);
    let before = |index| value(stream + 100, index);
    let added = Tensor::<D, f32>::filled(case, bench.device, columns, from)?;
    let mut to = Tensor::<D, f32>::filled(case, bench.device, rows * columns, before)?;
    let input = added.view(case)?;
    bench.writes(
        case,
        &mut to,
        &before,
        |device, to| device.run(Accumulate { input, to }),
        &|index| Expected::Number(before(index) + from(index % columns)),
    )
}

fn check_blend<D: Memory + HasAccumulate>(
    bench: &mut Bench<'_, D>,
    stream: u32,
    share: f32,
    length: usize,
) -> Result<(), Failure> {
    let case = Case::new("blend", length);
    let from = |index| values::random(stream, index, -6, 6);
    let before = |index| match index % 11 {
        10 => f32::NAN,
        _ => values::random(stream + 100, index, -6, 6),
    };
    let new = Tensor::<D, f32>::filled(case, bench.device, length, from)?;
    let mut to = Tensor::<D, f32>::filled(case, bench.device, length, before)?;
    let input = new.view(case)?;
    let predicates = Predicates::new(case, bench.device)?;
    let when = Some(predicates.view(case, Predicate::On)?).filter(|_| length > 1);
    bench.writes(
        case,
        &mut to,
        &before,
        |device, to| device.run(Blend { share, input, to, when }),
        &|index| {
            let [from, before] = [from(index), before(index)].map(Near::exact);
            Expected::Near(before + Near::exact(share) * (from - before))
        },
    )
}

/// Rows that are not as long as what is added, and lengths that do not fit.
fn check_refusals<D: Memory + HasAccumulate>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    let case = Case::new("accumulate refused", 12);
    let from = Tensor::<D, f32>::filled(case, bench.device, 24, |_| 1.0)?;
    let mut to = Tensor::<D, f32>::filled(case, bench.device, 12, pattern)?;
    for length in [0, 5, 8, 13, 24] {
        let input = case.finds(D::Space::part(from.view(case)?, 0..length))?;
        bench.refuses_write(case, &mut to, |device, to| device.run(Accumulate { input, to }))?;
    }
    let case = Case { check: "blend refused", ..case };
    let input = case.finds(D::Space::part(from.view(case)?, 0..12))?;
    let predicates = Predicates::new(case, bench.device)?;
    let when = Some(predicates.view(case, Predicate::On)?);
    bench.refuses_mutated_writes(case, &mut to, &mut |device, to, mutation| {
        device.run(mutation.apply(Blend { share: 0.5, input, to, when }))
    })?;
    let (case, when) = (Case { check: "blend", ..case }, predicates.view(case, Predicate::Off)?);
    bench.skips_write(case, &mut to, |device, to| {
        device.run(Blend { share: 0.5, input, to, when: Some(when) })
    })
}
