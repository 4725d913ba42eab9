//! Convolution as a product, [tile by tile](crate::tiles): the terms of each result are in the portable device's order.
//!
//! | direction | rows of sums | columns | terms |
//! |---|---|---|---|
//! | output | pixels of the output | filters | pixels of a window, channels |
//! | input | pixels of the input | channels | pixels of a window from the last, filters |
//! | weight | filters | pixels of a window, channels | pixels of the output |
//!
//! Filters and channels are those of one group.

use adaloss_core::format::Element;

use super::{
    operand::Operand,
    sliding::{Sliding, both, pixel},
};
use crate::{
    Block,
    epilogue::Epilogue,
    memory::Out,
    tiles::{self, Extents, Factors, Sums},
};

/// Kernels over images.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// The windows along the rows of an image.
    pub rows: Sliding,
    /// The windows along its columns.
    pub columns: Sliding,
    /// Pixels from one element of a window to the next, along rows and columns.
    pub dilation: [usize; 2],
    /// Channels of the input.
    pub channels: usize,
    /// Filters, the channels of the output.
    pub filters: usize,
    /// Parts of channels and filters that see each other alone.
    pub groups: usize,
    /// Channels that one filter sees.
    pub channels_of_group: usize,
    /// Filters that see one channel.
    pub filters_of_group: usize,
    /// What sums of the output start at: a number for each filter; null where that is +0, and for gradients.
    pub bias: *const f32,
}

/// What is computed from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// The output, from input and weight.
    Output = 0,
    /// The gradient of the input, from that of the output and the weight.
    Input = 1,
    /// The gradient of the weight, from that of the output and the input.
    Weight = 2,
}

impl Direction {
    /// Returns what a launch asks for.
    #[inline(always)]
    pub const fn of(direction: u32) -> Self {
        match direction {
            0 => Self::Output,
            1 => Self::Input,
            _ => Self::Weight,
        }
    }
}

impl Convolution {
    /// Returns how many tiles a direction has, which is how many blocks have work.
    pub const fn tiles(&self, direction: Direction) -> usize {
        self.extents(direction).tiles()
    }

    /// Returns what indices are computed from, all of which has to be below 2^32: pixels of the input and of the output, and
    /// terms of either.
    pub fn counts(&self) -> [usize; 4] {
        let [output, input] = [Direction::Output, Direction::Input].map(|of| self.extents(of));
        [output.rows, input.rows, output.terms, input.terms]
    }

    /// Returns the numbers of rows, columns and terms.
    #[inline(always)]
    const fn extents(&self, direction: Direction) -> Extents {
        let &Self { batch, rows, columns, channels_of_group: channels, .. } = self;
        let filters = self.filters_of_group;
        let windows = batch * rows.count * columns.count;
        let pixels = batch * rows.extent * columns.extent;
        let of_window = rows.size * columns.size;
        let (rows, columns, terms) = match direction {
            Direction::Output => (windows, filters, of_window * channels),
            Direction::Input => (pixels, channels, of_window * filters),
            Direction::Weight => (filters, of_window * channels, windows),
        };
        Extents { groups: self.groups, rows, columns, terms }
    }

    /// Returns the first of a pixel's channels in the input.
    #[inline(always)]
    const fn in_input(&self, image: usize, row: usize, column: usize) -> usize {
        ((image * self.rows.extent + row) * self.columns.extent + column) * self.channels
    }

    /// Returns the first of a pixel's filters in the output.
    #[inline(always)]
    const fn in_output(&self, image: usize, row: usize, column: usize) -> usize {
        ((image * self.rows.count + row) * self.columns.count + column) * self.filters
    }

    /// Returns the first of the channels that a filter has at an offset.
    #[inline(always)]
    const fn in_weight(&self, filter: usize, down: usize, right: usize) -> usize {
        ((filter * self.rows.size + down) * self.columns.size + right) * self.channels_of_group
    }

    /// Returns the pixel at an offset into a window, or `None` for each index in the padding.
    #[inline(always)]
    fn pixel(&self, [row, column]: [usize; 2], [down, right]: [usize; 2]) -> [Option<usize>; 2] {
        let [down, right] = [down * self.dilation[0], right * self.dilation[1]];
        [self.rows.pixel(row, down), self.columns.pixel(column, right)]
    }

    /// Returns the window that has a pixel at an offset, or `None` for each index that none has.
    #[inline(always)]
    fn window(&self, [y, x]: [usize; 2], [down, right]: [usize; 2]) -> [Option<usize>; 2] {
        let [down, right] = [down * self.dilation[0], right * self.dilation[1]];
        [self.rows.window(y, down), self.columns.window(x, right)]
    }

    /// Splits a term of a gradient of the input into offset and filter: the offset falls while the window's index grows.
    #[inline(always)]
    fn reversed(&self, term: usize) -> [usize; 3] {
        let &Self { rows, columns, filters_of_group, .. } = self;
        let [down, right, filter] = pixel(term, [columns.size, filters_of_group]);
        [rows.size - 1 - down, columns.size - 1 - right, filter]
    }
}

