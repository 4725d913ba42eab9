//! Convolutions on tensor cores beyond the sizes of the conformance suite: several tiles, classes and parts.

use adaloss_core::{
    format::{Element, Format, Narrowing, Noise, bf16, f16},
    policy::Cell,
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_hal::{
    Epilogue, HostSpace, Run,
    network::{Convolution, Convolve, ConvolveInput, ConvolveWeight},
    portable::Portable,
};
use adaloss_kernels::{
    epilogue,
    memory::Out,
    network::{
        convolve::Direction,
        implicit::{Implicit, convolve_into},
    },
    parts::add_parts_into,
};

use crate::{
    device::{Simulated, named},
    layers::named_convolution,
    product::random,
};

/// Several tiles of rows and columns, and a few that tensor cores take a part of: filters that are in no eights, groups, all strides,
/// windows that are mostly padding, kernels that no pixel of a class has.
const SHAPES: [Convolution; 8] = [
    Convolution::new(2, [13, 11], 16, 136, [3, 3]).padding([1, 1]),
    Convolution::new(1, [9, 17], 136, 24, [3, 3]).padding([1, 1]),
    Convolution::new(3, [14, 13], 24, 40, [3, 3]).padding([1, 1]).stride([2, 2]),
    Convolution::new(2, [11, 16], 32, 72, [1, 1]).stride([2, 2]),
    Convolution::new(2, [12, 9], 32, 16, [5, 2]).padding([4, 0]).stride([3, 2]).groups(2),
    Convolution::new(1, [30, 7], 8, 8, [3, 3]).padding([6, 6]).dilation([6, 6]),
    Convolution::new(2, [10, 9], 8, 13, [4, 4]).padding([1, 2]),
    Convolution::new(1, [17, 5], 72, 144, [3, 1]).dilation([4, 1]).stride([6, 1]).padding([3, 0]),
];

const DIRECTIONS: [Direction; 3] = [Direction::Output, Direction::Input, Direction::Weight];

/// Returns the elements of the operands, then of the result.
fn lengths(of: Convolution, direction: Direction) -> [usize; 3] {
    let [input, weight, output] = of.lengths();
    match direction {
        Direction::Output => [input, weight, output],
        Direction::Input => [output, weight, input],
        Direction::Weight => [output, input, weight],
    }
}

/// What an operation leaves: results, and what was counted.
type Left = (Vec<u32>, Outcome, Histogram);

/// Ends an operation at another scale.
fn end<F: Element>(
    count: usize,
    work: impl for<'w> FnOnce(&'w mut [F], Epilogue<'w, HostSpace>),
) -> Left {
    let narrowing = Narrowing::to(F::ENCODING.into());
    let cells = [Cell::at(Scale::saturating(5)), Cell::at(Scale::saturating(3))];
    let (mut to, mut outcome) = (vec![F::from_bits(0); count], [Outcome::EMPTY]);
    let mut histogram = [Histogram::new(narrowing)];
    let epilogue = Epilogue {
        from: &cells[..1],
        to: &cells[1..],
        narrowing,
        noise: Noise::default(),
        stores: true,
        when: None,
        outcome: &mut outcome[..],
        histogram: Some(&mut histogram[..]),
    };
    work(&mut to, epilogue);
    let [outcome] = outcome;
    let [histogram] = histogram;
    (to.iter().map(|x| x.to_bits()).collect(), outcome, histogram)
}

fn portable<E, F>(of: Convolution, direction: Direction, [a, b]: [&[E]; 2], bias: &[f32]) -> Left
where
    E: Element + adaloss_hal::Plain,
    F: Element + adaloss_hal::Plain,
{
    let [_, _, count] = lengths(of, direction);
    end::<F>(count, |to, epilogue| {
        let convolution = of;
        let done = match direction {
            Direction::Output => {
                let bias = Some(bias);
                Portable.run(Convolve { convolution, input: a, weight: b, bias, to, epilogue })
            }
            Direction::Input => {
                Portable.run(ConvolveInput { convolution, gradient: a, weight: b, to, epilogue })
            }
            Direction::Weight => {
                Portable.run(ConvolveWeight { convolution, gradient: a, input: b, to, epilogue })
            }
        };
        done.expect("operands of the shape");
    })
}

/// Elements that begin at a multiple of 16 bytes.
#[repr(align(16))]
#[derive(Clone, Copy)]
struct Chunk<E>([E; 8]);

fn aligned<E: Element>(elements: &[E]) -> Vec<Chunk<E>> {
    let chunk = |chunk: &[E]| {
        let mut whole = [E::from_bits(0); 8];
        whole[..chunk.len()].copy_from_slice(chunk);
        Chunk(whole)
    };
    elements.chunks(8).map(chunk).collect()
}

/// Every element of the results is the portable device's, and so is every count; some operands are infinite.
fn conforms<E, F>(nonfinite: bool)
where
    E: adaloss_kernels::block::Factor + adaloss_hal::Plain,
    F: Element + adaloss_hal::Plain,
{
    let device = &mut Simulated::default();
    for (nth, shape) in SHAPES.into_iter().enumerate() {
        let bias = random::<f32>(nth as u32 + 9, shape.filters);
        for direction in DIRECTIONS {
            let has_bias = direction == Direction::Output;
            let of = named_convolution(shape, has_bias.then_some(&bias[..]));
            if !Implicit::<E>::has(&of, direction) {
                continue;
            }
            let [left, right, count] = lengths(shape, direction);
            let [mut a, mut b] =
                [(left, 2), (right, 3)].map(|(count, seed)| random::<E>(nth as u32 + seed, count));
            if nonfinite {
                for (place, x) in [(0, f32::INFINITY), (left / 2, f32::NAN)] {
                    a[place] = E::narrow(x, Narrowing::to(E::ENCODING.into()), 0, 0);
                }
                let infinite =
                    E::narrow(f32::NEG_INFINITY, Narrowing::to(E::ENCODING.into()), 0, 0);
                b[right - 1] = infinite;
                b[right / 3] = infinite;
            }
            let expected = portable::<E, F>(shape, direction, [&a, &b], &bias);
            let (a, b) = (aligned(&a), aligned(&b));
            let operands = [a.as_ptr().cast(), b.as_ptr().cast()];
            let found = end::<F>(count, |to, epilogue| {
                let (to, epilogue) = (Out::of(to), named(epilogue));
                device.convolve_on_tensor_cores::<E, F>(&of, direction, operands, to, &epilogue);
            });
            let is_nan = |bits: u32| F::from_bits(bits).widen().is_nan();
            for (index, (&found, &expected)) in found.0.iter().zip(&expected.0).enumerate() {
                let are_alike = found == expected || is_nan(found) && is_nan(expected);
                assert!(are_alike, "{shape} {direction:?}, result {index}: {found:x} {expected:x}");
            }
            assert_eq!((found.1, found.2), (expected.1, expected.2), "{shape} {direction:?}");
        }
    }
}

#[test]
fn convolutions_of_many_tiles_are_sums_in_order() {
    conforms::<f16, f16>(false);
    conforms::<bf16, f32>(false);
}

/// A zero of the padding is multiplied by nothing, infinite or not.
#[test]
fn what_is_infinite_beside_padding_stays_there() {
    conforms::<f16, f32>(true);
    conforms::<bf16, bf16>(true);
}

/// Terms that are cut into parts, which another launch adds up: integers, whose sums are exact.
#[test]
fn convolutions_in_parts_add_up() {
    let device = &mut Simulated::default();
    for (nth, shape) in SHAPES.into_iter().enumerate() {
        let bias = (0..shape.filters).map(|filter| filter as f32 - 7.0).collect::<Vec<_>>();
        for direction in DIRECTIONS {
            let has_bias = direction == Direction::Output;
            let of = named_convolution(shape, has_bias.then_some(&bias[..]));
            if !Implicit::<f16>::has(&of, direction) {
                continue;
            }
            let [left, right, count] = lengths(shape, direction);
            let [a, b] = [(left, 2), (right, 3)].map(|(count, seed)| -> Vec<f16> {
                let noise = Noise { seed: nth as u32 + seed, stream: 0 };
                let integer = |index| f16::from_f32((noise.word(index) % 7) as f32 - 3.0);
                (0..count as u32).map(integer).collect()
            });
            let (expected, ..) = portable::<f16, f32>(shape, direction, [&a, &b], &bias);
            let (a, b) = (aligned(&a), aligned(&b));
            let operands = [a.as_ptr().cast::<f16>(), b.as_ptr().cast()];
            let cells = [Cell::at(Scale::saturating(5)), Cell::at(Scale::saturating(3))];
            let mut outcome = Outcome::EMPTY;
            let mut epilogue = epilogue::Epilogue {
                from: &cells[0],
                to: &cells[0],
                narrowing: Narrowing::to(Format::BINARY32),
                noise: Noise::default(),
                stores: true,
                when: std::ptr::null(),
                outcome: std::ptr::null_mut(),
                histogram: std::ptr::null_mut(),
            };
            let part_count = 3;
            let mut in_parts = vec![f32::NAN; part_count * count];
            let parts = Out::of(&mut in_parts);
            for class in Implicit::<f16>::classes(&of, direction) {
                let of = Implicit::new(&of, direction, class, operands).in_parts(part_count);
                assert_eq!(of.results(direction), part_count * count);
                // SAFETY: everything named is borrowed, and has its length.
                device.multiplies().launch(|block| unsafe {
                    if of.is_slim(direction) {
                        convolve_into::<_, _, true>(block, &of, direction, false, parts, &epilogue);
                    } else {
                        convolve_into::<_, _, false>(
                            block, &of, direction, false, parts, &epilogue,
                        );
                    }
                });
            }
            (epilogue.to, epilogue.outcome) = (&cells[1], &mut outcome);
            let mut found = vec![0.0_f32; count];
            let to = Out::of(&mut found);
            // SAFETY: as above.
            device.grid().launch(|block| unsafe {
                add_parts_into(block, &in_parts, true, to, &epilogue);
            });
            assert_eq!(outcome.elements, count as u64);
            let expected: Vec<_> = expected.into_iter().map(f32::from_bits).collect();
            assert_eq!(found, expected, "{shape} {direction:?}");
        }
    }
}

#[test]
fn what_has_no_chunks_is_left_to_tiles() {
    let has = |of: Convolution| {
        let of = named_convolution(of, None);
        DIRECTIONS.map(|direction| Implicit::<f16>::has(&of, direction))
    };
    let usual = Convolution::new(1, [14, 14], 16, 24, [3, 3]);
    assert_eq!(has(usual), [true; 3]);
    assert_eq!(has(Convolution { channels: 3, ..usual }), [false; 3]);
    assert_eq!(has(Convolution { filters: 10, ..usual }), [true, false, false]);
    assert_eq!(has(usual.groups(4)), [false; 3]);
    assert_eq!(has(usual.stride([5, 4])), [true, false, true]);
    assert_eq!(has(Convolution { kernel: [13, 1], ..usual }), [false; 3]);
}
