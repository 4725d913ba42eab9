//! Pooling and unpooling.

use core::fmt;

use adaloss_core::format::Element;

use super::{elements, windows};
use crate::{Device, Epilogue, Mut, Narrow, Plain, Ref};

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

/// A device that moves elements of type `E` by pooling: nothing is rounded, a scale is carried.
///
/// *Places* say which pixel a window took: row times width plus column, in its image and channel.
/// Where an operation takes places, they are those of a max pooling of its shape, or lie beyond the
/// image.
pub trait MaxPool<E: Element + Plain>: Device {
    /// Takes the greatest element of each window, and its place.
    ///
    /// The first of equal ones is taken, +0 equal to -0, and a NaN before every number.  A window
    /// does not see its padding.
    ///
    /// # Errors
    ///
    /// There is no pooling of that shape, or an operand does not have its elements.
    fn max_pool(
        &mut self,
        shape: Pooling,
        input: Ref<'_, Self, E>,
        to: Mut<'_, Self, E>,
        places: Mut<'_, Self, u32>,
    ) -> Result<(), Self::Error>;

    /// Puts pooled elements back to their places and +0 everywhere else: unpooling, and the gradient
    /// of a pooling whose windows do not overlap.
    ///
    /// `from` and `places` have the shape of the output, `to` that of the input.  Places outside the
    /// image are left out.
    ///
    /// # Errors
    ///
    /// There is no pooling of that shape or its windows overlap, or an operand does not have its
    /// elements.
    fn unpool(
        &mut self,
        shape: Pooling,
        from: Ref<'_, Self, E>,
        places: Ref<'_, Self, u32>,
        to: Mut<'_, Self, E>,
    ) -> Result<(), Self::Error>;

    /// Takes the elements at the places: the gradient of unpooling.
    ///
    /// `from` has the shape of the input, `places` and `to` that of the output.  A place outside the
    /// image gives +0.
    ///
    /// # Errors
    ///
    /// There is no pooling of that shape, or an operand does not have its elements.
    fn pick(
        &mut self,
        shape: Pooling,
        from: Ref<'_, Self, E>,
        places: Ref<'_, Self, u32>,
        to: Mut<'_, Self, E>,
    ) -> Result<(), Self::Error>;
}

/// A device that pools elements of type `E` by sums in f32 and narrows them.
///
/// Sums start at +0.  A device with [sequential sums](crate::Capabilities::sequential_sums) adds
/// elements in the order of their index.
pub trait SumPool<E: Element + Plain>: Narrow<E> {
    /// Computes the mean of each window, with one division; padding counts as zeros.
    ///
    /// # Errors
    ///
    /// There is no pooling of that shape, an operand or `to` does not have its elements, a part of
    /// the epilogue is not one element, or its narrowing is not for `E`.
    fn average_pool(
        &mut self,
        shape: Pooling,
        input: Ref<'_, Self, E>,
        to: Mut<'_, Self, E>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Self::Error>
    where
        Self: Sized;

    /// Computes the gradient of the input of [`average_pool`](Self::average_pool) from that of its
    /// output: a sum over the windows that saw the pixel, and one division.
    ///
    /// # Errors
    ///
    /// As [`average_pool`](Self::average_pool).
    fn average_pool_input(
        &mut self,
        shape: Pooling,
        gradient: Ref<'_, Self, E>,
        to: Mut<'_, Self, E>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Self::Error>
    where
        Self: Sized;

    /// Computes the gradient of the input of a max pooling whose windows may overlap: the sum, at
    /// each pixel, over the windows that took it.  Places outside the image are left out.
    ///
    /// # Errors
    ///
    /// As [`average_pool`](Self::average_pool).
    fn max_pool_input(
        &mut self,
        shape: Pooling,
        gradient: Ref<'_, Self, E>,
        places: Ref<'_, Self, u32>,
        to: Mut<'_, Self, E>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Self::Error>
    where
        Self: Sized;
}
