//! Convolution on [tensor cores](crate::tensor_cores), as a product whose operands are never written down: chunks of
//! channels come to shared memory from where they lie in the images.
//!
//! | direction | rows of sums | columns | terms |
//! |---|---|---|---|
//! | output | pixels of the output | filters | pixels of a window, channels |
//! | input | pixels of the input, of one class | channels | pixels of the output that see them, filters |
//! | weight | filters | pixels of a window, channels | pixels of the output |
//!
//! Filters and channels are those of one group, and multiples of 8: a chunk of 16 bytes is 8 channels of one pixel.  Outside of
//! the image a chunk is zeros, of which nothing is read.
//!
//! With a stride, a pixel of the input is seen through some offsets of a window only: those whose distance from it is a multiple
//! of the stride.  Pixels that are alike modulo the stride are a class; theirs is a convolution of the output's gradient without
//! a stride, with the offsets of that class.  So no term is multiplied that is none; classes are launched one after the other.
//!
//! The terms are in the portable device's order, those of a class too.

mod axis;
mod channels;
mod windows;

use core::{ops::Range, ptr};

use adaloss_core::format::Element;

use super::{
    convolve::{Convolution, Direction},
    sliding::{pixel, split_short},
};
use crate::{
    Block,
    block::Factor,
    epilogue::{Epilogue, Store},
    lines::{CHUNK, DEPTH, Layout, Matrix},
    matmul::Sums,
    memory::Out,
    tensor_cores::{self, Extents, Summation},
};
use axis::Axis;
use channels::{Channels, Kernels};
use windows::Windows;

/// The most pixels of a window along an axis: which of them are in the image is a bit each, behind which a thread looks for
/// chunks beyond the last term.
const MOST_PIXELS: usize = 12;

/// The number of chunks that no tensor reaches, nor padding: indices of chunks, windows and pixels are below 2^31, beyond the last ones
/// too.
const MOST_CHUNKS: usize = 1 << 28;

/// The most classes, each of which is a launch.
const MOST_CLASSES: usize = 16;

/// Bits of a row's window in front of those of its column.
const COLUMN_BITS: u32 = 16;

/// Bytes of a chunk.
const CHUNK_BYTES: u32 = 16;

/// Chunks of terms that are copied at a time.
const CHUNKS_OF_SET: usize = DEPTH / CHUNK;

/// One direction of a convolution as tensor cores compute it, or one class of a gradient of an input.
#[derive(Debug)]
#[repr(C)]
pub struct Implicit<E> {
    /// The first element of the input, or of the output's gradient.
    pub a: *const E,
    /// The first element of the weight, or of the input in the gradient of a weight.
    pub b: *const E,
    /// What sums of an output start at, the first of them in several parts: a number for each filter; null where that is +0.
    pub bias: *const f32,
    /// Into how many parts the terms are cut, at least 1: results are the sums of each part, one after the other.
    parts: u32,
    /// Images.
    batch: u32,
    /// Groups.
    groups: u32,
    /// Windows of all images.
    windows: u32,
    /// Chunks of a pixel that come from images, of one group.
    chunks: u32,
    /// The other channels or filters of one group.
    others: u32,
    /// Pixels of the weight down and right, in the gradient of an input.
    kernel: [u32; 2],
    rows: Axis,
    columns: Axis,
    /// How far a thread's next chunk of terms is: pixels down and right, and chunks.
    advance: [u32; 3],
}

impl<E> Clone for Implicit<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Implicit<E> {}

