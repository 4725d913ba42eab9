//! Pooling: the windows of each channel, and the windows over each pixel.

use adaloss_core::format::Element;

use super::{Sliding, indices};
use crate::{
    Epilogue, Plain,
    network::{MaxPool, Pooling, SumPool},
    portable::{Portable, PortableError, narrow::Sink, possible, same_length},
};

impl<E: Element + Plain> MaxPool<E> for Portable {
    fn max_pool(
        &mut self,
        shape: Pooling,
        input: &[E],
        to: &mut [E],
        places: &mut [u32],
    ) -> Result<(), PortableError> {
        let windows = Windows::of(shape)?;
        windows.check("the input of a pooling", "the output of a pooling", input, to)?;
        same_length("the places of a pooling", to.len(), places.len())?;
        for (index, (to, place)) in to.iter_mut().zip(places).enumerate() {
            let mut pixels = windows.pixels(index);
            let Some(mut greatest) = pixels.next() else { continue };
            for pixel in pixels {
                if is_greater(input[pixel], input[greatest]) {
                    greatest = pixel;
                }
            }
            *to = input[greatest];
            *place = windows.place(greatest) as u32;
        }
        Ok(())
    }

    fn unpool(
        &mut self,
        shape: Pooling,
        from: &[E],
        places: &[u32],
        to: &mut [E],
    ) -> Result<(), PortableError> {
        let windows = Windows::of(shape)?;
        possible("unpooling", !shape.overlaps())?;
        windows.check("the result of unpooling", "what is unpooled", to, from)?;
        same_length("the places of unpooling", from.len(), places.len())?;
        to.fill(E::from_bits(0));
        for (index, (&from, &place)) in from.iter().zip(places).enumerate() {
            if let Some(pixel) = windows.at(index, place) {
                to[pixel] = from;
            }
        }
        Ok(())
    }

    fn pick(
        &mut self,
        shape: Pooling,
        from: &[E],
        places: &[u32],
        to: &mut [E],
    ) -> Result<(), PortableError> {
        let windows = Windows::of(shape)?;
        windows.check("what is picked from", "the result of picking", from, to)?;
        same_length("the places of picking", to.len(), places.len())?;
        for (index, (to, &place)) in to.iter_mut().zip(places).enumerate() {
            *to = windows.at(index, place).map_or(E::from_bits(0), |pixel| from[pixel]);
        }
        Ok(())
    }
}

impl<E: Element + Plain> SumPool<E> for Portable {
    fn average_pool(
        &mut self,
        shape: Pooling,
        input: &[E],
        to: &mut [E],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        let windows = Windows::of(shape)?;
        windows.check("the input of a pooling", "the output of a pooling", input, to)?;
        Sink::open(epilogue)?.each(0, to, |index| {
            let sum = windows.pixels(index).fold(0.0, |sum, pixel| sum + input[pixel].widen());
            sum / windows.area()
        })
    }

    fn average_pool_input(
        &mut self,
        shape: Pooling,
        gradient: &[E],
        to: &mut [E],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        let windows = Windows::of(shape)?;
        windows.check("a pooling's input gradient", "a pooling's gradient", to, gradient)?;
        Sink::open(epilogue)?.each(0, to, |pixel| {
            let sum = windows.over(pixel).fold(0.0, |sum, index| sum + gradient[index].widen());
            sum / windows.area()
        })
    }

    fn max_pool_input(
        &mut self,
        shape: Pooling,
        gradient: &[E],
        places: &[u32],
        to: &mut [E],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        let windows = Windows::of(shape)?;
        windows.check("a pooling's input gradient", "a pooling's gradient", to, gradient)?;
        same_length("the places of a pooling", gradient.len(), places.len())?;
        Sink::open(epilogue)?.each(0, to, |pixel| {
            let place = windows.place(pixel);
            let took = windows.over(pixel).filter(|&index| places[index] as usize == place);
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
    fn of(shape: Pooling) -> Result<Self, PortableError> {
        possible("pooling", shape.output().is_some())?;
        let output = shape.output().unwrap_or_default();
        let [rows, columns] = Sliding::both(shape.input, output, shape.stride, shape.padding);
        Ok(Self { shape, output, rows, columns })
    }

    /// Checks the elements of what has the shape of the input and of what has that of the output.
    fn check<E>(
        &self,
        what_input: &'static str,
        what_output: &'static str,
        input: &[E],
        output: &[E],
    ) -> Result<(), PortableError> {
        let [of_input, of_output] = self.shape.lengths();
        same_length(what_input, of_input, input.len())?;
        same_length(what_output, of_output, output.len())
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
    fn place(&self, pixel: usize) -> usize {
        pixel / self.shape.channels % (self.shape.input[0] * self.shape.input[1])
    }

    /// Returns the element of the input that a window's place names, if it is in the image.
    fn at(&self, index: usize, place: u32) -> Option<usize> {
        let Pooling { input: [height, width], channels, .. } = self.shape;
        let image = index / (self.output[0] * self.output[1] * channels);
        let place = Some(place as usize).filter(|&place| place < height * width)?;
        Some((image * height * width + place) * channels + index % channels)
    }
}
