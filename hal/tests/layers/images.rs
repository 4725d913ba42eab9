//! Convolution and pooling, with their mistakes.

use adaloss_core::format::Element;
use adaloss_hal::{
    Epilogue, HostSpace, Narrow, Plain,
    network::{Convolution, Convolve, MaxPool, Pooling, SumPool},
    portable::{Portable, PortableError},
};

use crate::{
    device::{Mistaken, in_binary16, results},
    mistake::Mistake,
};

impl Mistaken {
    /// Returns the input as this device sees it.
    fn image<A: Element>(&self, shape: Convolution, input: &[A]) -> Vec<A> {
        let (width, channels) = (shape.input[1], shape.channels);
        let of_group = channels / shape.groups.max(1);
        let seen = |index: usize| match self.mistake {
            Mistake::IgnoresGroups => {
                let channel = index % channels;
                input[index - channel + channel % of_group]
            }
            Mistake::ShiftsPadding if shape.padding[1] > 0 => match index / channels % width {
                0 => A::from_bits(0),
                _ => input[index - channels],
            },
            _ => input[index],
        };
        (0..input.len()).map(seen).collect()
    }

    /// Returns the weight as this device sees it.
    fn kernel<B: Element>(&self, shape: Convolution, weight: &[B]) -> Vec<B> {
        if !self.makes(Mistake::MirrorsKernel) {
            return weight.to_vec();
        }
        let Convolution { kernel: [height, width], channels, groups, .. } = shape;
        let of_group = channels / groups.max(1);
        let seen = |index: usize| {
            let (channel, offset) = (index % of_group, index / of_group % (height * width));
            let filter = index / (of_group * height * width);
            let mirrored = (filter * height * width + height * width - 1 - offset) * of_group;
            weight[mirrored + channel]
        };
        (0..weight.len()).map(seen).collect()
    }

    /// Ends an operation of the portable device.
    fn end<F: Element + Plain>(
        &self,
        to: &mut [F],
        epilogue: Epilogue<'_, HostSpace>,
        operation: impl for<'w> FnOnce(
            &'w mut [f32],
            Epilogue<'w, HostSpace>,
        ) -> Result<(), PortableError>,
    ) -> Result<(), PortableError> {
        let mut sums = match results(to.len(), operation) {
            Err(PortableError::Shape { .. }) if self.makes(Mistake::TakesImpossibleShapes) => {
                return Ok(());
            }
            sums => sums?,
        };
        if self.makes(Mistake::NarrowAccumulator) {
            sums.iter_mut().for_each(|x| *x = in_binary16(*x));
        }
        Portable.apply(&sums, to, self.over(epilogue)?)
    }
}

impl<A, B, F> Convolve<A, B, F> for Mistaken
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn convolve(
        &mut self,
        shape: Convolution,
        input: &[A],
        weight: &[B],
        to: &mut [F],
        epilogue: Epilogue<'_, HostSpace>,
    ) -> Result<(), PortableError> {
        let (input, weight) = (self.image(shape, input), self.kernel(shape, weight));
        self.end(to, epilogue, |to, end| Portable.convolve(shape, &input, &weight, to, end))
    }

    fn convolve_input(
        &mut self,
        shape: Convolution,
        gradient: &[A],
        weight: &[B],
        to: &mut [F],
        epilogue: Epilogue<'_, HostSpace>,
    ) -> Result<(), PortableError> {
        let weight = self.kernel(shape, weight);
        self.end(to, epilogue, |to, end| Portable.convolve_input(shape, gradient, &weight, to, end))
    }

    fn convolve_weight(
        &mut self,
        shape: Convolution,
        gradient: &[A],
        input: &[B],
        to: &mut [F],
        epilogue: Epilogue<'_, HostSpace>,
    ) -> Result<(), PortableError> {
        let (input, mut gradient) = (self.image(shape, input), gradient.to_vec());
        if self.makes(Mistake::ForgetsAnImage) && shape.batch > 1 {
            let kept = gradient.len() / shape.batch * (shape.batch - 1);
            gradient[kept..].fill(A::from_bits(0));
        }
        self.end(to, epilogue, |to, end| {
            Portable.convolve_weight(shape, &gradient, &input, to, end)
        })
    }
}