impl<E> Implicit<E> {
    /// Tells whether tensor cores compute a direction of a convolution: channels and filters of a group are multiples of 8 (filters of an
    /// output may be any), a window has 12 pixels at most along an axis, there are 16 classes at most, and each tensor has fewer than 2^31
    /// elements.
    pub fn has(of: &Convolution, direction: Direction) -> bool {
        let &Convolution { batch, rows, columns, .. } = of;
        let [channels, filters] = [of.channels_of_group, of.filters_of_group];
        let is_whole = |of: usize| of > 0 && of.is_multiple_of(CHUNK);
        let pixels = [batch, rows.extent, columns.extent, of.channels.div_ceil(CHUNK)];
        let windows = [batch, rows.count, columns.count, of.filters.div_ceil(CHUNK)];
        let weight = [of.filters, rows.size, columns.size, channels.div_ceil(CHUNK)];
        let count = |all: [usize; 4]| {
            all.into_iter().try_fold(1, |count: usize, of| count.checked_mul(of.max(1)))
        };
        let are_few = |all| count(all).is_some_and(|count| count < MOST_CHUNKS);
        let covered = [rows.padding, columns.padding, of.dilation[0], of.dilation[1]];
        let classes = rows.stride.checked_mul(columns.stride);
        is_whole(channels)
            && (direction == Direction::Output || is_whole(filters))
            && (direction != Direction::Input || classes.is_some_and(|of| of <= MOST_CLASSES))
            && rows.size.max(columns.size) <= MOST_PIXELS
            && covered.into_iter().all(|of| of < MOST_CHUNKS)
            && [pixels, windows, weight].into_iter().all(are_few)
    }

    /// Returns a direction of a convolution that tensor cores [compute](Self::has), in one part, of one out of its
    /// [`classes`](Self::classes).
    pub fn new(
        of: &Convolution,
        direction: Direction,
        [down, right]: [usize; 2],
        [a, b]: [*const E; 2],
    ) -> Self {
        let &Convolution { batch, rows, columns, groups, .. } = of;
        let [channels, filters] = [of.channels_of_group, of.filters_of_group];
        let (rows, columns, windows) = match direction {
            Direction::Output | Direction::Weight => {
                let [of_rows, of_columns] = of.dilation;
                let windows = rows.count * columns.count;
                (Axis::new(rows, of_rows), Axis::new(columns, of_columns), windows)
            }
            Direction::Input => {
                let (rows, down) = Axis::of_class(rows, of.dilation[0], down);
                let (columns, right) = Axis::of_class(columns, of.dilation[1], right);
                (rows, columns, down * right)
            }
        };
        let [gathered, others] = match direction {
            Direction::Output | Direction::Weight => [channels, filters],
            Direction::Input => [filters, channels],
        };
        let chunks = gathered / CHUNK;
        let (pixels, chunk) = split_short(CHUNKS_OF_SET, chunks);
        let (down, right) = split_short(pixels, columns.size as usize);
        Self {
            a,
            b,
            bias: of.bias,
            parts: 1,
            batch: batch as u32,
            groups: groups as u32,
            windows: (batch * windows) as u32,
            chunks: chunks as u32,
            others: others as u32,
            kernel: [of.rows.size as u32, of.columns.size as u32],
            rows,
            columns,
            advance: [down, right, chunk].map(|of| of as u32),
        }
    }

    /// Returns the same with the terms in so many parts.
    pub fn in_parts(self, parts: usize) -> Self {
        Self { parts: parts as u32, ..self }
    }

    /// Returns the classes of a direction's pixels.
    pub fn classes(of: &Convolution, direction: Direction) -> impl Iterator<Item = [usize; 2]> {
        let [down, right] = match direction {
            Direction::Input => [of.rows.stride, of.columns.stride],
            Direction::Output | Direction::Weight => [1; 2],
        };
        (0..down).flat_map(move |class| (0..right).map(move |other| [class, other]))
    }

    /// Returns the number of tiles of a direction, for each part: no more blocks than that have something to do.
    pub fn tiles(&self, direction: Direction) -> usize {
        self.extents(direction).tiles()
    }

    /// Returns the terms of a sum.
    pub fn terms(&self, direction: Direction) -> usize {
        self.extents(direction).terms
    }

    /// Tells whether there are so few columns that tiles are half as wide: 64 at most.
    pub fn is_slim(&self, direction: Direction) -> bool {
        self.extents(direction).are_slim()
    }

    /// Returns the number of results of a direction, those of all classes, for each part.
    #[inline(always)]
    pub fn results(&self, direction: Direction) -> usize {
        let all = match direction {
            Direction::Output => self.windows as usize * self.row_of_all(),
            Direction::Input => self.batch as usize * self.image() * self.row_of_all(),
            Direction::Weight => self.row_of_all() * self.of_window(),
        };
        self.parts as usize * all
    }

    /// Returns the terms of a window.
    #[inline(always)]
    const fn of_window(&self) -> usize {
        self.rows.size as usize * self.columns.size as usize * CHUNK * self.chunks as usize
    }

