//! Pooling: elements that move, bit for bit, and sums.

mod max;
mod sums;

use adaloss_core::format::Element;

use crate::{Failure, bench::Bench, values};
use adaloss_hal::{
    Memory, Plain,
    network::{HasPool, Pooling},
};

/// A single pixel, windows side by side, gaps between them, overlaps, padding, pixels that no window
/// sees, windows that reach beyond the image or would begin behind it, and nothing at all.
const SHAPES: [Pooling; 16] = [
    Pooling::new(1, [1, 1], 1, [1, 1]),
    Pooling::new(2, [4, 6], 3, [2, 2]),
    Pooling::new(1, [7, 5], 4, [2, 3]),
    Pooling::new(2, [7, 7], 2, [3, 3]).stride([2, 2]),
    Pooling::new(2, [8, 6], 2, [3, 3]).stride([2, 2]).padding([1, 1]),
    Pooling::new(1, [6, 6], 5, [3, 3]).stride([1, 1]).padding([1, 1]),
    Pooling::new(1, [9, 9], 2, [2, 2]).stride([3, 4]),
    Pooling::new(3, [5, 4], 2, [2, 2]).padding([1, 1]),
    Pooling::new(1, [4, 5], 17, [4, 5]),
    Pooling::new(1, [2, 1], 2, [3, 3]).padding([1, 2]),
    Pooling::new(2, [7, 5], 3, [2, 2]).covering(),
    Pooling::new(1, [6, 9], 4, [3, 3]).stride([2, 2]).padding([1, 1]).covering(),
    Pooling::new(1, [9, 8], 2, [2, 2]).stride([3, 4]).covering(),
    Pooling::new(2, [4, 5], 2, [2, 2]).stride([3, 5]).padding([1, 1]).covering(),
    Pooling::new(0, [4, 4], 3, [2, 2]),
    Pooling::new(2, [4, 4], 0, [2, 2]),
];

/// Shapes that no pooling has.
const IMPOSSIBLE: [Pooling; 7] = [
    TYPICAL.stride([0, 1]),
    TYPICAL.padding([2, 0]),
    TYPICAL.padding([0, usize::MAX]),
    Pooling { window: [2, 0], ..TYPICAL },
    Pooling { window: [5, 2], ..TYPICAL },
    Pooling { input: [0, 4], ..TYPICAL },
    Pooling { batch: 1 << (usize::BITS - 1), ..TYPICAL },
];

const TYPICAL: Pooling = Pooling::new(2, [4, 6], 3, [2, 2]);

/// A place that no image has.
const BEYOND: u32 = u32::MAX - 1;

/// Calls `take` for each pixel that a window sees, or `by_pixel` for each window that sees a pixel,
/// with the element of the other one and the pixel's place.
fn each_pair(shape: Pooling, index: usize, by_pixel: bool, mut take: impl FnMut(usize, usize)) {
    let Pooling { input, channels, window, stride, padding, .. } = shape;
    let Some(output) = shape.output() else { return };
    let (own, others) = if by_pixel { (input, output) } else { (output, input) };
    let (pixel, channel) = (index / channels, index % channels);
    let (image, y, x) = (pixel / (own[0] * own[1]), pixel / own[1] % own[0], pixel % own[1]);
    for row in 0..others[0] {
        for column in 0..others[1] {
            let (at, pixel) =
                if by_pixel { ([row, column], [y, x]) } else { ([y, x], [row, column]) };
            let sees = |axis: usize| {
                let padded = pixel[axis] + padding[axis];
                padded.checked_sub(at[axis] * stride[axis]).is_some_and(|at| at < window[axis])
            };
            if sees(0) && sees(1) {
                let other = ((image * others[0] + row) * others[1] + column) * channels + channel;
                take(other, pixel[0] * input[1] + pixel[1]);
            }
        }
    }
}

/// Returns what a window takes, and its place.
fn greatest<E: Element>(
    shape: Pooling,
    index: usize,
    value: impl Fn(usize) -> E,
) -> Option<(E, u32)> {
    let mut taken: Option<(E, u32)> = None;
    each_pair(shape, index, false, |element, position| {
        let x = value(element);
        let is_taken = taken.is_none_or(|(greatest, _)| {
            let (x, greatest) = (x.widen(), greatest.widen());
            !greatest.is_nan() && (x.is_nan() || x > greatest)
        });
        if is_taken {
            taken = Some((x, position as u32));
        }
    });
    taken
}

pub(super) fn check<E, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + HasPool<E>,
{
    max::check::<E, D>(bench)?;
    sums::check::<E, D>(bench)
}

/// Returns a place that a max pooling could have taken, and beyond the image at every seventh.
fn placed(shape: Pooling, stream: u32, index: usize) -> u32 {
    if index % 7 == 5 {
        return BEYOND;
    }
    greatest(shape, index, |index| values::moderate::<f32>(stream, index)).map_or(0, |(_, at)| at)
}
