//! Convolution and pooling, with their mistakes.

use adaloss_core::format::Element;
use adaloss_hal::{
    Epilogue, Error, Fitting, HostError, HostSpace, Misfit, MisfitCause, Narrow, Operation, Plain,
    Run,
    network::{
        AveragePool, AveragePoolInput, Convolution, Convolve, ConvolveInput, ConvolveWeight,
        MaxPool, MaxPoolInput, Pick, Pooling, Unpool,
    },
    portable::Portable,
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

    /// Returns the bias as this device sees it; the parts of its sums have four terms.
    fn bias(&self, shape: Convolution, bias: Option<&[f32]>) -> Option<Vec<f32>> {
        let parts = shape.fan_in().div_ceil(4) as f32;
        let seen = |bias: &[f32], factor: f32| bias.iter().map(|x| factor * x).collect();
        match self.mistake {
            Mistake::StartsAtZero => None,
            Mistake::StartsEachPart => bias.map(|bias| seen(bias, parts)),
            _ => bias.map(|bias| seen(bias, 1.0)),
        }
    }

    /// Convolves as if the kernel had no dilation, if that is the mistake and there is such a convolution.
    fn undilated<A: Element + Plain, B: Element + Plain>(
        &self,
        shape: Convolution,
        (input, weight, bias): (&[A], &[B], Option<&[f32]>),
        to: &mut [f32],
    ) -> Result<bool, HostError> {
        let convolution = shape.dilation([1; 2]);
        let (Some([_, columns]), Some([more_rows, more_columns])) =
            (shape.output(), convolution.output())
        else {
            return Ok(false);
        };
        if !self.makes(Mistake::IgnoresDilation) || shape == convolution {
            return Ok(false);
        }
        let [_, _, count] = convolution.lengths();
        let sums = results(count, |to, epilogue| {
            Portable.run(Convolve { convolution, input, weight, bias, to, epilogue })
        })?;
        // Smaller windows are more; the shape has the first ones down and right.
        let image = to.len() / shape.batch.max(1);
        for (index, to) in to.iter_mut().enumerate() {
            let (n, row) = (index / image, index % image / (columns * shape.filters));
            let (column, filter) = (index / shape.filters % columns, index % shape.filters);
            let at = ((n * more_rows + row) * more_columns + column) * shape.filters + filter;
            *to = sums[at];
        }
        Ok(true)
    }

    /// Ends an operation of the portable device.
    fn end<'e, F: Element + Plain>(
        &self,
        to: &'e mut [F],
        epilogue: Epilogue<'e, HostSpace>,
        operation: impl for<'w> FnOnce(&'w mut [f32], Epilogue<'w, HostSpace>) -> Result<(), HostError>,
    ) -> Result<(), HostError> {
        let mut sums = results(to.len(), operation)?;
        if self.makes(Mistake::NarrowAccumulator) {
            sums.iter_mut().for_each(|x| *x = in_binary16(*x));
        }
        Portable.run(Narrow { input: &sums[..], to, epilogue })
    }

    /// Runs an operation; takes a shape that does not exist for an empty one, if that is the mistake.
    fn submit_possible<O>(&mut self, operation: &mut O) -> Result<(), HostError>
    where
        O: Operation<Space = HostSpace>,
        Self: Run<O>,
    {
        let fitting = match Fitting::of(operation, self) {
            Err(Misfit { cause: MisfitCause::Shape, .. })
                if self.makes(Mistake::TakesImpossibleShapes) =>
            {
                return Ok(());
            }
            fitting => fitting.map_err(HostError::misfit)?,
        };
        self.execute(fitting)
    }
}

impl<A, B, F> Run<Convolve<'_, '_, HostSpace, A, B, F>> for Mistaken
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
        let (convolution, bias) = (*convolution, self.bias(*convolution, *bias));
        let bias = bias.as_deref();
        let (input, weight) = (self.image(convolution, input), self.kernel(convolution, weight));
        let (input, weight) = (&input[..], &weight[..]);
        self.end(to, epilogue.reborrow(), |to, epilogue| {
            if self.undilated(convolution, (input, weight, bias), to)? {
                return Ok(());
            }
            Portable.run(Convolve { convolution, input, weight, bias, to, epilogue })
        })
    }

    fn submit(
        &mut self,
        operation: &mut Convolve<'_, '_, HostSpace, A, B, F>,
    ) -> Result<(), HostError> {
        self.submit_possible(operation)
    }
}

impl<A, B, F> Run<ConvolveInput<'_, '_, HostSpace, A, B, F>> for Mistaken
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
        let (convolution, gradient) = (*convolution, *gradient);
        let weight = self.kernel(convolution, weight);
        self.end(to, epilogue.reborrow(), |to, epilogue| {
            let weight = &weight[..];
            Portable.run(ConvolveInput { convolution, gradient, weight, to, epilogue })
        })
    }

    fn submit(
        &mut self,
        operation: &mut ConvolveInput<'_, '_, HostSpace, A, B, F>,
    ) -> Result<(), HostError> {
        self.submit_possible(operation)
    }
}

