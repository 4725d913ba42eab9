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
}

impl Pooling {
    /// A pooling with windows side by side and without padding.
    pub const fn new(batch: usize, input: [usize; 2], channels: usize, window: [usize; 2]) -> Self {
        Self { batch, input, channels, window, stride: window, padding: [0; 2] }
    }

    /// Returns the same pooling with another stride.
    pub const fn stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// Returns the same pooling with padding.
    pub const fn padding(self, padding: [usize; 2]) -> Self {
        Self { padding, ..self }
    }

    /// Tells whether a pixel can lie in two windows.
    pub const fn overlaps(self) -> bool {
        self.stride[0] < self.window[0] || self.stride[1] < self.window[1]
    }

    /// Returns height and width of the output, or `None` where there is no such pooling: the image or
    /// the window is empty, the window is larger than the padded image, a stride is zero, or the
    /// padding is not less than the window.
    pub const fn output(self) -> Option<[usize; 2]> {
        let Self { input, window, stride, padding, .. } = self;
        match (
            windows(input[0], window[0], stride[0], padding[0]),
            windows(input[1], window[1], stride[1], padding[1]),
        ) {
            (Some(height), Some(width)) => Some([height, width]),
            _ => None,
        }
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
        let Self { batch, input, channels, window, stride, padding } = self;
        write!(f, "{batch} x {}x{}x{channels}", input[0], input[1])?;
        write!(f, " by {window:?}, stride {stride:?}, padding {padding:?}")
    }
}