impl<E: Element + Plain> MaxPool<E> for Mistaken {
    fn max_pool(
        &mut self,
        shape: Pooling,
        input: &[E],
        to: &mut [E],
        places: &mut [u32],
    ) -> Result<(), PortableError> {
        // The order in which this device compares, as patterns that the portable one compares.
        match self.mistake {
            Mistake::DropsNan => {
                let least = -f32::INFINITY;
                let seen = |x: &E| if x.widen().is_nan() { least } else { x.widen() };
                let seen: Vec<f32> = input.iter().map(seen).collect();
                Portable.max_pool(shape, &seen, &mut vec![0.0; to.len()], places)?;
            }
            Mistake::TakesTheLast => {
                // Later elements are a little greater.
                let seen = |(at, x): (usize, &E)| {
                    f32::from_bits((x.widen() + 1000.0).to_bits() + (at / shape.channels) as u32)
                };
                let seen: Vec<f32> = input.iter().enumerate().map(seen).collect();
                Portable.max_pool(shape, &seen, &mut vec![0.0; to.len()], places)?;
            }
            _ => Portable.max_pool(shape, input, to, places)?,
        }
        Portable.pick(shape, input, places, to)?;
        if self.makes(Mistake::SeesPadding) && shape.padding != [0, 0] {
            let below = |x: &&mut E| x.widen() < 0.0;
            to.iter_mut().filter(below).for_each(|x| *x = E::from_bits(0));
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
        match Portable.unpool(shape, from, places, to) {
            Err(PortableError::Shape { what: "unpooling" })
                if self.makes(Mistake::UnpoolsOverlaps) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    fn pick(
        &mut self,
        shape: Pooling,
        from: &[E],
        places: &[u32],
        to: &mut [E],
    ) -> Result<(), PortableError> {
        Portable.pick(shape, from, places, to)
    }
}

impl<E: Element + Plain> SumPool<E> for Mistaken {
    fn average_pool(
        &mut self,
        shape: Pooling,
        input: &[E],
        to: &mut [E],
        epilogue: Epilogue<'_, HostSpace>,
    ) -> Result<(), PortableError> {
        let length = to.len();
        let mut means = results(length, |to, end| {
            let input: Vec<f32> = input.iter().map(|x| x.widen()).collect();
            Portable.average_pool(shape, &input, to, end)
        })?;
        if self.makes(Mistake::ForgetsPaddingInMeans) {
            let ones = vec![1.0_f32; input.len()];
            let shares = results(length, |to, end| Portable.average_pool(shape, &ones, to, end))?;
            means.iter_mut().zip(shares).for_each(|(mean, share)| *mean /= share);
        }
        self.end(to, epilogue, |to, _| {
            to.copy_from_slice(&means);
            Ok(())
        })
    }

    fn average_pool_input(
        &mut self,
        shape: Pooling,
        gradient: &[E],
        to: &mut [E],
        epilogue: Epilogue<'_, HostSpace>,
    ) -> Result<(), PortableError> {
        Portable.average_pool_input(shape, gradient, to, self.over(epilogue)?)
    }

    fn max_pool_input(
        &mut self,
        shape: Pooling,
        gradient: &[E],
        places: &[u32],
        to: &mut [E],
        epilogue: Epilogue<'_, HostSpace>,
    ) -> Result<(), PortableError> {
        let mut gradient = gradient.to_vec();
        if self.makes(Mistake::OverwritesGradients) {
            let of_image = shape.lengths()[1].checked_div(shape.batch).unwrap_or(0).max(1);
            for index in 0..gradient.len().min(places.len()) {
                let is_same = |&other: &usize| {
                    other % shape.channels == index % shape.channels
                        && other / of_image == index / of_image
                        && places[other] == places[index]
                };
                if (index + 1..gradient.len()).any(|other| is_same(&other)) {
                    gradient[index] = E::from_bits(0);
                }
            }
        }
        Portable.max_pool_input(shape, &gradient, places, to, self.over(epilogue)?)
    }
}