impl<A, B, F> Run<ConvolveWeight<'_, '_, HostSpace, A, B, F>> for Mistaken
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
        let convolution = *convolution;
        let (input, mut gradient) = (self.image(convolution, input), gradient.to_vec());
        if self.makes(Mistake::ForgetsAnImage) && convolution.batch > 1 {
            let kept = gradient.len() / convolution.batch * (convolution.batch - 1);
            gradient[kept..].fill(A::from_bits(0));
        }
        let (gradient, input) = (&gradient[..], &input[..]);
        self.end(to, epilogue.reborrow(), |to, epilogue| {
            Portable.run(ConvolveWeight { convolution, gradient, input, to, epilogue })
        })
    }

    fn submit(
        &mut self,
        operation: &mut ConvolveWeight<'_, '_, HostSpace, A, B, F>,
    ) -> Result<(), HostError> {
        self.submit_possible(operation)
    }
}

/// Finds the indices that the portable device takes, of elements as a mistaken one sees them.
fn take<E: Element + Plain>(
    pooling: Pooling,
    input: &[E],
    indices: &mut [u32],
) -> Result<(), HostError> {
    let mut to = vec![E::from_bits(0); indices.len()];
    Portable.run(MaxPool { pooling, input, to: &mut to[..], indices })
}

impl<E: Element + Plain> Run<MaxPool<'_, '_, HostSpace, E>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, MaxPool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let MaxPool { pooling, input, to, indices } = operation.into_inner();
        let (pooling, input) = (*pooling, *input);
        // The order in which this device compares, as patterns that the portable one compares.
        match self.mistake {
            Mistake::DropsNan => {
                let least = -f32::INFINITY;
                let seen = |x: &E| if x.widen().is_nan() { least } else { x.widen() };
                let seen: Vec<f32> = input.iter().map(seen).collect();
                take(pooling, &seen, indices)?;
            }
            Mistake::TakesTheLast => {
                // Later elements are a little greater.
                let seen = |(at, x): (usize, &E)| {
                    f32::from_bits((x.widen() + 1000.0).to_bits() + (at / pooling.channels) as u32)
                };
                let seen: Vec<f32> = input.iter().enumerate().map(seen).collect();
                take(pooling, &seen, indices)?;
            }
            _ => take(pooling, input, indices)?,
        }
        Portable.run(Pick { pooling, input, indices: &indices[..], to: &mut **to })?;
        if self.makes(Mistake::SeesPadding) && pooling.padding != [0, 0] {
            let below = |x: &&mut E| x.widen() < 0.0;
            to.iter_mut().filter(below).for_each(|x| *x = E::from_bits(0));
        }
        Ok(())
    }
}

impl<E: Element + Plain> Run<Unpool<'_, '_, HostSpace, E>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unpool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        Portable.execute(operation)
    }

    fn submit(&mut self, operation: &mut Unpool<'_, '_, HostSpace, E>) -> Result<(), HostError> {
        let fitting = match Fitting::of(operation, self) {
            Err(Misfit { cause: MisfitCause::Missing(_), .. })
                if self.makes(Mistake::UnpoolsOverlaps) =>
            {
                return Ok(());
            }
            fitting => fitting.map_err(HostError::misfit)?,
        };
        self.execute(fitting)
    }
}

impl<E: Element + Plain> Run<Pick<'_, '_, HostSpace, E>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Pick<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        Portable.execute(operation)
    }
}

impl<E: Element + Plain> Run<AveragePool<'_, '_, HostSpace, E>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, AveragePool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let AveragePool { pooling, input, to, epilogue } = operation.into_inner();
        let (pooling, length) = (*pooling, to.len());
        let mean = |input: &[f32]| {
            results(length, |to, epilogue| {
                Portable.run(AveragePool { pooling, input, to, epilogue })
            })
        };
        let mut means = mean(&input.iter().map(|x| x.widen()).collect::<Vec<_>>())?;
        if self.makes(Mistake::ForgetsPaddingInMeans) {
            let shares = mean(&vec![1.0; input.len()])?;
            means.iter_mut().zip(shares).for_each(|(mean, share)| *mean /= share);
        }
        self.end(to, epilogue.reborrow(), |to, _| {
            to.copy_from_slice(&means);
            Ok(())
        })
    }
}

impl<E: Element + Plain> Run<AveragePoolInput<'_, '_, HostSpace, E>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, AveragePoolInput<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        Portable.execute(operation)
    }
}

impl<E: Element + Plain> Run<MaxPoolInput<'_, '_, HostSpace, E>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, MaxPoolInput<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let MaxPoolInput { pooling, gradient, indices, to, epilogue } = operation.into_inner();
        let (pooling, indices) = (*pooling, *indices);
        let mut gradient = gradient.to_vec();
        if self.makes(Mistake::OverwritesGradients) {
            let of_image = gradient.len().checked_div(pooling.batch).unwrap_or(0).max(1);
            for index in 0..gradient.len() {
                let is_same = |&other: &usize| {
                    other % pooling.channels == index % pooling.channels
                        && other / of_image == index / of_image
                        && indices[other] == indices[index]
                };
                if (index + 1..gradient.len()).any(|other| is_same(&other)) {
                    gradient[index] = E::from_bits(0);
                }
            }
        }
        let (gradient, to, epilogue) = (&gradient[..], &mut **to, epilogue.reborrow());
        Portable.run(MaxPoolInput { pooling, gradient, indices, to, epilogue })
    }
}
