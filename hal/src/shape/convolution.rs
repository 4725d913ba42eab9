//! The shape of a convolution.

use core::fmt;

use super::{elements, windows};

/// The shape of a convolution over images with the channels last.
///
/// The input has the shape (batch, height, width, channels), the weight (filters, kernel height,
/// kernel width, channels / groups), the output (batch, output height, output width, filters).
/// What lies outside the input is zero.  As everywhere in this field, the kernel is not mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// Height and width of an image.
    pub input: [usize; 2],
    /// Channels of the input.
    pub channels: usize,
    /// Channels of the output.
    pub filters: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next, down and right.
    pub stride: [usize; 2],
    /// Rows above and below, and columns left and right of the image; less than a [window](Self::window).
    pub padding: [usize; 2],
    /// Pixels from one element of the kernel to the next, down and right: 1 where they are neighbours (Yu and Koltun 2016).
    pub dilation: [usize; 2],
    /// Parts that channels and filters are divided into; a filter sees the channels of its part.
    pub groups: usize,
}

impl Convolution {
    /// A convolution with stride 1, without padding or dilation and in one group.
    pub const fn new(
        batch: usize,
        input: [usize; 2],
        channels: usize,
        filters: usize,
        kernel: [usize; 2],
    ) -> Self {
        let (stride, padding, dilation, groups) = ([1; 2], [0; 2], [1; 2], 1);
        Self { batch, input, channels, filters, kernel, stride, padding, dilation, groups }
    }

    /// Returns the same convolution with another stride.
    pub const fn stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// Returns the same convolution with padding.
    pub const fn padding(self, padding: [usize; 2]) -> Self {
        Self { padding, ..self }
    }

    /// Returns the same convolution with dilation.
    ///
    /// # Examples
    ///
    /// ```
    /// # use adaloss_hal::network::Convolution;
    /// let plain = Convolution::new(1, [19, 19], 512, 1024, [3, 3]);
    /// // A kernel of 9 elements that looks 6 pixels up, down and to the sides.
    /// let dilated = plain.padding([6, 6]).dilation([6, 6]);
    /// assert_eq!((dilated.window(), dilated.output()), ([13, 13], Some([19, 19])));
    /// assert_eq!(dilated.fan_in(), plain.fan_in());
    /// let said = "1 x 19x19x512 * 1024 x 3x3, stride [1, 1], padding [6, 6], dilation [6, 6], 1 groups";
    /// assert_eq!(dilated.to_string(), said);
    /// ```
    pub const fn dilation(self, dilation: [usize; 2]) -> Self {
        Self { dilation, ..self }
    }

    /// Returns the same convolution in several groups.
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Returns height and width of a window, from the first element of the dilated kernel to the last; 0 where the kernel is empty,
    /// the dilation zero, or the number does not fit.
    pub const fn window(self) -> [usize; 2] {
        let Self { kernel, dilation, .. } = self;
        [dilated(kernel[0], dilation[0]), dilated(kernel[1], dilation[1])]
    }

    /// Returns height and width of the output, or `None` where there is no such convolution: the
    /// image or the kernel is empty, a window is larger than the padded image, a stride or a dilation is zero,
    /// the padding is not less than a window, or the groups do not divide channels and filters.
    pub const fn output(self) -> Option<[usize; 2]> {
        let Self { input, channels, filters, stride, padding, groups, .. } = self;
        if groups == 0 || !channels.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
            return None;
        }
        let window = self.window();
        match (
            windows(input[0], window[0], stride[0], padding[0]),
            windows(input[1], window[1], stride[1], padding[1]),
        ) {
            (Some(height), Some(width)) => Some([height, width]),
            _ => None,
        }
    }

    /// Returns the elements of input, weight and output; `usize::MAX`, which no tensor has, where
    /// the number does not fit or there is no such convolution.
    pub const fn lengths(self) -> [usize; 3] {
        let Self { batch, input, channels, filters, kernel, .. } = self;
        let Some([height, width]) = self.output() else { return [usize::MAX; 3] };
        [
            elements([batch, input[0], input[1], channels]),
            elements([filters, kernel[0], kernel[1], channels / self.groups]),
            elements([batch, height, width, filters]),
        ]
    }

    /// Returns the terms of one sum of the output.
    pub const fn fan_in(self) -> usize {
        let groups = if self.groups == 0 { 1 } else { self.groups };
        elements([self.kernel[0], self.kernel[1], self.channels / groups])
    }

    /// Returns the terms of one sum of the input's gradient, at most: the fan-in of the backward pass.
    pub const fn fan_out(self) -> usize {
        let groups = if self.groups == 0 { 1 } else { self.groups };
        elements([self.kernel[0], self.kernel[1], self.filters / groups])
    }
}

impl fmt::Display for Convolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, input, channels, filters, kernel, stride, padding, dilation, groups } =
            self;
        write!(f, "{batch} x {}x{}x{channels}", input[0], input[1])?;
        write!(f, " * {filters} x {}x{}", kernel[0], kernel[1])?;
        write!(f, ", stride {stride:?}, padding {padding:?}")?;
        if *dilation != [1; 2] {
            write!(f, ", dilation {dilation:?}")?;
        }
        write!(f, ", {groups} groups")
    }
}

/// Returns what a kernel covers along one axis.
const fn dilated(kernel: usize, dilation: usize) -> usize {
    if kernel == 0 || dilation == 0 {
        return 0;
    }
    match (kernel - 1).checked_mul(dilation) {
        Some(behind) if behind < usize::MAX => behind + 1,
        _ => 0,
    }
}