/// A line of factors: a pixel and the first channel or filter that it is read from, or what stands for them.
#[derive(Clone, Copy, Debug)]
struct Line {
    image: usize,
    row: usize,
    column: usize,
    first: usize,
}

/// The left factors, whose lines are the rows of sums.
#[derive(Clone, Copy, Debug)]
struct Left<'a> {
    of: &'a Convolution,
    direction: Direction,
    elements: Operand,
}

impl Factors for Left<'_> {
    type Line = Line;

    const HAS_GAPS: bool = true;

    #[inline(always)]
    fn lie_by_terms(self) -> bool {
        self.direction != Direction::Weight
    }

    #[inline(always)]
    fn line(self, group: usize, line: usize) -> Line {
        let &Convolution { rows, columns, channels_of_group, filters_of_group, .. } = self.of;
        let (extents, of_group) = match self.direction {
            Direction::Output => ([rows.count, columns.count], channels_of_group),
            Direction::Input => ([rows.extent, columns.extent], filters_of_group),
            Direction::Weight => {
                let first = group * filters_of_group + line;
                return Line { image: 0, row: 0, column: 0, first };
            }
        };
        let [image, row, column] = pixel(line, extents);
        Line { image, row, column, first: group * of_group }
    }

    #[inline(always)]
    fn place(self, line: Line, term: usize) -> Option<usize> {
        let of = self.of;
        match self.direction {
            Direction::Output => {
                let [down, right, channel] = pixel(term, [of.columns.size, of.channels_of_group]);
                let [y, x] = of.pixel([line.row, line.column], [down, right]);
                both(y, x, |y, x| of.in_input(line.image, y, x) + line.first + channel)
            }
            Direction::Input => {
                let [down, right, filter] = of.reversed(term);
                let [row, column] = of.window([line.row, line.column], [down, right]);
                both(row, column, |row, column| {
                    of.in_output(line.image, row, column) + line.first + filter
                })
            }
            Direction::Weight => Some(term * of.filters + line.first),
        }
    }

    #[inline(always)]
    fn elements(self) -> Operand {
        self.elements
    }
}

/// The right factors, whose lines are the columns of sums.
#[derive(Clone, Copy, Debug)]
struct Right<'a> {
    of: &'a Convolution,
    direction: Direction,
    elements: Operand,
}

impl Factors for Right<'_> {
    /// An offset into a window, down and right, and the channel or filter.
    type Line = [usize; 3];

    const HAS_GAPS: bool = true;

    #[inline(always)]
    fn lie_by_terms(self) -> bool {
        self.direction == Direction::Output
    }

    #[inline(always)]
    fn line(self, group: usize, line: usize) -> [usize; 3] {
        let &Convolution { columns, channels_of_group, filters_of_group, .. } = self.of;
        match self.direction {
            Direction::Output => [0, 0, group * filters_of_group + line],
            Direction::Input => [group * filters_of_group, 0, line],
            Direction::Weight => {
                let [down, right, channel] = pixel(line, [columns.size, channels_of_group]);
                [down, right, group * channels_of_group + channel]
            }
        }
    }

    #[inline(always)]
    fn place(self, line: [usize; 3], term: usize) -> Option<usize> {
        let (of, [down, right, nth]) = (self.of, line);
        match self.direction {
            Direction::Output => Some(of.in_weight(nth, 0, 0) + term),
            Direction::Input => {
                let [first, ..] = line;
                let [down, right, filter] = of.reversed(term);
                Some(of.in_weight(first + filter, down, right) + nth)
            }
            Direction::Weight => {
                let [image, row, column] = pixel(term, [of.rows.count, of.columns.count]);
                let [y, x] = of.pixel([row, column], [down, right]);
                both(y, x, |y, x| of.in_input(image, y, x) + nth)
            }
        }
    }

    #[inline(always)]
    fn elements(self) -> Operand {
        self.elements
    }
}

/// Convolves in one direction, and narrows as the epilogue says.
///
/// # Safety
///
/// Both operands are there and nobody writes them during the launch; results and epilogue are as
/// [`apply`](crate::apply::apply) asks for.  The block has [`THREADS`](crate::tiles::THREADS).
pub unsafe fn convolve<B: Block, F: Element>(
    block: &mut B,
    of: &Convolution,
    direction: Direction,
    [a, b]: [Operand; 2],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    let extents = of.extents(direction);
    let strides = match direction {
        Direction::Output => [of.filters_of_group, of.filters],
        Direction::Input => [of.channels_of_group, of.channels],
        Direction::Weight => [of.filters_of_group * extents.columns, extents.columns],
    };
    let left = Left { of, direction, elements: a };
    let right = Right { of, direction, elements: b };
    let sums = Sums { left, right, bias: of.bias, extents, strides };
    // SAFETY: the caller's promise.
    unsafe { tiles::sum(block, &sums, to, epilogue) }
}
