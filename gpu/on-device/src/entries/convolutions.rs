//! The entry points of convolutions on tensor cores, beside the portable device.

use adaloss_core::format::{Element, Narrowing, Noise};
use adaloss_gpu::Cuda;
use adaloss_hal::{
    Memory, Plain,
    network::{Convolution, Convolve, ConvolveInput, ConvolveWeight, HasConvolve},
    portable::Portable,
};

use super::{Readout, Row, compare, end, put, slim};

/// A direction of a convolution.
#[derive(Clone, Copy)]
enum Direction {
    Output,
    Input,
    Weight,
}

impl Direction {
    /// Returns windows of three pixels, which are about a product of so many rows, terms and columns: channels, and filters in the
    /// backward pass, come in eights.
    fn about(self, [rows, inner, columns]: [usize; 3]) -> Convolution {
        let of = |width, channels, filters| {
            Convolution::new(1, [1, width], channels, filters, [1, 3]).padding([0, 1])
        };
        let in_eights = |terms: usize| (terms / 3).max(8) / 8 * 8;
        match self {
            Self::Output => of(rows, in_eights(inner), columns),
            Self::Input => of(rows, columns.next_multiple_of(8), in_eights(inner)),
            Self::Weight => of(inner, in_eights(columns), rows.next_multiple_of(8)),
        }
    }
}

/// Runs the convolutions of one element type, each about so large as a product.
pub(super) fn run<E: Element + Plain>(
    row: &mut Row<'_>,
    device: &mut Cuda,
    name: &str,
    product: [usize; 3],
) -> anyhow::Result<()>
where
    Cuda: HasConvolve<E, E, E> + HasConvolve<E, E, f32>,
    Portable: HasConvolve<E, E, E> + HasConvolve<E, E, f32>,
{
    for (kernel, direction, product) in [
        ("output", Direction::Output, product),
        ("input", Direction::Input, product),
        ("weight", Direction::Weight, product),
        ("slim_output", Direction::Output, slim(product)),
        ("slim_input", Direction::Input, slim(product)),
    ] {
        // Where what executes is counted, nothing is computed again.
        let has_infinity = !product[1].is_multiple_of(128);
        let of = (direction, direction.about(product), has_infinity);
        row(&format!("adaloss_implicit_{kernel}_{name}"), &mut || {
            compare(convolved::<E, E, _>(device, of)?, convolved::<E, E, _>(&mut Portable, of)?)
        })?;
        row(&format!("adaloss_implicit_{kernel}_{name}_f32"), &mut || {
            compare(convolved::<E, f32, _>(device, of)?, convolved::<E, f32, _>(&mut Portable, of)?)
        })?;
    }
    Ok(())
}

/// Small integers, none of which is zero: sums are exact in any order.  One element may be infinite: of the weight, or of the gradient where
/// that of the weight is computed; sums that have padding in its place are finite.
fn convolved<E, F, D>(
    device: &mut D,
    (direction, convolution, has_infinity): (Direction, Convolution, bool),
) -> anyhow::Result<Readout>
where
    E: Element + Plain,
    F: Element + Plain,
    D: Memory + HasConvolve<E, E, F>,
{
    let [input, weight, output] = convolution.lengths();
    let [left, right, result] = match direction {
        Direction::Output => [input, weight, output],
        Direction::Input => [output, weight, input],
        Direction::Weight => [output, input, weight],
    };
    let (mut a, mut b) = (elements::<E>(1, left), elements::<E>(2, right));
    if has_infinity {
        let infinite = if let Direction::Weight = direction { &mut a } else { &mut b };
        infinite[0] = E::narrow(f32::INFINITY, Narrowing::to(E::ENCODING.into()), 0, 0);
    }
    let bias = put(device, &elements::<f32>(3, convolution.filters))?;
    let (a, b) = (put(device, &a)?, put(device, &b)?);
    let (a, b) = (D::view(&a), D::view(&b));
    end::<F, _>(device, result, 1, |device, to, epilogue| match direction {
        Direction::Output => {
            let bias = Some(D::view(&bias));
            device.run(Convolve { convolution, input: a, weight: b, bias, to, epilogue })
        }
        Direction::Input => {
            device.run(ConvolveInput { convolution, gradient: a, weight: b, to, epilogue })
        }
        Direction::Weight => {
            device.run(ConvolveWeight { convolution, gradient: a, input: b, to, epilogue })
        }
    })
}

fn elements<E: Element>(stream: u32, count: usize) -> Vec<E> {
    let noise = Noise { seed: 13, stream };
    let integer = |index| [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0][noise.word(index) as usize % 6];
    let narrowing = Narrowing::to(E::ENCODING.into());
    (0..count as u32).map(|index| E::narrow(integer(index), narrowing, 0, 0)).collect()
}
