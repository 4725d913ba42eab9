//! Windows along one axis, and divisions by their numbers.

use crate::network::sliding::Sliding;

/// A number that others below 2^31 are divided by, as Granlund and Montgomery do: "Division by invariant integers using
/// multiplication", 1994.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Divisor {
    pub(super) by: u32,
    factor: u32,
    shift: u32,
}

impl Divisor {
    /// Names a divisor, which is 1 where it is 0 or 2^31 and more.
    pub(super) fn new(by: usize) -> Self {
        let by = u32::try_from(by).ok().filter(|by| (1..1 << 31).contains(by)).unwrap_or(1);
        let shift = by.next_power_of_two().trailing_zeros();
        // Between 2^31 and 2^32, since 2^shift is less than twice the divisor.
        let factor = (1_u64 << (31 + shift)).div_ceil(by.into()) as u32;
        Self { by, factor, shift }
    }

    /// Returns quotient and remainder of a number below 2^31.
    #[inline(always)]
    pub(super) fn split(self, number: u32) -> (u32, u32) {
        let product = u64::from(2 * number) * u64::from(self.factor);
        let quotient = (product >> 32) as u32 >> self.shift;
        (quotient, number - quotient * self.by)
    }
}

/// The windows along one axis of the images that chunks come from.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Axis {
    /// Pixels of an image.
    pub(super) extent: u32,
    /// Windows.
    pub(super) count: Divisor,
    /// Pixels of a window.
    pub(super) size: u32,
    /// Pixels from one window to the next.
    pub(super) stride: u32,
    /// Pixels from one of a window's pixels to the next.
    pub(super) dilation: Divisor,
    /// Pixels that the first window lies before the image; 2^32 less where it lies behind its beginning.
    pub(super) before: u32,
    /// In the gradient of an input: the window's first pixel in the weight, and how many it has from there on backwards to the next.
    pub(super) last: u32,
    pub(super) back: u32,
    /// There, where windows' results belong: pixels of an image, the first one that has a window, and from one to the next.
    pub(super) to_extent: u32,
    pub(super) to_first: u32,
    pub(super) to_step: u32,
}

impl Axis {
    pub(super) fn new(of: Sliding, dilation: usize) -> Self {
        let Sliding { extent, count, size, stride, padding } = of;
        Self {
            extent: extent as u32,
            count: Divisor::new(count),
            size: size as u32,
            stride: stride as u32,
            dilation: Divisor::new(dilation),
            before: padding as u32,
            last: 0,
            back: 0,
            to_extent: count as u32,
            to_first: 0,
            to_step: 1,
        }
    }

    /// Returns how the pixels of a class see the output, and how many there are: those whose place in the padded image is `class` modulo
    /// the stride.
    pub(super) fn of_class(of: Sliding, dilation: usize, class: usize) -> (Self, usize) {
        let Sliding { extent, count, size, stride, padding } = of;
        let (stride, dilation) = (stride.max(1), dilation.max(1));
        // The first pixel of the class.
        let first = (class + stride - padding % stride) % stride;
        let pixels = extent.saturating_sub(first).div_ceil(stride);
        // The first offset into a window that its pixels have, if any, and from one to the next.
        let step = stride / common_divisor(stride, dilation);
        let offset = (0..step).find(|of| of * dilation % stride == class).unwrap_or(size);
        let offsets = size.saturating_sub(offset).div_ceil(step);
        let last = offset + offsets.saturating_sub(1) * step;
        // What the first pixel has at the last offset is this far before the first window.
        let before = (last * dilation).wrapping_sub(first + padding) as isize / stride as isize;
        let axis = Self {
            extent: count as u32,
            count: Divisor::new(pixels),
            size: offsets as u32,
            stride: 1,
            dilation: Divisor::new(step * dilation / stride),
            before: before as u32,
            last: last as u32,
            back: step as u32,
            to_extent: extent as u32,
            to_first: first as u32,
            to_step: stride as u32,
        };
        (axis, pixels)
    }

