//! Convolution: for each result, the terms that reach it, in the order of the portable device.

use adaloss_core::format::Element;

use super::{
    operand::Operand,
    results::each,
    sliding::{Sliding, indices, split},
};
use crate::{Block, epilogue::Epilogue, memory::Out};

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
    /// Channels of the input.
    pub channels: usize,
    /// Filters, the channels of the output.
    pub filters: usize,
    /// Channels that one filter sees.
    pub channels_of_group: usize,
    /// Filters that see one channel.
    pub filters_of_group: usize,
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
    /// Returns the first of a pixel's channels in the input.
    #[inline(always)]
    fn in_input(&self, image: usize, row: usize, column: usize) -> usize {
        ((image * self.rows.extent + row) * self.columns.extent + column) * self.channels
    }

    /// Returns the first of a pixel's filters in the output.
    #[inline(always)]
    fn in_output(&self, image: usize, row: usize, column: usize) -> usize {
        ((image * self.rows.count + row) * self.columns.count + column) * self.filters
    }

    /// Returns the first of the channels that a filter has at an offset.
    #[inline(always)]
    fn in_weight(&self, filter: usize, down: usize, right: usize) -> usize {
        ((filter * self.rows.size + down) * self.columns.size + right) * self.channels_of_group
    }

    /// Calls a function with the places of the terms of an output: in the input and in the weight.
    #[inline(always)]
    fn output(&self, place: usize, mut term: impl FnMut(usize, usize)) {
        let &Self { rows, columns, filters, channels_of_group, filters_of_group, .. } = self;
        let [image, row, column, filter] = indices(place, [rows.count, columns.count, filters]);
        let first = split(filter, filters_of_group).0 * channels_of_group;
        for down in 0..rows.size {
            let Some(y) = rows.pixel(row, down) else { continue };
            for right in 0..columns.size {
                let Some(x) = columns.pixel(column, right) else { continue };
                let (input, weight) =
                    (self.in_input(image, y, x) + first, self.in_weight(filter, down, right));
                (0..channels_of_group).for_each(|nth| term(input + nth, weight + nth));
            }
        }
    }

    /// Calls a function with those of a gradient of the input: in the gradient of the output and in the weight.
    #[inline(always)]
    fn input(&self, place: usize, mut term: impl FnMut(usize, usize)) {
        let &Self { rows, columns, channels, channels_of_group, filters_of_group, .. } = self;
        let [image, y, x, channel] = indices(place, [rows.extent, columns.extent, channels]);
        let (group, channel) = split(channel, channels_of_group);
        // The offset falls while the window's index grows.
        for down in (0..rows.size).rev() {
            let Some(row) = rows.window(y, down) else { continue };
            for right in (0..columns.size).rev() {
                let Some(column) = columns.window(x, right) else { continue };
                let from = self.in_output(image, row, column);
                for filter in group * filters_of_group..(group + 1) * filters_of_group {
                    term(from + filter, self.in_weight(filter, down, right) + channel);
                }
            }
        }
    }

    /// Calls a function with those of a gradient of the weight: in the gradient of the output and in the input.
    #[inline(always)]
    fn weight(&self, place: usize, mut term: impl FnMut(usize, usize)) {
        let &Self { batch, rows, columns, channels_of_group, filters_of_group, .. } = self;
        let [filter, down, right, channel] =
            indices(place, [rows.size, columns.size, channels_of_group]);
        let channel = split(filter, filters_of_group).0 * channels_of_group + channel;
        for image in 0..batch {
            for row in 0..rows.count {
                let Some(y) = rows.pixel(row, down) else { continue };
                for column in 0..columns.count {
                    let Some(x) = columns.pixel(column, right) else { continue };
                    let (output, input) =
                        (self.in_output(image, row, column), self.in_input(image, y, x));
                    term(output + filter, input + channel);
                }
            }
        }
    }
}

/// Convolves in one direction, each result by one thread, and narrows as the epilogue says.
///
/// # Safety
///
/// Both operands are there and nobody writes them during the launch; results and epilogue are as
/// [`apply`](crate::apply::apply) asks for.
pub unsafe fn convolve<B: Block, F: Element>(
    block: &mut B,
    of: &Convolution,
    direction: Direction,
    [a, b]: [Operand; 2],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    let result = |place: usize| {
        let mut sum = 0.0;
        // SAFETY: the caller's promise.
        let term = |left, right| sum += unsafe { a.read(left) * b.read(right) };
        match direction {
            Direction::Output => of.output(place, term),
            Direction::Input => of.input(place, term),
            Direction::Weight => of.weight(place, term),
        }
        sum
    };
    // SAFETY: the caller's promise.
    unsafe { each(block, to, epilogue, result) }
}
