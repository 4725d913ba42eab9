//! Convolution: for each result, the terms that reach it.

use adaloss_core::format::Element;

use super::{Sliding, indices};
use crate::{
    host::HostError,
    host::Sink,
    network::{Convolve, ConvolveInput, ConvolveWeight},
    plain::Plain,
    portable::Portable,
    run::{Fitting, Run},
    shape::Convolution,
    space::HostSpace,
};

impl<A, B, F> Run<Convolve<'_, '_, HostSpace, A, B, F>> for Portable
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, Convolve<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let Convolve { convolution, input, weight, bias, to, epilogue } = operation.into_inner();
        let windows = Windows::of(*convolution);
        Sink::open(epilogue.reborrow())?.each(0, to, |place| {
            let start = bias.map_or(0.0, |bias| bias[place % convolution.filters]);
            windows.output(start, input, weight, place)
        })
    }
}

impl<A, B, F> Run<ConvolveInput<'_, '_, HostSpace, A, B, F>> for Portable
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, ConvolveInput<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let ConvolveInput { convolution, gradient, weight, to, epilogue } = operation.into_inner();
        let windows = Windows::of(*convolution);
        Sink::open(epilogue.reborrow())?.each(0, to, |place| windows.input(gradient, weight, place))
    }
}

impl<A, B, F> Run<ConvolveWeight<'_, '_, HostSpace, A, B, F>> for Portable
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, ConvolveWeight<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let ConvolveWeight { convolution, gradient, input, to, epilogue } = operation.into_inner();
        let windows = Windows::of(*convolution);
        Sink::open(epilogue.reborrow())?.each(0, to, |place| windows.weight(gradient, input, place))
    }
}

/// A convolution that exists, and where its windows lie.
struct Windows {
    shape: Convolution,
    /// Height and width of the output.
    output: [usize; 2],
    rows: Sliding,
    columns: Sliding,
    /// Channels that one filter sees, and filters that see one channel.
    channels: usize,
    filters: usize,
}

impl Windows {
    fn of(shape: Convolution) -> Self {
        let output = shape.output().unwrap_or_default();
        let Convolution { input, stride, padding, dilation, .. } = shape;
        let [rows, columns] = Sliding::both(input, output, stride, padding, dilation);
        let (channels, filters) = (shape.channels / shape.groups, shape.filters / shape.groups);
        Self { shape, output, rows, columns, channels, filters }
    }

    /// Returns the first of a pixel's channels in the input.
    fn in_input(&self, image: usize, row: usize, column: usize) -> usize {
        let [height, width] = self.shape.input;
        ((image * height + row) * width + column) * self.shape.channels
    }

    /// Returns the first of a pixel's filters in the output.
    fn in_output(&self, image: usize, row: usize, column: usize) -> usize {
        let [height, width] = self.output;
        ((image * height + row) * width + column) * self.shape.filters
    }

    /// Returns the first of the channels that a filter has at an offset.
    fn in_weight(&self, filter: usize, down: usize, right: usize) -> usize {
        let [height, width] = self.shape.kernel;
        ((filter * height + down) * width + right) * self.channels
    }

    /// Sums `input weight` over the pixels and channels under the kernel, from `start` on.
    fn output<A: Element, B: Element>(
        &self,
        start: f32,
        input: &[A],
        weight: &[B],
        place: usize,
    ) -> f32 {
        let [height, width] = self.output;
        let Convolution { batch, filters, kernel, .. } = self.shape;
        let [image, row, column, filter] = indices(place, [batch, height, width, filters]);
        let first = filter / self.filters * self.channels;
        let mut sum = start;
        for down in 0..kernel[0] {
            let Some(y) = self.rows.pixel(row, down) else { continue };
            for right in 0..kernel[1] {
                let Some(x) = self.columns.pixel(column, right) else { continue };
                let input = &input[self.in_input(image, y, x) + first..][..self.channels];
                let weight = &weight[self.in_weight(filter, down, right)..][..self.channels];
                sum = input.iter().zip(weight).fold(sum, |sum, (&a, &b)| a.mul_add(b, sum));
            }
        }
        sum
    }

    /// Sums `gradient weight` over the windows that a pixel lies in, and the filters of its group.
    fn input<A: Element, B: Element>(&self, gradient: &[A], weight: &[B], place: usize) -> f32 {
        let Convolution { batch, input: [height, width], channels, kernel, .. } = self.shape;
        let [image, y, x, channel] = indices(place, [batch, height, width, channels]);
        let (group, channel) = (channel / self.channels, channel % self.channels);
        let mut sum = 0.0;
        // The offset falls while the window's index grows.
        for down in (0..kernel[0]).rev() {
            let Some(row) = self.rows.window(y, down) else { continue };
            for right in (0..kernel[1]).rev() {
                let Some(column) = self.columns.window(x, right) else { continue };
                let from = self.in_output(image, row, column);
                for filter in group * self.filters..(group + 1) * self.filters {
                    let weight = weight[self.in_weight(filter, down, right) + channel];
                    sum = gradient[from + filter].mul_add(weight, sum);
                }
            }
        }
        sum
    }

    /// Sums `gradient input` over the windows of all images.
    fn weight<A: Element, B: Element>(&self, gradient: &[A], input: &[B], place: usize) -> f32 {
        let Convolution { batch, filters, kernel, .. } = self.shape;
        let [filter, down, right, channel] =
            indices(place, [filters, kernel[0], kernel[1], self.channels]);
        let channel = filter / self.filters * self.channels + channel;
        let mut sum = 0.0;
        for image in 0..batch {
            for row in 0..self.output[0] {
                let Some(y) = self.rows.pixel(row, down) else { continue };
                for column in 0..self.output[1] {
                    let Some(x) = self.columns.pixel(column, right) else { continue };
                    let gradient = gradient[self.in_output(image, row, column) + filter];
                    let input = input[self.in_input(image, y, x) + channel];
                    sum = gradient.mul_add(input, sum);
                }
            }
        }
        sum
    }
}