    /// Returns the others of all groups.
    #[inline(always)]
    const fn row_of_all(&self) -> usize {
        self.groups as usize * self.others as usize
    }

    /// Returns the pixels of an image of results.
    #[inline(always)]
    const fn image(&self) -> usize {
        self.rows.to_extent as usize * self.columns.to_extent as usize
    }

    #[inline(always)]
    const fn extents(&self, direction: Direction) -> Extents {
        let [windows, others] = [self.windows as usize, self.others as usize];
        let (groups, parts) = (self.groups as usize, self.parts as usize);
        let (rows, columns, terms) = match direction {
            Direction::Output | Direction::Input => (windows, others, self.of_window()),
            Direction::Weight => (others, self.of_window(), windows),
        };
        Extents { groups, rows, columns, terms, parts }
    }

    /// Splits the number of a window into image, row and column.
    #[inline(always)]
    fn window(&self, window: u32) -> [u32; 3] {
        let (row, column) = self.columns.count.split(window);
        let (image, row) = self.rows.count.split(row);
        [image, row, column]
    }

    /// Returns the first chunk of the pixel at such places, in an image, modulo 2^32.
    #[inline(always)]
    const fn chunk(&self, image: u32, row: u32, column: u32) -> u32 {
        let row = (image * self.rows.extent).wrapping_add(row);
        let pixel = row.wrapping_mul(self.columns.extent).wrapping_add(column);
        pixel.wrapping_mul(self.groups * self.chunks)
    }

    /// Splits a chunk of a window's terms into pixels down and right, and the chunk of the pixel.
    #[inline(always)]
    fn term(&self, chunk: u32) -> [u32; 3] {
        let extents = [self.columns.size as usize, self.chunks as usize];
        pixel(chunk as usize, extents).map(|of| of as u32)
    }
}

/// Returns the address of a chunk.
#[inline(always)]
const fn at<E>(first: *const E, chunk: u32) -> *const E {
    first.wrapping_add(CHUNK * chunk as usize)
}

/// Returns what a number becomes that may have reached its end once, and the greater one that counts that.
#[inline(always)]
const fn carry(greater: u32, number: u32, end: u32) -> (u32, u32) {
    if number >= end { (greater + 1, number - end) } else { (greater, number) }
}

/// A direction of a convolution.
#[derive(Clone, Copy)]
struct OfOutput<'a, E, const SLIM: bool>(&'a Implicit<E>);
#[derive(Clone, Copy)]
struct OfInput<'a, E, const SLIM: bool>(&'a Implicit<E>);
#[derive(Clone, Copy)]
struct OfWeight<'a, E, const SLIM: bool>(&'a Implicit<E>);

impl<E: Factor> Implicit<E> {
    /// Returns a group's windows, from a term on.
    #[inline(always)]
    const fn windows(&self, group: usize, from: usize) -> Windows<'_, E> {
        Windows { of: self, group: group as u32 * self.chunks, first: (from / CHUNK) as u32 }
    }

    /// Returns the element of the image at an offset into a window, unless that is in the padding.
    #[inline(always)]
    fn element(&self, window: usize, [down, right]: [usize; 2], channel: usize) -> Option<usize> {
        let Self { rows, columns, .. } = self;
        let [image, row, column] = self.window(window as u32);
        let [down, right] = [down as u32 * rows.dilation.by, right as u32 * columns.dilation.by];
        let y = (row * rows.stride + down).wrapping_sub(rows.before);
        let x = (column * columns.stride + right).wrapping_sub(columns.before);
        let chunk = self.chunk(image, y, x);
        (y < rows.extent && x < columns.extent).then_some(CHUNK * chunk as usize + channel)
    }

    /// Splits a term of a window, and returns its channel among those of all groups.
    #[inline(always)]
    fn split(&self, group: usize, term: usize) -> ([usize; 2], usize) {
        let channels = CHUNK * self.chunks as usize;
        let [down, right, channel] = pixel(term, [self.columns.size as usize, channels]);
        ([down, right], group * channels + channel)
    }

    /// Adds up products of those terms that are there, from a number on until the sum is none.
    ///
    /// # Safety
    ///
    /// The elements are there.
    #[inline(always)]
    unsafe fn add_up(
        &self,
        start: f32,
        terms: Range<usize>,
        places: impl Fn(usize) -> Option<(usize, usize)>,
    ) -> f32 {
        let (mut sum, mut term) = (start, terms.start);
        while term < terms.end && !sum.is_nan() {
            if let Some((a, b)) = places(term) {
                // SAFETY: the caller's promise.
                sum = unsafe { (*self.a.add(a)).mul_add(*self.b.add(b), sum) };
            }
            term += 1;
        }
        sum
    }
}

