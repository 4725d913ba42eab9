//! The gradient of the weight: outer products of gradient and input, summed over all output pixels.
//!
//! `to[filter][y][x][channel]` is the sum over images and output pixels `p` of `gradient[p][filter]`
//! times the input element under tap `(y, x)` at `p`.  That is a matrix product whose inner index is
//! the pixel: the left operand's elements of one term, the filters, are neighbours, as
//! `kernel::Outer` wants them.
//!
//! 1. A filter is divided into pieces (`layout`) whose elements are neighbours in the input as well: a row of
//!    the kernel, or one tap where there are several groups, taps are apart or terms are left out.
//! 2. The pixels are divided into chunks (`bands`); some consecutive chunks add to one partial sum, which has
//!    the size of the weight.  Threads take partial sums.
//! 3. The partial sums are added in their order, and pass the epilogue.  How many there are depends on the
//!    shape alone, so that the number of threads changes no bit.
//!
//! # Example
//!
//! A 1x4x4x1 input, one 3x3 filter, a padding of 1, an output of 4x4: the filter has three pieces, its rows, at
//! columns 0, 16 and 32 of the partial sums, which are 8 rows (one of a filter) by 48 columns.  The
//! window is 6x6 (`window`).  Piece 1, the middle row of the kernel, has four strides, one for each
//! row of output pixels: `(left, right, length)` = `(0, 6, 4)`, `(4, 12, 4)`, `(8, 18, 4)`, `(12, 24, 4)`.
//! Term `t` of the first multiplies the gradient of output pixel (0, t) by the line of the window from
//! `6 + t` on, whose first three values are the input under the taps; the other thirteen lanes have
//! products that no filter uses.  A register tile has eight filters times the lines of a piece: with
//! 16 channels a row of the kernel is 48 values, which are the three lines of an AVX-512 tile.

use core::ops::Range;
use std::vec::Vec;

use adaloss_core::format::Element;

use super::{
    super::{
        CHUNK, Cpu, Scratch, Sink,
        kernel::{LANES, Outer, ROWS, Stride, lines},
        widen,
    },
    bands::{Band, Bands},
    walk::{Walk, hull},
    window::{Images, Window, clipped, is_padding},
};
use adaloss_hal::{HostError, network::Convolution};

/// Partial sums, at most: the unit of work of a thread here, so that up to sixteen threads have work.
const PARTIALS: usize = 16;

/// Elements of all partial sums together, 64 MiB as f32, where four of them are not more: each is as large as the weight.
const PARTIAL_ELEMENTS: usize = 1 << 24;

/// A gradient of the weight to be computed.
pub(super) struct WeightSums {
    shape: Convolution,
    output: [usize; 2],
    walks: [Walk; 2],
}

/// Neighbouring elements of a filter that multiply neighbouring elements of the input.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// The row and column in the kernel of the first.
    place: [usize; 2],
    /// The index of the first in the filter.
    first: usize,
    length: usize,
    /// The column of the first in a row of partial sums, where each piece begins at a line.
    column: usize,
}

/// How partial sums are laid out, and which terms they have.
struct Layout {
    pieces: Vec<Piece>,
    /// Columns of a row of partial sums.
    columns: usize,
    /// Rows of one group: its filters, and further ones up to a multiple of the kernel's tile, which nothing reads.
    rows: usize,
    /// Whether terms outside the image are left out instead of being multiplied by zero.
    clips: bool,
}

impl Layout {
    /// Returns the elements of a partial sum.
    fn length(&self, shape: &Convolution) -> usize {
        shape.groups * self.rows * self.columns
    }
}

impl WeightSums {
    pub(super) fn new(shape: Convolution, output: [usize; 2]) -> Self {
        let walks = [0, 1].map(|axis| Walk::forward(&shape, output, axis));
        Self { shape, output, walks }
    }

    /// Computes all sums.
    pub(super) fn run<A: Element, B: Element, F: Element>(
        &self,
        cpu: &Cpu,
        gradient: &[A],
        input: Images<'_, B>,
        to: &mut [F],
        sink: &Sink<'_, F>,
    ) -> Result<(), HostError> {
        if to.is_empty() {
            return Ok(());
        }
        let [rows, columns] = [0, 1].map(|axis| self.reads(axis, 0..self.output[axis]));
        let mut layout = self.layout(is_padding([&rows, &columns], self.shape.input));
        let mut partials = self.partials(cpu, gradient, input, &layout);
        // Padding is multiplied as zero, and infinity or NaN times 0 is NaN.  So if any sum is not finite, all are
        // computed again without the terms outside the image, tap by tap, which takes longer.
        let has_padding = self.shape.padding != [0, 0] && !layout.clips;
        if has_padding && !partials.iter().all(|x| x.is_finite()) {
            layout = self.layout(true);
            partials = self.partials(cpu, gradient, input, &layout);
        }
        let filter = self.shape.fan_in();
        let filters = (CHUNK / filter).max(1);
        cpu.each_chunk(to, filters * filter, |nth, to| {
            let mut sums = Scratch::zeroed(to.len());
            for (f, sums) in (nth * filters..).zip(sums.chunks_mut(filter)) {
                let partials = partials.chunks(layout.length(&self.shape));
                partials.for_each(|partial| self.merge(&layout, partial, f, sums));
            }
            sink.put(nth * filters * filter, &sums, to);
        });
        Ok(())
    }

    /// Adds a partial sum of one filter.
    fn merge(&self, layout: &Layout, partial: &[f32], filter: usize, sums: &mut [f32]) {
        let per_group = self.shape.filters / self.shape.groups;
        let row = filter / per_group * layout.rows + filter % per_group;
        for piece in &layout.pieces {
            let from = &partial[row * layout.columns + piece.column..];
            let to = &mut sums[piece.first..piece.first + piece.length];
            to.iter_mut().zip(from).for_each(|(to, x)| *to += *x);
        }
    }