    /// Returns the bits of a window's pixels that are in the image, the first one's the lowest.
    #[inline(always)]
    pub(super) fn within(&self, window: u32) -> u32 {
        let first = (window * self.stride).wrapping_sub(self.before);
        // Pixels in front of the image, and those up to its end.
        let front = if first >> 31 == 1 { first.wrapping_neg() } else { 0 };
        let end = (self.extent + front).saturating_sub(first.wrapping_add(front));
        let bits = |pixels: u32| {
            let (count, _) = self.dilation.split(pixels + self.dilation.by - 1);
            (1 << count.min(self.size)) - 1
        };
        bits(end) & !bits(front)
    }
}

/// Returns the greatest divisor that two numbers have in common, the second of which is not 0.
const fn common_divisor(one: usize, other: usize) -> usize {
    let (mut one, mut other) = (one, other);
    while one % other > 0 {
        (one, other) = (other, one % other);
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_exact() {
        let numbers = [0, 1, 2, 3, 6, 7, 8, 48, 49, 55, 56, 57, 111, 112, 224, 3136, 65535, 65536];
        for by in (1..300).chain([1 << 16, 100_003, (1 << 30) - 1, 1 << 30, (1 << 31) - 1]) {
            let multiples = [1_u64, 2, 7, 1000, (1 << 31) / by - 1, (1 << 31) / by];
            let near = multiples.into_iter().flat_map(|of| [by * of, (by * of).saturating_sub(1)]);
            for number in near.chain(numbers).chain([(1 << 31) - 1]).filter(|&of| of < 1 << 31) {
                let (number, by) = (number as u32, by as u32);
                let found = Divisor::new(by as usize).split(number);
                assert_eq!(found, (number / by, number % by), "{number} by {by}");
            }
        }
    }

    #[test]
    fn classes_share_pixels_and_offsets() {
        for (extent, size, stride, padding, dilation) in [
            (56, 3, 1, 1, 1),
            (56, 3, 2, 1, 1),
            (7, 1, 2, 0, 1),
            (12, 7, 2, 3, 1),
            (9, 2, 3, 0, 1),
            (5, 5, 4, 2, 1),
            (9, 3, 1, 2, 2),
            (13, 3, 2, 4, 4),
            (31, 4, 6, 3, 4),
            (20, 3, 3, 5, 4),
        ] {
            let count = (extent + 2 * padding - (size - 1) * dilation - 1) / stride + 1;
            let of = Sliding { extent, count, size, stride, padding };
            let axis = Axis::new(of, dilation);
            for window in 0..count {
                let is_there = |offset| of.pixel(window, offset * dilation).is_some();
                let bits = (0..size).map(|offset| u32::from(is_there(offset)) << offset);
                assert_eq!(axis.within(window as u32), bits.sum());
            }
            let (mut pixels, mut offsets) = (0, 0);
            for class in 0..stride {
                let (axis, count) = Axis::of_class(of, dilation, class);
                (pixels, offsets) = (pixels + count, offsets + axis.size);
                for nth in 0..count as u32 {
                    let pixel = (axis.to_first + axis.to_step * nth) as usize;
                    assert!(pixel < extent);
                    let mut bits = 0;
                    for offset in 0..axis.size {
                        let in_weight = (axis.last - axis.back * offset) as usize;
                        let window = nth + offset * axis.dilation.by;
                        let window = window.wrapping_sub(axis.before) as usize;
                        let seen = of.window(pixel, in_weight * dilation);
                        assert_eq!(seen, (window < of.count).then_some(window));
                        bits |= u32::from(seen.is_some()) << offset;
                    }
                    assert_eq!(axis.within(nth), bits);
                }
            }
            assert_eq!((pixels, offsets as usize), (extent, size));
        }
    }
}
