//! `max_pool` and what brings elements back to their places, bit for bit.

use adaloss_core::format::Element;

use super::{IMPOSSIBLE, SHAPES, TYPICAL, each_pair, greatest, placed};
use crate::{
    AddressSpace, Memory, Mut, Plain,
    conformance::{
        Case, Failure,
        bench::{Bench, pattern},
        results::Expected,
        tensor::{Tensor, download, upload},
        values,
    },
    network::{MaxPool, Pooling},
};

pub(super) fn check<E, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + MaxPool<E>,
{
    for (stream, shape) in (0..).zip(SHAPES) {
        check_max::<E, D>(bench, shape, stream, value)?;
        check_max::<E, D>(bench, shape, stream, values::integer)?;
        check_max::<E, D>(bench, shape, stream, values::moderate)?;
        check_places::<E, D>(bench, shape, stream)?;
    }
    check_refusals::<E, D>(bench)
}

/// Elements with ties, zeros of both signs, infinities and NaN among them.
fn value<E: Element>(stream: u32, index: usize) -> E {
    let encoding = E::ENCODING;
    match values::word(stream, index) >> 16 & 15 {
        0..4 => E::from_bits(0),
        4..8 => E::from_bits(encoding.sign_bit()),
        8 => E::from_bits(encoding.overflow_bits()),
        9 => E::from_bits(encoding.overflow_bits() | encoding.sign_bit()),
        10 => E::from_bits(encoding.nan_bits()),
        11 => E::from_bits(encoding.nan_bits() | encoding.sign_bit()),
        _ => E::from_bits(E::to_bits(values::integer(stream, index)) | encoding.sign_bit()),
    }
}

/// What each window takes, and where from.
fn check_max<E, D>(
    bench: &mut Bench<'_, D>,
    shape: Pooling,
    stream: u32,
    value: fn(u32, usize) -> E,
) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + MaxPool<E>,
{
    let [of_input, of_output] = shape.lengths();
    let case = Case::new("max_pool", of_output).of(shape);
    let value = |index| value(stream, index);
    let input = Tensor::<D, E>::filled(case, bench.device, of_input, value)?;
    let mut to = Tensor::<D, E>::filled(case, bench.device, of_output, pattern)?;
    let mut places = places(case, bench.device, of_output)?;
    let (from, taken) = (input.view(case)?, places.view_mut(case)?);
    bench.writes(
        case,
        &mut to,
        &|_| E::from_bits(0),
        |device, to| device.max_pool(shape, from, to, taken),
        &|index| {
            let taken = greatest(shape, index, value);
            Expected::Bits(taken.map_or(0, |(x, _)| x.to_bits()))
        },
    )?;
    compare_places(case, bench.device, &places, |index| {
        greatest(shape, index, value).map_or(0, |(_, place)| place)
    })
}

/// Makes room for places, with guards that say so.
fn places<D: Memory>(
    case: Case,
    device: &mut D,
    elements: usize,
) -> Result<Tensor<D, u32>, Failure> {
    let mut places = Tensor::filled(case, device, elements, |_| 0)?;
    upload(case, device, places.whole_mut(), &|_| GUARD)?;
    Ok(places)
}

const GUARD: u32 = 0x5a5a_5a5a;

fn compare_places<D: Memory>(
    case: Case,
    device: &mut D,
    places: &Tensor<D, u32>,
    expected: impl Fn(usize) -> u32,
) -> Result<(), Failure> {
    download(case, device, places.whole(), &mut |at, found: u32| {
        let index = at.wrapping_sub(1);
        if index < places.elements() {
            case.number("a place", expected(index).into(), found.into())
        } else {
            case.number("what lies beside the places", GUARD.into(), found.into())
        }
    })
}

/// Elements that go back to their places, and those that are picked from them.
fn check_places<E, D>(bench: &mut Bench<'_, D>, shape: Pooling, stream: u32) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + MaxPool<E>,
{
    let [of_input, of_output] = shape.lengths();
    let case = Case::new("pick", of_output).of(shape);
    let place = |index| placed(shape, stream, index);
    let places = Tensor::<D, u32>::filled(case, bench.device, of_output, place)?;
    let large = Tensor::<D, E>::filled(case, bench.device, of_input, |i| value(stream, i))?;
    let small = Tensor::<D, E>::filled(case, bench.device, of_output, |i| value(!stream, i))?;
    let (places, from) = (places.view(case)?, large.view(case)?);
    let mut to = Tensor::<D, E>::filled(case, bench.device, of_output, pattern)?;
    bench.writes(
        case,
        &mut to,
        &pattern,
        |device, to| device.pick(shape, from, places, to),
        &|index| {
            let mut picked = 0;
            each_pair(shape, index, false, |element, at| {
                if at as u32 == place(index) {
                    picked = value::<E>(stream, element).to_bits();
                }
            });
            Expected::Bits(picked)
        },
    )?;

    let case = Case::new("unpool", of_input).of(shape);
    let from = small.view(case)?;
    let mut to = Tensor::<D, E>::filled(case, bench.device, of_input, pattern)?;
    let unpool = |device: &mut D, to: Mut<'_, D, E>| device.unpool(shape, from, places, to);
    if shape.overlaps() {
        return bench.spares(case, &mut to, unpool);
    }
    bench.writes(case, &mut to, &pattern, unpool, &|index| {
        let mut put = 0;
        each_pair(shape, index, true, |window, at| {
            if at as u32 == place(window) {
                put = value::<E>(!stream, window).to_bits();
            }
        });
        Expected::Bits(put)
    })
}

/// Operands without an epilogue that do not fit.
fn check_refusals<E, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + MaxPool<E>,
{
    let [of_input, of_output] = TYPICAL.lengths();
    let case = Case::new("max_pool refused", of_output);
    let large = Tensor::<D, E>::filled(case, bench.device, of_input + 1, |_| E::from_bits(0))?;
    let mut places = places(case, bench.device, of_output + 1)?;
    let lengths = [
        (TYPICAL, [of_input - 1, of_output, of_output]),
        (TYPICAL, [of_input + 1, of_output, of_output]),
        (TYPICAL, [of_input, of_output - 1, of_output]),
        (TYPICAL, [of_input, of_output, of_output - 1]),
        (TYPICAL, [of_input, of_output, of_output + 1]),
    ];
    let impossible = IMPOSSIBLE.map(|shape| (shape, [of_input, of_output, of_output]));
    for (shape, [input, output, at]) in impossible.into_iter().chain(lengths) {
        let case = case.of(shape);
        let from = case.finds(D::Space::part(large.view(case)?, 0..input))?;
        let mut to = Tensor::<D, E>::filled(case, bench.device, output, pattern)?;
        let taken = case.finds(D::Space::part_mut(places.view_mut(case)?, 0..at))?;
        bench.spares(case, &mut to, |device, to| device.max_pool(shape, from, to, taken))?;
        compare_places(case, bench.device, &places, |_| GUARD)?;
        let taken = case.finds(D::Space::part(places.view(case)?, 0..at))?;
        bench.spares(case, &mut to, |device, to| device.pick(shape, from, taken, to))?;
        let from = case.finds(D::Space::part(large.view(case)?, 0..output))?;
        let mut to = Tensor::<D, E>::filled(case, bench.device, input, pattern)?;
        bench.spares(case, &mut to, |device, to| device.unpool(shape, from, taken, to))?;
    }
    Ok(())
}
