//! How the windows of a convolution, or of its gradient by the input, move along one axis.
//!
//! Rows and columns are independent: a two-dimensional convolution has a walk down and a walk to the
//! right.
//!
//! # Example
//!
//! Forward, an axis of 4 pixels with a kernel of 3, a stride of 1 and a padding of 1 has one walk:
//! target `o` reads source pixels `o - 1`, `o` and `o + 1` with taps 0, 1 and 2 of the kernel, so that
//! `source` is `[-1, 1]`, `kernel` is `[0, 1]`, and target 2 reads `1..4`.
//!
//! Backward, an axis of 4 pixels with a kernel of 3, a stride of 2 and a padding of 1 has an output
//! of 2, and output `o` used input `2 o - 1 + k` with tap `k`.  The input pixels fall into two walks:
//!
//! | walk | targets | reads of the gradient | taps of the kernel |
//! |---|---|---|---|
//! | even | 0, 2 | `0`, `1` | 1 |
//! | odd | 1, 3 | `0..2`, `1..3` (2 is outside: zero) | 2, then 0 |
//!
//! With a dilation `d`, tap `k` of the kernel reads source pixel `o - 1 + k d`: `spread`, how far apart the taps of a target read, is
//! `d`.  Backward, output `o` used input `s o - p + d k` with stride `s` and padding `p`, so that of the taps of an input pixel, `s / g`
//! apart with `g` the greatest common divisor of `s` and `d`, each reads `d / g` before the last one.

use core::ops::Range;

use adaloss_hal::network::Convolution;

/// Targets at equal distances along one axis, and the taps that each of them sums.
///
/// Forward, the targets are the pixels of the output, and one walk has them all.  Backward they are
/// the pixels of the input: pixels that the same taps of the kernel contribute to are one stride
/// apart, and each such set is a walk of its own.  So the gradient by the input is a convolution of
/// the output's gradient with a part of the mirrored kernel, one for each remainder of the stride.
/// Unlike a convolution of a gradient dilated with zeros it multiplies by no zeros but those of the padding; unlike a
/// scatter-add it writes every pixel once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// The first target, and the distance to the next.
    pub(super) target: [usize; 2],
    /// How many there are.
    pub(super) count: usize,
    /// Where in the source the first tap of the first target reads, and the distance to that of the next target.
    pub(super) source: [isize; 2],
    /// The number of taps of each target.
    pub(super) taps: usize,
    /// How far apart in the source they read: 1 for neighbours.
    pub(super) spread: usize,
    /// The index in the kernel of the first tap, and the distance to that of the next.
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
            spread: shape.dilation[axis],
            kernel: [0, 1],
        }
    }

    /// Returns the walks over the input, fewer than the stride where the image is smaller.
    pub(super) fn back(shape: &Convolution, axis: usize) -> impl Iterator<Item = Self> {
        let (input, kernel) = (shape.input[axis], shape.kernel[axis]);
        let (padding, dilation) = (shape.padding[axis], shape.dilation[axis]);
        // One that is greater leaves one window.
        let stride = shape.stride[axis].min(isize::MAX as usize);
        let divisor = greatest_common_divisor(stride, dilation);
        // From one tap of a pixel to the next, in the kernel and in the gradient.
        let (step, spread) = (stride / divisor, dilation / divisor);
        (0..stride.min(input)).map(move |first| {
            // Tap k contributes to this pixel from gradient (first + padding - k dilation) / stride, where that is whole.
            let behind = |tap: usize| (first + padding) as isize - (tap * dilation) as isize;
            let is_whole = |&tap: &usize| behind(tap) % stride as isize == 0;
            let least = (0..step.min(kernel)).find(is_whole);
            let taps = least.map_or(0, |least| (kernel - 1 - least) / step + 1);
            let greatest = least.map_or(0, |least| least + step * taps.saturating_sub(1));
            Self {
                target: [first, stride],
                count: (input - first).div_ceil(stride),
                source: [behind(greatest) / stride as isize, 1],
                taps,
                spread,
                kernel: [greatest as isize, (step as isize).wrapping_neg()],
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
        let behind = ((self.taps - 1) * self.spread) as isize;
        Some(self.first(numbers.start)..self.first(numbers.end - 1) + behind + 1)
    }

    /// Returns the taps of a target that are inside a source of some extent.
    pub(super) fn inside(&self, number: usize, extent: usize) -> Range<usize> {
        let first = self.first(number);
        // The first tap that reads there or behind.
        let tap =
            |source: isize| ((source - first).max(0) as usize).div_ceil(self.spread).min(self.taps);
        tap(0)..tap(extent as isize)
    }

    /// Returns the place in the kernel of a tap.
    pub(super) fn place(&self, tap: usize) -> usize {
        (self.kernel[0] + tap as isize * self.kernel[1]) as usize
    }
}

/// Returns the greatest number that divides both, which are not zero.
fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Returns the least range that contains all of some ranges; an empty one of none.
pub(super) fn hull(ranges: impl Iterator<Item = Range<isize>>) -> Range<isize> {
    ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}