impl<'a, E: Factor, const SLIM: bool> Summation for OfOutput<'a, E, SLIM> {
    type Factor = E;
    type Left = Windows<'a, E>;
    type Right = Matrix<E>;

    const HAS_GAPS: bool = true;

    #[inline(always)]
    fn extents(&self) -> Extents {
        self.0.extents(Direction::Output)
    }

    #[inline(always)]
    fn operands(&self, group: usize, from: usize) -> (Windows<'a, E>, Matrix<E>) {
        let (of, layout) = (self.0, Layout { by_terms: true, is_slim: SLIM });
        let (others, terms) = (of.others as usize, of.of_window());
        let first = of.b.wrapping_add(group * others * terms);
        (of.windows(group, from), Matrix::aligned(first, others, terms, layout).after(from))
    }

    #[inline(always)]
    fn bias(&self) -> *const f32 {
        self.0.bias
    }

    #[inline(always)]
    fn row(&self, part: usize, group: usize, row: usize) -> usize {
        let of = self.0;
        (part * of.windows as usize + row) * of.row_of_all() + group * of.others as usize
    }

    #[inline(always)]
    fn step(&self) -> Option<usize> {
        Some(self.0.row_of_all())
    }

    #[inline(always)]
    unsafe fn again(
        &self,
        start: f32,
        group: usize,
        terms: Range<usize>,
        [row, column]: [usize; 2],
    ) -> f32 {
        let of = self.0;
        let filter = group * of.others as usize + column;
        let places = |term| {
            let (offset, channel) = of.split(group, term);
            Some((of.element(row, offset, channel)?, filter * of.of_window() + term))
        };
        // SAFETY: the caller's promise.
        unsafe { of.add_up(start, terms, places) }
    }
}

impl<'a, E: Factor, const SLIM: bool> Summation for OfInput<'a, E, SLIM> {
    type Factor = E;
    type Left = Windows<'a, E>;
    type Right = Kernels<'a, E, SLIM>;

    const HAS_GAPS: bool = true;

    #[inline(always)]
    fn extents(&self) -> Extents {
        self.0.extents(Direction::Input)
    }

    #[inline(always)]
    fn operands(&self, group: usize, from: usize) -> (Windows<'a, E>, Kernels<'a, E, SLIM>) {
        let windows = self.0.windows(group, from);
        let filters = CHUNK as u32 * windows.group;
        (windows, Kernels { of: self.0, group: filters, first: windows.first })
    }

    #[inline(always)]
    fn bias(&self) -> *const f32 {
        ptr::null()
    }

    #[inline(always)]
    fn row(&self, part: usize, group: usize, row: usize) -> usize {
        let of = self.0;
        let [image, row, column] = of.window(row as u32);
        let [y, x] = [(&of.rows, row), (&of.columns, column)]
            .map(|(axis, nth)| (axis.to_first + axis.to_step * nth) as usize);
        let image = part * of.batch as usize + image as usize;
        let pixel = (image * of.rows.to_extent as usize + y) * of.columns.to_extent as usize + x;
        pixel * of.row_of_all() + group * of.others as usize
    }

    #[inline(always)]
    fn step(&self) -> Option<usize> {
        None
    }

    #[inline(always)]
    unsafe fn again(
        &self,
        start: f32,
        group: usize,
        terms: Range<usize>,
        [row, column]: [usize; 2],
    ) -> f32 {
        let of = self.0;
        let [height, width] = of.kernel.map(|of| of as usize);
        let places = |term| {
            let (offset, filter) = of.split(group, term);
            let [down, right] = offset.map(|of| of as u32);
            let [y, x] = [
                of.rows.last.wrapping_sub(of.rows.back * down),
                of.columns.last.wrapping_sub(of.columns.back * right),
            ];
            let pixel = (filter * height + y as usize) * width + x as usize;
            Some((of.element(row, offset, filter)?, pixel * of.others as usize + column))
        };
        // SAFETY: the caller's promise.
        unsafe { of.add_up(start, terms, places) }
    }
}