    /// Returns the part of the input that some pixels of the output read along an axis, beyond its edges too.
    fn reads(&self, axis: usize, targets: Range<usize>) -> Range<isize> {
        hull(self.walks[axis].reads(targets).into_iter())
    }

    /// Divides the filters into pieces.
    fn layout(&self, clips: bool) -> Layout {
        let Convolution { kernel, channels, filters, groups, .. } = self.shape;
        let of_group = channels / groups;
        // The channels of neighbouring pixels are neighbours where there is one group.
        let whole = groups == 1 && self.walks[1].spread == 1 && !clips;
        let taps = if whole { kernel[1] } else { 1 };
        let mut columns = 0;
        let places = (0..kernel[0]).flat_map(|y| (0..kernel[1]).step_by(taps).map(move |x| [y, x]));
        let piece = |place: [usize; 2]| {
            let (first, length) = ((place[0] * kernel[1] + place[1]) * of_group, taps * of_group);
            let column = columns;
            columns += lines(length) * LANES;
            Piece { place, first, length, column }
        };
        let pieces = places.map(piece).collect();
        Layout { pieces, columns, rows: (filters / groups).next_multiple_of(ROWS), clips }
    }

    /// Returns the partial sums, one after the other, each over some consecutive chunks.
    fn partials<A: Element, B: Element>(
        &self,
        cpu: &Cpu,
        gradient: &[A],
        input: Images<'_, B>,
        layout: &Layout,
    ) -> Scratch {
        let Convolution { batch, channels, filters, .. } = self.shape;
        let [height, width] = self.output;
        let source_row = self.shape.input[1] * channels * self.shape.input[0] / height;
        let bands = Bands::new(batch, height, (width * filters).max(source_row));
        let length = layout.length(&self.shape);
        // At least four, so that four threads have work whatever the weight takes.
        let most = (PARTIAL_ELEMENTS / length).clamp(4, PARTIALS);
        let size = bands.count().div_ceil(most).max(1);
        let mut partials = Scratch::zeroed(length * bands.count().div_ceil(size));
        cpu.each_chunk(&mut partials, length, |nth, partial| {
            for nth in nth * size..bands.count().min((nth + 1) * size) {
                self.add(&bands.band(nth), gradient, input, layout, partial);
            }
        });
        partials
    }

    /// Adds the terms of some pixels.
    fn add<A: Element, B: Element>(
        &self,
        band: &Band,
        gradient: &[A],
        input: Images<'_, B>,
        layout: &Layout,
        to: &mut [f32],
    ) {
        let Convolution { channels, filters, groups, stride, .. } = self.shape;
        let [height, width] = self.output;
        let mut covered = [self.reads(0, band.rows.clone()), self.reads(1, 0..width)];
        if layout.clips {
            let [rows, columns] = covered;
            covered = [clipped(rows, input.extent[0]), clipped(columns, input.extent[1])];
        }
        let window = Window::open(input, band.images.clone(), covered);
        let pixels = band.images.len() * band.rows.len() * width;
        let first = (band.images.start * height + band.rows.start) * width;
        let mut left = Scratch::any(pixels * filters + ROWS);
        widen(&gradient[first * filters..(first + pixels) * filters], &mut left);
        left[pixels * filters..].fill(0.0);
        for group in 0..groups {
            for piece in &layout.pieces {
                let sides = [group * (filters / groups), group * (channels / groups)];
                let strides = self.strides(band, &window, piece, sides, layout.clips);
                Outer {
                    left: &left,
                    left_step: filters,
                    right: &window.values,
                    // Where one stride does not fit, there is one column.
                    right_step: stride[1].saturating_mul(channels),
                    right_pitch: LANES,
                    strides: &strides,
                    to: &mut to[group * layout.rows * layout.columns + piece.column..],
                    pitch: layout.columns,
                    rows: layout.rows,
                    lines: lines(piece.length),
                }
                .add();
            }
        }
    }

    /// Returns the terms of a piece: a stride for each row of output pixels.
    fn strides(
        &self,
        band: &Band,
        window: &Window,
        piece: &Piece,
        [filter, channel]: [usize; 2],
        clips: bool,
    ) -> Vec<Stride> {
        let [down, right] = self.walks;
        let [y, x] = piece.place;
        let width = self.output[1];
        let columns = if clips { self.inside(1, x, 0..width) } else { 0..width };
        if columns.is_empty() {
            return Vec::new();
        }
        let rows = band.rows.clone();
        let rows = if clips { self.inside(0, y, rows) } else { rows };
        let pairs = (0..band.images.len()).flat_map(|i| rows.clone().map(move |row| (i, row)));
        let stride = |(image, row): (usize, usize)| {
            let pixel = (image * band.rows.len() + row - band.rows.start) * width + columns.start;
            let [y, x] = [(y * down.spread) as isize, (x * right.spread) as isize];
            let at = [down.first(row) + y, right.first(columns.start) + x];
            Stride {
                left: pixel * self.shape.filters + filter,
                right: window.place(image, at) + channel,
                length: columns.len(),
            }
        };
        pairs.map(stride).collect()
    }

    /// Returns those of some targets whose tap is inside the image.
    fn inside(&self, axis: usize, tap: usize, targets: Range<usize>) -> Range<usize> {
        let walk = self.walks[axis];
        let has = |target: &usize| walk.inside(*target, self.shape.input[axis]).contains(&tap);
        let mut inside = targets.clone().filter(has);
        match inside.next() {
            Some(first) => first..inside.next_back().unwrap_or(first) + 1,
            None => targets.start..targets.start,
        }
    }
}
