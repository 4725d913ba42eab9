//! Pooling: the windows of each channel, and the windows over each pixel, in their order.

use adaloss_core::format::Element;

use super::{
    results::each,
    sliding::{Sliding, indices, split},
};
use crate::{
    Block,
    epilogue::Epilogue,
    memory::{Out, each_place},
};

/// Windows over images.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Pooling {
    /// Channels of a pixel.
    pub channels: usize,
    /// The windows along the rows of an image.
    pub rows: Sliding,
    /// The windows along its columns.
    pub columns: Sliding,
}

/// What is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Sum {
    /// The mean of the pixels that a window sees.
    Average = 0,
    /// A share of the gradients of the windows that see a pixel.
    AverageInput = 1,
    /// The gradients of the windows that took a pixel.
    MaxInput = 2,
}

impl Sum {
    /// Returns what a launch asks for.
    #[inline(always)]
    pub const fn of(sum: u32) -> Self {
        match sum {
            0 => Self::Average,
            1 => Self::AverageInput,
            _ => Self::MaxInput,
        }
    }
}

impl Pooling {
    /// Calls a function with the elements of the input that a window sees, in their order.
    #[inline(always)]
    fn pixels(&self, index: usize, mut of: impl FnMut(usize)) {
        let Self { channels, rows, columns } = *self;
        let [image, row, column, channel] = indices(index, [rows.count, columns.count, channels]);
        for down in 0..rows.size {
            let Some(y) = rows.pixel(row, down) else { continue };
            for right in 0..columns.size {
                let Some(x) = columns.pixel(column, right) else { continue };
                of(((image * rows.extent + y) * columns.extent + x) * channels + channel);
            }
        }
    }

    /// Calls a function with the windows that see an element of the input, in their order.
    #[inline(always)]
    fn over(&self, pixel: usize, mut of: impl FnMut(usize)) {
        let Self { channels, rows, columns } = *self;
        let [image, y, x, channel] = indices(pixel, [rows.extent, columns.extent, channels]);
        // The offset falls while the window's index grows.
        for down in (0..rows.size).rev() {
            let Some(row) = rows.window(y, down) else { continue };
            for right in (0..columns.size).rev() {
                let Some(column) = columns.window(x, right) else { continue };
                of(((image * rows.count + row) * columns.count + column) * channels + channel);
            }
        }
    }

    /// Returns the place of an element of the input in its image and channel.
    #[inline(always)]
    fn position(&self, pixel: usize) -> usize {
        split(split(pixel, self.channels).0, self.rows.extent * self.columns.extent).1
    }

    /// Returns the element of the input that a window's place names, if it is in the image.
    #[inline(always)]
    fn at(&self, index: usize, position: u32) -> Option<usize> {
        let Self { channels, rows, columns } = *self;
        let [image, .., channel] = indices(index, [rows.count, columns.count, channels]);
        let pixels = rows.extent * columns.extent;
        let position = position as usize;
        (position < pixels).then_some((image * pixels + position) * channels + channel)
    }
}

/// Takes the greatest element of each window, NaN before numbers and the first of equal ones, and where it lies in its image.
///
/// # Safety
///
/// The input is there; nobody else reads or writes results and indices during the launch.
pub unsafe fn max_pool<B: Block, F: Element>(
    block: &mut B,
    pooling: &Pooling,
    input: &[F],
    to: Out<'_, F>,
    positions: Out<'_, u32>,
) {
    let one = |index: usize| {
        let mut greatest: Option<(usize, F)> = None;
        pooling.pixels(index, |pixel| {
            let Some(&x) = input.get(pixel) else { return };
            if greatest.is_none_or(|(_, greatest)| is_greater(x, greatest)) {
                greatest = Some((pixel, x));
            }
        });
        if let Some((pixel, x)) = greatest {
            // SAFETY: each place is handed to one thread.
            unsafe {
                to.write(index, x);
                positions.write(index, pooling.position(pixel) as u32);
            }
        }
    };
    each_place(block, to.len(), false, |_| (), one);
}

/// Tells whether a window takes `x` after `greatest`.
#[inline(always)]
fn is_greater<F: Element>(x: F, greatest: F) -> bool {
    let (x, greatest) = (x.widen(), greatest.widen());
    x > greatest || x.is_nan() && !greatest.is_nan()
}

/// Writes elements to where the indices say; what they leave out is zero before the launch.
///
/// # Safety
///
/// Nobody else reads or writes `to` during the launch, and no two indices name the same element.
pub unsafe fn unpool<B: Block, F: Element>(
    block: &mut B,
    pooling: &Pooling,
    input: &[F],
    positions: &[u32],
    to: Out<'_, F>,
) {
    let one = |index: usize| {
        if let (Some(&x), Some(&position)) = (input.get(index), positions.get(index))
            && let Some(pixel) = pooling.at(index, position)
        {
            // SAFETY: the caller's promise.
            unsafe { to.write(pixel, x) };
        }
    };
    each_place(block, input.len(), false, |_| (), one);
}

/// Takes the elements that the indices name; zero where they name none.
///
/// # Safety
///
/// There are as many indices as results; nobody else reads or writes `to` during the launch.
pub unsafe fn pick<B: Block, F: Element>(
    block: &mut B,
    pooling: &Pooling,
    input: &[F],
    positions: &[u32],
    to: Out<'_, F>,
) {
    let one = |index: usize| {
        let pixel = positions.get(index).and_then(|&position| pooling.at(index, position));
        let x = pixel.and_then(|pixel| input.get(pixel)).copied();
        // SAFETY: each place is handed to one thread.
        unsafe { to.write(index, x.unwrap_or(F::from_bits(0))) };
    };
    each_place(block, to.len(), false, |_| (), one);
}

/// Computes sums of a pooling, narrowed as the epilogue says.
///
/// # Safety
///
/// Input, or gradient, and the indices that [`Sum::MaxInput`] needs are there and nobody writes them during the launch; results and
/// epilogue are as [`apply`](crate::apply::apply) asks for.
pub unsafe fn pool<B: Block, F: Element>(
    block: &mut B,
    pooling: &Pooling,
    of: Sum,
    input: &[F],
    positions: *const u32,
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    let area = (pooling.rows.size * pooling.columns.size) as f32;
    let result = |place: usize| {
        let (mut sum, position) = (0.0, pooling.position(place));
        let mut take = |index: usize| {
            // SAFETY: the caller's promise.
            let takes =
                of != Sum::MaxInput || unsafe { *positions.add(index) } as usize == position;
            if let Some(x) = input.get(index).filter(|_| takes) {
                sum += x.widen();
            }
        };
        match of {
            Sum::Average => pooling.pixels(place, &mut take),
            _ => pooling.over(place, &mut take),
        }
        if of == Sum::MaxInput { sum } else { sum / area }
    };
    // SAFETY: the caller's promise.
    unsafe { each(block, to, epilogue, result) }
}