impl<'a, E: Factor, const SLIM: bool> Summation for OfWeight<'a, E, SLIM> {
    type Factor = E;
    type Left = Matrix<E>;
    type Right = Channels<'a, E, SLIM>;

    const HAS_GAPS: bool = true;

    #[inline(always)]
    fn extents(&self) -> Extents {
        self.0.extents(Direction::Weight)
    }

    #[inline(always)]
    fn operands(&self, group: usize, from: usize) -> (Matrix<E>, Channels<'a, E, SLIM>) {
        let (of, layout) = (self.0, Layout { by_terms: false, is_slim: false });
        let others = of.others as usize;
        let first = of.a.wrapping_add(group * others);
        let left = Matrix::aligned(first, others, of.row_of_all(), layout).after(from);
        (left, Channels { of, group: group as u32 * of.chunks, first: from as u32 })
    }

    #[inline(always)]
    fn bias(&self) -> *const f32 {
        ptr::null()
    }

    #[inline(always)]
    fn row(&self, part: usize, group: usize, row: usize) -> usize {
        let of = self.0;
        let row = (part * of.groups as usize + group) * of.others as usize + row;
        row * of.of_window()
    }

    #[inline(always)]
    fn step(&self) -> Option<usize> {
        Some(self.0.of_window())
    }

    #[inline(always)]
    unsafe fn again(
        &self,
        start: f32,
        group: usize,
        terms: Range<usize>,
        [row, column]: [usize; 2],
    ) -> f32 {
        let of = self.0;
        let (offset, channel) = of.split(group, column);
        let filter = group * of.others as usize + row;
        let places = |window| {
            Some((window * of.row_of_all() + filter, of.element(window, offset, channel)?))
        };
        // SAFETY: the caller's promise.
        unsafe { of.add_up(start, terms, places) }
    }
}

/// Convolves in a direction and ends as an epilogue says, on all blocks of a grid: of a gradient of an input, one class.
///
/// A sum is that of its terms in f32, in the order and with the rounding of the tensor cores; those in the padding add nothing.
/// The terms are in one part.
///
/// # Safety
///
/// As for [`matmul`](crate::matmul::matmul); operands begin at multiples of 16 bytes.
#[inline(always)]
pub unsafe fn convolve<B: Block, E: Factor, F: Element, const SLIM: bool>(
    block: &mut B,
    of: &Implicit<E>,
    direction: Direction,
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // What is narrowed is whole.
    let of = &Implicit { parts: 1, ..*of };
    // SAFETY: the caller's promise; an element is stored by one thread.
    unsafe { sum::<B, E, F, SLIM>(block, of, direction, epilogue, to) };
}

/// Convolves in a direction and writes f32, or adds them to what is there.
///
/// Outcome and histogram are those of the convolution.  There is room for the results of each part.
///
/// # Safety
///
/// As for [`convolve`]; what is added to has been written.
#[inline(always)]
pub unsafe fn convolve_into<B: Block, E: Factor, const SLIM: bool>(
    block: &mut B,
    of: &Implicit<E>,
    direction: Direction,
    adds: bool,
    to: Out<'_, f32>,
    epilogue: &Epilogue,
) {
    // SAFETY: as above.
    unsafe { sum::<B, E, f32, SLIM>(block, of, direction, epilogue, Sums { to, adds }) };
}

/// # Safety
///
/// As for [`convolve`].
#[inline(always)]
unsafe fn sum<B: Block, E: Factor, F: Element, const SLIM: bool>(
    block: &mut B,
    of: &Implicit<E>,
    direction: Direction,
    epilogue: &Epilogue,
    to: impl Store<F>,
) {
    use tensor_cores::sum;
    // SAFETY: the caller's promise.
    unsafe {
        match direction {
            Direction::Output => {
                sum::<B, F, _, SLIM>(block, &OfOutput::<E, SLIM>(of), epilogue, to);
            }
            Direction::Input => {
                sum::<B, F, _, SLIM>(block, &OfInput::<E, SLIM>(of), epilogue, to);
            }
            Direction::Weight => {
                sum::<B, F, _, SLIM>(block, &OfWeight::<E, SLIM>(of), epilogue, to);
            }
        }
    }
}
