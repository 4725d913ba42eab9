//! The shape of a pooling.

use core::fmt;

use super::{elements, windows};

/// The shape of a pooling of images with the channels last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// Images.
    pub batch: usize,
    /// Height and width of an image.
    pub input: [usize; 2],
    /// Channels, pooled apart.
    pub channels: usize,
    /// Height and width of a window.
    pub window: [usize; 2],
    /// Pixels from one window to the next, down and right.
    pub stride: [usize; 2],
    /// Rows above and below, and columns left and right of the image; less than the window.
    pub padding: [usize; 2],
    /// Whether a last window along an axis that begins within the image, or in the padding before it, and ends behind the padded
    /// image is one as well (`ceil_mode` in PyTorch): it sees the pixels that there are.
    pub is_covering: bool,
}

impl Pooling {
    /// A pooling with windows side by side and without padding.
    pub const fn new(batch: usize, input: [usize; 2], channels: usize, window: [usize; 2]) -> Self {
        let (stride, padding) = (window, [0; 2]);
        Self { batch, input, channels, window, stride, padding, is_covering: false }
    }

    /// Returns the same pooling with another stride.
    pub const fn stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// Returns the same pooling with padding.
    pub const fn padding(self, padding: [usize; 2]) -> Self {
        Self { padding, ..self }
    }

    /// Returns the same pooling with windows up to the end of the image, where the last ones may reach beyond it.
    pub const fn covering(self) -> Self {
        Self { is_covering: true, ..self }
    }

    /// Tells whether a pixel can lie in two windows.
    pub const fn overlaps(self) -> bool {
        self.stride[0] < self.window[0] || self.stride[1] < self.window[1]
    }

    /// Returns height and width of the output, or `None` where there is no such pooling: the image or
    /// the window is empty, the window is larger than the padded image, a stride is zero, or the
    /// padding is not less than the window.
    pub const fn output(self) -> Option<[usize; 2]> {
        match (self.windows(0), self.windows(1)) {
            (Some(height), Some(width)) => Some([height, width]),
            _ => None,
        }
    }

    /// Returns how many windows there are along an axis, or `None` where there is not one.
    const fn windows(self, axis: usize) -> Option<usize> {
        let (extent, window) = (self.input[axis], self.window[axis]);
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let Some(whole) = windows(extent, window, stride, padding) else { return None };
        // Both fit: the windows fit into the image with its padding on both sides.
        let (end, next) = (extent + 2 * padding, whole * stride);
        let is_cut = next - stride + window < end && next < extent + padding;
        Some(whole + (self.is_covering && is_cut) as usize)
    }

    /// Returns the elements of input and output; `usize::MAX`, which no tensor has, where the number
    /// does not fit or there is no such pooling.
    pub const fn lengths(self) -> [usize; 2] {
        let Self { batch, input, channels, .. } = self;
        let Some([height, width]) = self.output() else { return [usize::MAX; 2] };
        [
            elements([batch, input[0], input[1], channels]),
            elements([batch, height, width, channels]),
        ]
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, input, channels, window, stride, padding, is_covering } = self;
        write!(f, "{batch} x {}x{}x{channels}", input[0], input[1])?;
        write!(f, " by {window:?}, stride {stride:?}, padding {padding:?}")?;
        if *is_covering { write!(f, ", covering the image") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outputs of `torch.nn.MaxPool2d` with `ceil_mode=True`, by its documentation's formula.
    #[test]
    fn windows_that_cover_the_image_are_those_of_pytorch() {
        let outputs = |extent: usize, window: usize, stride: usize, padding: usize| {
            let of = Pooling::new(1, [extent; 2], 1, [window; 2]);
            let of = of.stride([stride; 2]).padding([padding; 2]);
            [of, of.covering()].map(|of| of.output().map(|output| output[0]))
        };
        // The third pooling of SSD300, from 75 pixels to 38.
        assert_eq!(outputs(75, 2, 2, 0), [Some(37), Some(38)]);
        assert_eq!(outputs(38, 2, 2, 0), [Some(19), Some(19)]);
        assert_eq!(outputs(6, 3, 2, 1), [Some(3), Some(4)]);
        // The third window would begin behind the image.
        assert_eq!(outputs(4, 2, 3, 1), [Some(2), Some(2)]);
        assert_eq!(outputs(1, 2, 2, 0), [None, None]);
    }
}
