//! The operations of layers on slices, each as its formula reads.

mod accumulate;
mod attend;
mod convolve;
mod dropout;
mod embed;
mod loss;
mod normalise;
mod pointwise;
mod pool;
mod update;

/// Windows that slide along one axis of an image.
#[derive(Clone, Copy)]
struct Sliding {
    /// Pixels of the image.
    extent: usize,
    /// Windows.
    count: usize,
    /// Pixels from one window to the next.
    stride: usize,
    /// Pixels that the first window lies before the image.
    padding: usize,
    /// Pixels from one element of a window to the next.
    dilation: usize,
}

impl Sliding {
    /// Returns the windows along both axes.
    fn both(
        extent: [usize; 2],
        count: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
    ) -> [Self; 2] {
        [0, 1].map(|axis| Self {
            extent: extent[axis],
            count: count[axis],
            stride: stride[axis],
            padding: padding[axis],
            dilation: dilation[axis],
        })
    }

    /// Returns the pixel at an element of a window, or `None` in the padding.
    fn pixel(self, window: usize, element: usize) -> Option<usize> {
        let padded = window * self.stride + element * self.dilation;
        padded.checked_sub(self.padding).filter(|&x| x < self.extent)
    }

    /// Returns the window that has a pixel at an element, if there is one.
    fn window(self, pixel: usize, element: usize) -> Option<usize> {
        let first = (pixel + self.padding).checked_sub(element * self.dilation)?;
        let window = first / self.stride;
        (first.is_multiple_of(self.stride) && window < self.count).then_some(window)
    }
}

/// Splits a place into its indices, the last running fastest.
fn indices<const N: usize>(mut place: usize, extents: [usize; N]) -> [usize; N] {
    let mut indices = extents;
    for (index, extent) in indices.iter_mut().zip(extents).rev() {
        (*index, place) = (place % extent, place / extent);
    }
    indices
}
