//! Pooling: the windows of each channel, and the windows over each pixel.

use adaloss_core::format::Element;

use super::{Sliding, indices};
use crate::{
    host::HostError,
    host::Sink,
    network::{AveragePool, AveragePoolInput, MaxPool, MaxPoolInput, Pick, Unpool},
    plain::Plain,
    portable::Portable,
    run::{Fitting, Run},
    shape::Pooling,
    space::HostSpace,
};

impl<E: Element + Plain> Run<MaxPool<'_, '_, HostSpace, E>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, MaxPool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let MaxPool { pooling, input, to, indices } = operation.into_inner();
        let windows = Windows::of(*pooling);
        for (index, (to, position)) in to.iter_mut().zip(indices.iter_mut()).enumerate() {
            let mut pixels = windows.pixels(index);
            let Some(mut greatest) = pixels.next() else { continue };
            for pixel in pixels {
                if is_greater(input[pixel], input[greatest]) {
                    greatest = pixel;
                }
            }
            *to = input[greatest];
            *position = windows.position(greatest) as u32;
        }
        Ok(())
    }
}

impl<E: Element + Plain> Run<Unpool<'_, '_, HostSpace, E>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unpool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let Unpool { pooling, input, indices, to } = operation.into_inner();
        let windows = Windows::of(*pooling);
        to.fill(E::from_bits(0));
        for (index, (&x, &position)) in input.iter().zip(*indices).enumerate() {
            if let Some(pixel) = windows.at(index, position) {
                to[pixel] = x;
            }
        }
        Ok(())
    }
}

impl<E: Element + Plain> Run<Pick<'_, '_, HostSpace, E>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Pick<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let Pick { pooling, input, indices, to } = operation.into_inner();
        let windows = Windows::of(*pooling);
        for (index, (to, &position)) in to.iter_mut().zip(*indices).enumerate() {
            *to = windows.at(index, position).map_or(E::from_bits(0), |pixel| input[pixel]);
        }
        Ok(())
    }
}

impl<E: Element + Plain> Run<AveragePool<'_, '_, HostSpace, E>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, AveragePool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let AveragePool { pooling, input, to, epilogue } = operation.into_inner();
        let windows = Windows::of(*pooling);
        Sink::open(epilogue.reborrow())?.each(0, to, |index| {
            let sum = windows.pixels(index).fold(0.0, |sum, pixel| sum + input[pixel].widen());
            sum / windows.area()
        })
    }
}

impl<E: Element + Plain> Run<AveragePoolInput<'_, '_, HostSpace, E>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, AveragePoolInput<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let AveragePoolInput { pooling, gradient, to, epilogue } = operation.into_inner();
        let windows = Windows::of(*pooling);
        Sink::open(epilogue.reborrow())?.each(0, to, |pixel| {
            let sum = windows.over(pixel).fold(0.0, |sum, index| sum + gradient[index].widen());
            sum / windows.area()
        })
    }
}

impl<E: Element + Plain> Run<MaxPoolInput<'_, '_, HostSpace, E>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, MaxPoolInput<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let MaxPoolInput { pooling, gradient, indices, to, epilogue } = operation.into_inner();
        let windows = Windows::of(*pooling);
        Sink::open(epilogue.reborrow())?.each(0, to, |pixel| {
            let position = windows.position(pixel);
            let took = windows.over(pixel).filter(|&index| indices[index] as usize == position);
            took.fold(0.0, |sum, index| sum + gradient[index].widen())
        })
    }
}

/// Tells whether a window takes `x` after `greatest`: NaN before numbers, the first of equal ones.
fn is_greater<E: Element>(x: E, greatest: E) -> bool {
    let (x, greatest) = (x.widen(), greatest.widen());
    x > greatest || x.is_nan() && !greatest.is_nan()
}

/// A pooling that exists, and where its windows lie.
struct Windows {
    shape: Pooling,
    /// Height and width of the output.
    output: [usize; 2],
    rows: Sliding,
    columns: Sliding,
}

impl Windows {
    fn of(shape: Pooling) -> Self {
        let output = shape.output().unwrap_or_default();
        let [rows, columns] =
            Sliding::both(shape.input, output, shape.stride, shape.padding, [1; 2]);
        Self { shape, output, rows, columns }
    }

    /// Returns the elements of a window, padding included.
    fn area(&self) -> f32 {
        (self.shape.window[0] * self.shape.window[1]) as f32
    }

    /// Returns the elements of the input that a window sees, in their order.
    fn pixels(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let Pooling { batch, input: [height, width], channels, window, .. } = self.shape;
        let [image, row, column, channel] =
            indices(index, [batch, self.output[0], self.output[1], channels]);
        let rows = (0..window[0]).filter_map(move |down| self.rows.pixel(row, down));
        rows.flat_map(move |y| {
            let columns = (0..window[1]).filter_map(move |right| self.columns.pixel(column, right));
            columns.map(move |x| ((image * height + y) * width + x) * channels + channel)
        })
    }

    /// Returns the windows that see an element of the input, in their order.
    fn over(&self, pixel: usize) -> impl Iterator<Item = usize> + '_ {
        let Pooling { batch, input, channels, window, .. } = self.shape;
        let [image, y, x, channel] = indices(pixel, [batch, input[0], input[1], channels]);
        let [height, width] = self.output;
        // The offset falls while the window's index grows.
        let rows = (0..window[0]).rev().filter_map(move |down| self.rows.window(y, down));
        rows.flat_map(move |row| {
            let columns =
                (0..window[1]).rev().filter_map(move |right| self.columns.window(x, right));
            columns
                .map(move |column| ((image * height + row) * width + column) * channels + channel)
        })
    }

    /// Returns the place of an element of the input in its image and channel.
    fn position(&self, pixel: usize) -> usize {
        pixel / self.shape.channels % (self.shape.input[0] * self.shape.input[1])
    }

    /// Returns the element of the input that a window's place names, if it is in the image.
    fn at(&self, index: usize, position: u32) -> Option<usize> {
        let Pooling { input: [height, width], channels, .. } = self.shape;
        let image = index / (self.output[0] * self.output[1] * channels);
        let position = Some(position as usize).filter(|&position| position < height * width)?;
        Some((image * height * width + position) * channels + index % channels)
    }
}
