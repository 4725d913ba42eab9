//! Convolutions on tensor cores as the host launches them: classes of pixels, parts, factors and copies.

use adaloss_core::{
    format::{E5M2, Element, Narrowing, f16},
    policy::Cell,
    statistics::Outcome,
};
use adaloss_gpu::Cuda;
use adaloss_hal::{
    AddressSpace, Epilogue, Memory, Plain,
    network::{Convolution, Convolve, ConvolveInput, ConvolveWeight, HasConvolve},
    portable::Portable,
};

use crate::{DRIVER, cuda};

#[derive(Clone, Copy, Debug)]
enum Direction {
    Output,
    Input,
    Weight,
}

/// Small integers, whose sums are exact in any order.
fn integers<T: Element>(count: usize) -> Vec<T> {
    let narrowing = Narrowing::to(T::ENCODING.into());
    let integer = |index: usize| (5 * index % 7) as f32 - 3.0;
    (0..count).map(|index| T::narrow(integer(index), narrowing, 0, 0)).collect()
}

/// Returns the results of a direction, from operands of which the first begins so many elements behind an allocation.
fn convolved<A, B, F, D>(
    device: &mut D,
    (direction, convolution): (Direction, Convolution),
    behind: usize,
) -> Result<Vec<u32>, D::Error>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Memory + HasConvolve<A, B, F>,
{
    let [input, weight, output] = convolution.lengths();
    let [left, right, count] = match direction {
        Direction::Output => [input, weight, output],
        Direction::Input => [output, weight, input],
        Direction::Weight => [output, input, weight],
    };
    let mut a = device.zeroed::<A>(behind + left)?;
    let part = |a| D::Space::part_mut(a, behind..behind + left).expect("it is there");
    device.write(&integers::<A>(left), part(D::view_mut(&mut a)))?;
    let mut b = device.zeroed::<B>(right)?;
    device.write(&integers::<B>(right), D::view_mut(&mut b))?;
    let mut bias = device.zeroed::<f32>(convolution.filters)?;
    device.write(&integers::<f32>(convolution.filters), D::view_mut(&mut bias))?;
    let mut cell = device.zeroed::<Cell>(1)?;
    device.write(&[Cell::new()], D::view_mut(&mut cell))?;
    let (mut to, mut outcome) = (device.zeroed::<F>(count)?, device.zeroed::<Outcome>(1)?);
    let epilogue = Epilogue {
        from: D::view(&cell),
        to: D::view(&cell),
        narrowing: Narrowing::to(F::ENCODING.into()),
        noise: Default::default(),
        stores: true,
        when: None,
        outcome: D::view_mut(&mut outcome),
        histogram: None,
    };
    let a = D::Space::part(D::view(&a), behind..behind + left).expect("it is there");
    let (b, to_mut) = (D::view(&b), D::view_mut(&mut to));
    match direction {
        Direction::Output => {
            let bias = Some(D::view(&bias));
            device.run(Convolve {
                convolution,
                input: a,
                weight: b,
                bias,
                to: to_mut,
                epilogue,
            })?;
        }
        Direction::Input => device.run(ConvolveInput {
            convolution,
            gradient: a,
            weight: b,
            to: to_mut,
            epilogue,
        })?,
        Direction::Weight => device.run(ConvolveWeight {
            convolution,
            gradient: a,
            input: b,
            to: to_mut,
            epilogue,
        })?,
    }
    let mut found = vec![F::from_bits(0); count];
    device.read(D::view(&to), &mut found)?;
    Ok(found.into_iter().map(Element::to_bits).collect())
}

/// Convolves on a GPU, which takes so many launches, to the portable device's bits.
fn agrees<A, B, F>(of: (Direction, Convolution), behind: usize, launches: u64)
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    Cuda: HasConvolve<A, B, F>,
    Portable: HasConvolve<A, B, F>,
{
    let device = &mut cuda();
    let before = DRIVER.calls("cuLaunchKernel");
    let found = convolved::<A, B, F, _>(device, of, behind).expect("it fits");
    assert_eq!(DRIVER.calls("cuLaunchKernel") - before, launches, "{of:?}");
    let expected = convolved::<A, B, F, _>(&mut Portable, of, behind).expect("it fits");
    assert_eq!(found, expected, "{of:?}");
}

/// 2,112 pixels of 8 channels.
const SHAPE: Convolution = Convolution::new(2, [32, 33], 8, 8, [3, 3]).padding([1, 1]);

#[test]
fn a_convolution_is_launched_as_its_shape_says() {
    agrees::<f16, f16, f16>((Direction::Output, SHAPE), 0, 1);
    agrees::<f16, f16, f16>((Direction::Input, SHAPE), 0, 1);
    // In two parts, which another launch adds up.
    agrees::<f16, f16, f32>((Direction::Weight, SHAPE), 0, 2);
    // Four classes of pixels.
    agrees::<f16, f16, f16>((Direction::Input, SHAPE.stride([2, 2])), 0, 4);
    // A product.
    let pixels = Convolution::new(2, [32, 33], 8, 8, [1, 1]);
    agrees::<f16, f16, f32>((Direction::Weight, pixels), 0, 2);
    agrees::<f16, f16, f16>((Direction::Output, Convolution { channels: 5, ..pixels }), 0, 1);
    // Tile by tile.
    agrees::<f16, f16, f16>((Direction::Output, Convolution { channels: 3, ..SHAPE }), 0, 1);
    agrees::<f16, f32, f16>((Direction::Output, SHAPE), 0, 1);
}

#[test]
fn operands_of_8_bits_and_at_odd_places_are_brought_along() {
    // Factors of both operands, and results that are narrowed behind; of one, beside parts.
    agrees::<E5M2, E5M2, E5M2>((Direction::Output, SHAPE), 1, 4);
    agrees::<E5M2, f16, f32>((Direction::Weight, SHAPE), 3, 3);
    let before = DRIVER.calls("cuMemcpyDtoDAsync_v2");
    agrees::<f16, f16, f16>((Direction::Input, SHAPE), 3, 1);
    assert_eq!(DRIVER.calls("cuMemcpyDtoDAsync_v2") - before, 1);
}
