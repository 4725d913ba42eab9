//! Windows that slide over images.

/// Windows along one axis of an image.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Sliding {
    /// Pixels of the image.
    pub extent: usize,
    /// Windows.
    pub count: usize,
    /// Pixels of a window.
    pub size: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Pixels that the first window lies before the image.
    pub padding: usize,
}

impl Sliding {
    /// Returns the pixel at an offset into a window, or `None` in the padding.
    #[inline(always)]
    pub(super) fn pixel(self, window: usize, offset: usize) -> Option<usize> {
        // Before the image it is beyond all pixels.
        let pixel = (window * self.stride + offset).wrapping_sub(self.padding);
        (pixel < self.extent).then_some(pixel)
    }

    /// Returns the window that has a pixel at an offset, if there is one.
    #[inline(always)]
    pub(super) fn window(self, pixel: usize, offset: usize) -> Option<usize> {
        let last = pixel + self.padding;
        let (window, rest) = split_short(last.wrapping_sub(offset), self.stride);
        ((offset <= last) & (rest == 0) & (window < self.count)).then_some(window)
    }
}

/// Returns quotient and remainder; zeros where it is divided by zero, which no place of a tensor with elements is.
#[inline(always)]
pub(crate) fn split(place: usize, extent: usize) -> (usize, usize) {
    (place.checked_div(extent).unwrap_or(0), place.checked_rem(extent).unwrap_or(0))
}

/// Splits a place into its four indices, the last running fastest, from the last three extents.
#[inline(always)]
pub(super) fn indices(place: usize, [a, b, c]: [usize; 3]) -> [usize; 4] {
    let (place, last) = split(place, c);
    let (place, third) = split(place, b);
    let (first, second) = split(place, a);
    [first, second, third, last]
}

/// Splits a place into image, row and column, or whatever three indices there are, from the extents of the last two; all
/// below 2^32, since a GPU divides such numbers much faster.
#[inline(always)]
pub(super) fn pixel(place: usize, [rows, columns]: [usize; 2]) -> [usize; 3] {
    let (place, column) = split_short(place, columns);
    let (image, row) = split_short(place, rows);
    [image, row, column]
}

/// Returns a place in a row and a column, which is none without either: computed all the same, so that threads do not part.
#[inline(always)]
pub(super) fn both(
    row: Option<usize>,
    column: Option<usize>,
    place: impl FnOnce(usize, usize) -> usize,
) -> Option<usize> {
    let are_there = row.is_some() & column.is_some();
    let place = place(row.unwrap_or(0), column.unwrap_or(0));
    are_there.then_some(place)
}

/// Is [`split`] of numbers below 2^32, without a branch for an extent of zero.
#[inline(always)]
pub(crate) fn split_short(place: usize, extent: usize) -> (usize, usize) {
    let (place, extent) = (place as u32, (extent as u32).max(1));
    let whole = place / extent;
    (whole as usize, place.wrapping_sub(whole.wrapping_mul(extent)) as usize)
}
