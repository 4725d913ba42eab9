//! Batch and layer normalisation, centred or not: the same formulas over columns or rows.
//!
//! Moments and sums are added up in f64 and rounded once, so that devices which add up in another order come to the same bits.

use adaloss_core::format::Element;

use crate::{
    host::HostError,
    host::Sink,
    network::{Moments, Normalise, NormaliseInput, NormaliseSums},
    plain::Plain,
    portable::Portable,
    run::{Fitting, Run},
    shape::{Axis, Normalisation},
    space::HostSpace,
};

impl<W: Element + Plain> Run<Moments<'_, '_, HostSpace, W>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Moments<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Moments { normalisation, input, to } = operation.into_inner();
        let shape = *normalisation;
        let (means, variances) = to.split_at_mut(shape.groups());
        for (group, (to_mean, variance)) in means.iter_mut().zip(variances).enumerate() {
            let places = places(shape, group);
            let mean = match shape.centred {
                true => mean(places.clone().map(|place| f64::from(input[place].widen()))),
                false => 0.0,
            };
            *to_mean = mean as f32;
            *variance = self::mean(places.map(|place| {
                let distance = f64::from(input[place].widen()) - mean;
                distance * distance
            })) as f32;
        }
        Ok(())
    }
}

impl<W: Element + Plain> Run<Normalise<'_, '_, HostSpace, W>> for Portable {
    fn execute(
        &mut self,
        operation: Fitting<'_, Normalise<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Normalise { normalisation, input, moments, affine, to, epilogue } =
            operation.into_inner();
        let shape = *normalisation;
        let forward = Forward::new(shape, input, moments);
        let (gains, offsets) = affine.split_at(shape.columns);
        Sink::open(epilogue.reborrow())?.each(0, to, |place| {
            let column = place % shape.columns;
            gains[column] * forward.hat(place) + offsets[column]
        })
    }
}

impl<G, W> Run<NormaliseSums<'_, '_, HostSpace, G, W>> for Portable
where
    G: Element + Plain,
    W: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, NormaliseSums<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let NormaliseSums { normalisation, gradient, input, moments, to } = operation.into_inner();
        let shape = *normalisation;
        let forward = Forward::new(shape, input, moments);
        let (of_gains, of_offsets) = to.split_at_mut(shape.columns);
        for (column, (of_gain, of_offset)) in of_gains.iter_mut().zip(of_offsets).enumerate() {
            let (mut gains, mut offsets) = (0.0_f64, 0.0_f64);
            for place in (column..shape.elements()).step_by(shape.columns) {
                let gradient = gradient[place].widen();
                gains += f64::from(gradient * forward.hat(place));
                offsets += f64::from(gradient);
            }
            (*of_gain, *of_offset) = (gains as f32, offsets as f32);
        }
        Ok(())
    }
}

impl<G, W> Run<NormaliseInput<'_, '_, HostSpace, G, W>> for Portable
where
    G: Element + Plain,
    W: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, NormaliseInput<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let NormaliseInput { normalisation, gradient, input, moments, affine, sums, to, epilogue } =
            operation.into_inner();
        let shape = *normalisation;
        let forward = Forward::new(shape, input, moments);
        let Normalisation { rows, columns, axis, .. } = shape;
        let h = |place: usize| affine[place % columns] * gradient[place].widen();
        let centre = |mean: f32| if shape.centred { mean } else { 0.0 };
        let mut sink = Sink::open(epilogue.reborrow())?;
        for row in 0..rows {
            let places = row * columns..(row + 1) * columns;
            // The means of h and of h x̂: of the row's own, or what the column's sums say.
            let of_row = (axis == Axis::Columns).then(|| {
                let with_hat = places.clone().map(|place| f64::from(h(place) * forward.hat(place)));
                [mean(places.clone().map(|place| f64::from(h(place)))), mean(with_hat)]
                    .map(|mean| mean as f32)
            });
            let of_column = |column: usize| {
                [sums[columns + column], sums[column]].map(|sum| affine[column] * sum / rows as f32)
            };
            sink.each(places.start, &mut to[places], |place| {
                let [mean, with_hat] = of_row.unwrap_or_else(|| of_column(place % columns));
                let hat = forward.hat(place);
                (h(place) - centre(mean) - hat * with_hat) / forward.deviation(place)
            })?;
        }
        Ok(())
    }
}

/// The forward pass: an input and its moments.
struct Forward<'a, W> {
    shape: Normalisation,
    input: &'a [W],
    means: &'a [f32],
    variances: &'a [f32],
}

impl<'a, W: Element> Forward<'a, W> {
    fn new(shape: Normalisation, input: &'a [W], moments: &'a [f32]) -> Self {
        let (means, variances) = moments.split_at(shape.groups());
        Self { shape, input, means, variances }
    }

    /// Returns the column or row whose moments are those of an element.
    fn group(&self, place: usize) -> usize {
        match self.shape.axis {
            Axis::Rows => place % self.shape.columns,
            Axis::Columns => place / self.shape.columns,
        }
    }

    /// Returns `sqrt(variance + epsilon)`.
    fn deviation(&self, place: usize) -> f32 {
        libm::sqrtf(self.variances[self.group(place)] + self.shape.epsilon)
    }

    /// Returns `x̂`.
    fn hat(&self, place: usize) -> f32 {
        (self.input[place].widen() - self.means[self.group(place)]) / self.deviation(place)
    }
}

/// Returns the elements that one mean is taken over.
fn places(shape: Normalisation, group: usize) -> impl Iterator<Item = usize> + Clone {
    let Normalisation { columns, axis, .. } = shape;
    match axis {
        Axis::Rows => (group..shape.elements()).step_by(columns),
        Axis::Columns => (group * columns..(group + 1) * columns).step_by(1),
    }
}

/// Returns the mean; 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), x| (sum + x, count + 1));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}
