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
        let pixel = (window * self.stride + offset).checked_sub(self.padding)?;
        (pixel < self.extent).then_some(pixel)
    }

    /// Returns the window that has a pixel at an offset, if there is one.
    #[inline(always)]
    pub(super) fn window(self, pixel: usize, offset: usize) -> Option<usize> {
        let first = (pixel + self.padding).checked_sub(offset)?;
        let (window, rest) = split(first, self.stride);
        (rest == 0 && window < self.count).then_some(window)
    }
}

/// Returns quotient and remainder; zeros where it is divided by zero, which no place of a tensor with elements is.
#[inline(always)]
pub(super) fn split(place: usize, extent: usize) -> (usize, usize) {
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
