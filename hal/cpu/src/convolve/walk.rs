//! How the windows of a convolution, or of its backward pass, move along one axis.

use core::ops::Range;

use adaloss_hal::network::Convolution;

/// Targets at equal distances along one axis, and the taps that each of them sums.
///
/// Forward, the targets are the pixels of the output, and one walk meets them all.  In the backward pass
/// they are the pixels of the input; those which the same taps of the kernel reach lie one stride
/// apart, and each such set is a walk of its own.  Thereby the backward pass is a convolution of the
/// gradient with a part of the mirrored kernel for every stride, without a zero to multiply by and
/// without adding to one pixel from many places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// The first target, and the distance to the next.
    pub(super) target: [usize; 2],
    /// How many there are.
    pub(super) count: usize,
    /// Where the first tap of the first target is in the source, and how far on that of the next.
    pub(super) source: [isize; 2],
    /// The taps of each target: one next to the other in the source.
    pub(super) taps: usize,
    /// The place in the kernel of the first of them, and the distance to that of the next.
    pub(super) kernel: [isize; 2],
}

impl Walk {
    /// Returns the walk over the output.
    pub(super) fn forward(shape: &Convolution, output: [usize; 2], axis: usize) -> Self {
        Self {
            target: [0, 1],
            count: output[axis],
            source: [(shape.padding[axis] as isize).wrapping_neg(), shape.stride[axis] as isize],
            taps: shape.kernel[axis],
            kernel: [0, 1],
        }
    }

    /// Returns the walks over the input, fewer than the stride where the image is smaller.
    pub(super) fn back(shape: &Convolution, axis: usize) -> impl Iterator<Item = Self> {
        let (input, kernel) = (shape.input[axis], shape.kernel[axis]);
        let (stride, padding) = (shape.stride[axis], shape.padding[axis]);
        (0..stride.min(input)).map(move |first| {
            // Tap k reaches this pixel from row (first + padding - k) / stride of the gradient.
            let least = (first + padding) % stride;
            let taps = if least < kernel { (kernel - 1 - least) / stride + 1 } else { 0 };
            let last = (first + padding) / stride;
            Self {
                target: [first, stride],
                count: (input - first).div_ceil(stride),
                source: [last as isize + 1 - taps as isize, 1],
                taps,
                kernel: [
                    (least + stride * taps.saturating_sub(1)) as isize,
                    (stride as isize).wrapping_neg(),
                ],
            }
        })
    }

    /// Returns the numbers of the targets that lie in a range.
    pub(super) fn within(&self, targets: &Range<usize>) -> Range<usize> {
        let [first, step] = self.target;
        let number = |target: usize| target.saturating_sub(first).div_ceil(step).min(self.count);
        number(targets.start)..number(targets.end)
    }

    /// Returns where the first tap of a target is in the source.
    pub(super) fn first(&self, number: usize) -> isize {
        self.source[0] + number as isize * self.source[1]
    }

    /// Returns the part of the source that some targets read, beyond its edges too.
    pub(super) fn reads(&self, numbers: Range<usize>) -> Option<Range<isize>> {
        if numbers.is_empty() || self.taps == 0 {
            return None;
        }
        Some(self.first(numbers.start)..self.first(numbers.end - 1) + self.taps as isize)
    }

    /// Returns the taps of a target that are inside a source of some extent.
    pub(super) fn inside(&self, number: usize, extent: usize) -> Range<usize> {
        let first = self.first(number);
        let tap = |source: isize| (source - first).clamp(0, self.taps as isize) as usize;
        tap(0)..tap(extent as isize)
    }

    /// Returns the place in the kernel of a tap.
    pub(super) fn place(&self, tap: usize) -> usize {
        (self.kernel[0] + tap as isize * self.kernel[1]) as usize
    }
}

/// Returns the least range that contains all of some ranges; an empty one of none.
pub(super) fn hull(ranges: impl Iterator<Item = Range<isize>>) -> Range<isize> {
    ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}
