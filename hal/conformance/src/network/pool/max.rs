//! `max_pool` and what brings elements back to their indices, bit for bit.

use adaloss_core::format::Element;

use super::{IMPOSSIBLE, SHAPES, TYPICAL, each_pair, greatest, placed};
use crate::{
    Case, Failure,
    bench::{Bench, pattern},
    refusal::Mutation,
    results::Expected,
    tensor::{Tensor, download, upload},
    values,
};
use adaloss_hal::{
    AddressSpace, Memory, Mut, Plain,
    network::{HasPool, MaxPool, Pick, Pooling, Unpool},
};

pub(super) fn check<E, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + HasPool<E>,
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
    D: Memory + HasPool<E>,
{
    let [of_input, of_output] = shape.lengths();
    let case = Case::new("max_pool", of_output).of(shape);
    let value = |index| value(stream, index);
    let input = Tensor::<D, E>::filled(case, bench.device, of_input, value)?;
    let mut to = Tensor::<D, E>::filled(case, bench.device, of_output, pattern)?;
    let mut indices = indices(case, bench.device, of_output)?;
    let (input, mut taken) = (input.view(case)?, indices.view_mut(case)?);
    bench.writes(
        case,
        &mut to,
        &|_| E::from_bits(0),
        move |device, mut to| {
            let to = D::Space::reborrow_mut(&mut to);
            let indices = D::Space::reborrow_mut(&mut taken);
            device.run(MaxPool { pooling: shape, input, to, indices })
        },
        &|index| {
            let taken = greatest(shape, index, value);
            Expected::Bits(taken.map_or(0, |(x, _)| x.to_bits()))
        },
    )?;
    compare_indices(case, bench.device, &indices, |index| {
        greatest(shape, index, value).map_or(0, |(_, position)| position)
    })
}

/// Makes room for indices, with guards that say so.
fn indices<D: Memory>(
    case: Case,
    device: &mut D,
    elements: usize,
) -> Result<Tensor<D, u32>, Failure> {
    let mut indices = Tensor::filled(case, device, elements, |_| 0)?;
    upload(case, device, indices.whole_mut(), &|_| GUARD)?;
    Ok(indices)
}

const GUARD: u32 = 0x5a5a_5a5a;

fn compare_indices<D: Memory>(
    case: Case,
    device: &mut D,
    indices: &Tensor<D, u32>,
    expected: impl Fn(usize) -> u32,
) -> Result<(), Failure> {
    download(case, device, indices.whole(), &mut |at, found: u32| {
        let index = at.wrapping_sub(1);
        if index < indices.elements() {
            case.number("an index", expected(index).into(), found.into())
        } else {
            case.number("what lies beside the indices", GUARD.into(), found.into())
        }
    })
}

/// Elements that go back to their indices, and those that are picked from them.
fn check_places<E, D>(bench: &mut Bench<'_, D>, shape: Pooling, stream: u32) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + HasPool<E>,
{
    let [of_input, of_output] = shape.lengths();
    let case = Case::new("pick", of_output).of(shape);
    let position = |index| placed(shape, stream, index);
    let indices = Tensor::<D, u32>::filled(case, bench.device, of_output, position)?;
    let large = Tensor::<D, E>::filled(case, bench.device, of_input, |i| value(stream, i))?;
    let small = Tensor::<D, E>::filled(case, bench.device, of_output, |i| value(!stream, i))?;
    let (indices, input) = (indices.view(case)?, large.view(case)?);
    let mut to = Tensor::<D, E>::filled(case, bench.device, of_output, pattern)?;
    bench.writes(
        case,
        &mut to,
        &pattern,
        |device, to| device.run(Pick { pooling: shape, input, indices, to }),
        &|index| {
            let mut picked = 0;
            each_pair(shape, index, false, |element, at| {
                if at as u32 == position(index) {
                    picked = value::<E>(stream, element).to_bits();
                }
            });
            Expected::Bits(picked)
        },
    )?;

    let case = Case::new("unpool", of_input).of(shape);
    let input = small.view(case)?;
    let mut to = Tensor::<D, E>::filled(case, bench.device, of_input, pattern)?;
    let unpool = |device: &mut D, to: Mut<'_, D, E>| {
        device.run(Unpool { pooling: shape, input, indices, to })
    };
    if shape.overlaps() {
        return bench.refuses_write(case, &mut to, unpool);
    }
    bench.writes(case, &mut to, &pattern, unpool, &|index| {
        let mut put = 0;
        each_pair(shape, index, true, |window, at| {
            if at as u32 == position(window) {
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
    D: Memory + HasPool<E>,
{
    let [of_input, of_output] = TYPICAL.lengths();
    let case = Case::new("max_pool refused", of_output);
    let large = Tensor::<D, E>::filled(case, bench.device, of_input, |_| E::from_bits(0))?;
    let small = Tensor::<D, E>::filled(case, bench.device, of_output, |_| E::from_bits(0))?;
    let zeros = Tensor::<D, u32>::filled(case, bench.device, of_output, |_| 0)?;
    let (large, small, indices) = (large.view(case)?, small.view(case)?, zeros.view(case)?);
    let mut to_small = Tensor::<D, E>::filled(case, bench.device, of_output, pattern)?;
    let mut to_large = Tensor::<D, E>::filled(case, bench.device, of_input, pattern)?;
    let mut written = self::indices(case, bench.device, of_output)?;
    let mut taken = written.view_mut(case)?;
    let mut max = |pooling, mutation: &Mutation, device: &mut D, mut to: Mut<'_, D, E>| {
        let to = D::Space::reborrow_mut(&mut to);
        let indices = D::Space::reborrow_mut(&mut taken);
        device.run(mutation.apply(MaxPool { pooling, input: large, to, indices }))
    };
    for pooling in IMPOSSIBLE {
        let case = case.of(pooling);
        let unchanged = Mutation::none();
        bench.refuses_write(case, &mut to_small, |device, to| {
            max(pooling, &unchanged, device, to)
        })?;
        bench.refuses_write(case, &mut to_small, |device, to| {
            device.run(Pick { pooling, input: large, indices, to })
        })?;
        bench.refuses_write(case, &mut to_large, |device, to| {
            device.run(Unpool { pooling, input: small, indices, to })
        })?;
    }
    let (pooling, case) = (TYPICAL, case.of(TYPICAL));
    bench.refuses_mutated_writes(case, &mut to_small, &mut |device, to, mutation| {
        max(pooling, mutation, device, to)
    })?;
    bench.refuses_mutated_writes(case, &mut to_small, &mut |device, to, mutation| {
        device.run(mutation.apply(Pick { pooling, input: large, indices, to }))
    })?;
    bench.refuses_mutated_writes(case, &mut to_large, &mut |device, to, mutation| {
        device.run(mutation.apply(Unpool { pooling, input: small, indices, to }))
    })?;
    drop(taken);
    compare_indices(case, bench.device, &written, |_| GUARD)
}
