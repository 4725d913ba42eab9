//! `normalise` and its parts: over rows and columns, near zero and far from it.

mod refusals;

use adaloss_core::format::Element;

use crate::{
    Case, Failure,
    bench::{Bench, pattern},
    near::Near,
    results::Expected,
    tensor::Tensor,
    values,
};
use adaloss_hal::{
    Memory, Plain,
    network::{
        Axis, HasNormalise, Moments, Normalisation, Normalise, NormaliseInput, NormaliseSums,
    },
};

/// Rows and columns.
const SHAPES: [[usize; 2]; 11] = [
    [1, 1],
    [2, 3],
    [7, 5],
    [1, 9],
    [9, 1],
    [16, 16],
    [33, 65],
    [130, 3],
    [3, 130],
    [0, 4],
    [4, 0],
];

/// A usual epsilon, and one that is seen in every result.
const EPSILONS: [f32; 2] = [1.0e-5, 0.25];

/// What the input is.
#[derive(Clone, Copy)]
enum Kind {
    /// Numbers of six binades around 1.
    Reals,
    /// Numbers that are far from zero and near to each other, as far as the format has them.
    Far,
    /// The same number everywhere, with a variance of zero.
    Constant,
    /// As `Reals`, with a NaN.
    NonFinite,
}

pub(super) fn check<W, G, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasNormalise<W, G>,
{
    for (turn, [rows, columns]) in (0..).zip(SHAPES) {
        for (nth, axis) in (0..).zip([Axis::Rows, Axis::Columns]) {
            let epsilon = EPSILONS[(turn + nth) as usize % 2];
            let shape = Normalisation { rows, columns, axis, centred: true, epsilon };
            let stream = 2 * turn + nth;
            for kind in [Kind::Reals, Kind::Far, Kind::Constant] {
                Layer { shape, stream, kind }.check::<W, G, D>(bench)?;
            }
            // What is far from zero is no other case where it is not centred.
            let shape = Normalisation { centred: false, ..shape };
            Layer { shape, stream, kind: Kind::Reals }.check::<W, G, D>(bench)?;
        }
    }
    let kinds =
        [(Axis::Rows, true), (Axis::Columns, true), (Axis::Rows, false), (Axis::Columns, false)];
    for (stream, (axis, centred)) in (0..).zip(kinds) {
        let shape = Normalisation { rows: 5, columns: 7, axis, centred, epsilon: 1.0e-5 };
        Layer { shape, stream, kind: Kind::NonFinite }.check::<W, G, D>(bench)?;
        let shape = Normalisation { rows: 8, columns: 8, axis, centred, epsilon: 1.0 };
        for turn in 0..10 {
            check_exact_output::<W, G, D>(bench, shape, turn)?;
            check_exact_input::<W, G, D>(bench, shape, turn)?;
        }
        refusals::check::<W, G, D>(bench, shape)?;
    }
    Ok(())
}

/// A normalisation of known values.
#[derive(Clone, Copy)]
struct Layer {
    shape: Normalisation,
    stream: u32,
    kind: Kind,
}

impl Layer {
    fn input<W: Element>(self, index: usize) -> W {
        match self.kind {
            Kind::NonFinite if index == 9 => W::from_bits(W::ENCODING.nan_bits()),
            Kind::Reals | Kind::NonFinite => values::moderate(self.stream, index),
            Kind::Constant => values::moderate(self.stream, 0),
            Kind::Far => {
                // Where the last place is 1; in f32 nearer, so that a right sum keeps the digits.
                let far = values::exp2((W::ENCODING.precision() as i32 - 1).min(13));
                let x = far as f32 + (values::word(self.stream, index) >> 16 & 3) as f32;
                W::narrow(x, values::native_narrowing::<W>(), 0, 0)
            }
        }
    }

    fn gradient<G: Element>(self, index: usize) -> G {
        values::moderate(self.stream + 1000, index)
    }

    /// Returns the gain, or beyond the columns the offset.
    fn affine(self, index: usize) -> f32 {
        values::random(self.stream + 2000, index, -2, 2)
    }

    /// Returns the elements of a column or row that share their moments.
    fn places(self, group: usize) -> (usize, impl Iterator<Item = usize> + Clone) {
        let Normalisation { rows, columns, axis, .. } = self.shape;
        let (count, first, step) = match axis {
            Axis::Rows => (rows, group, columns),
            Axis::Columns => (columns, group * columns, 1),
        };
        (count, (0..count).map(move |nth| first + nth * step))
    }

    fn group(self, index: usize) -> usize {
        match self.shape.axis {
            Axis::Rows => index % self.shape.columns,
            Axis::Columns => index / self.shape.columns,
        }
    }

    /// Returns a mean, or exactly 0 where it is not centred.
    fn centre(self, mean: impl FnOnce() -> Near) -> Near {
        if self.shape.centred { mean() } else { Near::exact(0.0) }
    }

    /// Returns a mean, or beyond the groups a biased variance; 0 and the mean of the squares where it is not centred.
    fn moment<W: Element>(self, index: usize) -> Near {
        let groups = self.shape.groups();
        let (count, places) = self.places(index % groups);
        let x = |place| Near::exact(self.input::<W>(place).widen());
        let mean = self.centre(|| Near::mean(count, places.clone().map(x)));
        if index < groups {
            return mean;
        }
        let squares = places.map(|place| {
            let distance = x(place) - mean;
            distance * distance
        });
        Near::mean(count, squares)
    }

    /// Returns the moment that the operations after `moments` are given.
    fn given<W: Element>(self, index: usize) -> f32 {
        self.moment::<W>(index).value as f32
    }

    /// Returns `sqrt(variance + epsilon)` of a group.
    fn deviation<W: Element>(self, group: usize) -> Near {
        let variance = Near::exact(self.given::<W>(self.shape.groups() + group));
        (variance + Near::exact(self.shape.epsilon)).sqrt()
    }

    /// Returns `x̂` of an element, given the moments of its group.
    fn hat<W: Element>(self, index: usize, mean: f32, deviation: Near) -> Near {
        (Near::exact(self.input::<W>(index).widen()) - Near::exact(mean)) / deviation
    }

    /// Returns `x̂`, working its moments out.
    fn slow_hat<W: Element>(self, index: usize) -> Near {
        let group = self.group(index);
        self.hat::<W>(index, self.given::<W>(group), self.deviation::<W>(group))
    }

    /// Returns a gain's gradient, or beyond the columns an offset's.
    fn sum<W: Element, G: Element>(self, index: usize) -> Near {
        let Normalisation { rows, columns, axis, .. } = self.shape;
        let column = index % columns;
        let places = (0..rows).map(|row| row * columns + column);
        let gradient = |place| Near::exact(self.gradient::<G>(place).widen());
        if index >= columns {
            return Near::sum(places.map(gradient));
        }
        match axis {
            Axis::Columns => {
                Near::sum(places.map(|place| gradient(place) * self.slow_hat::<W>(place)))
            }
            Axis::Rows => {
                let (mean, deviation) = (self.given::<W>(column), self.deviation::<W>(column));
                let hat = |place| self.hat::<W>(place, mean, deviation);
                Near::sum(places.map(|place| gradient(place) * hat(place)))
            }
        }
    }

    /// Returns an element of the input's gradient.
    fn back<W: Element, G: Element>(self, index: usize) -> Near {
        let columns = self.shape.columns;
        let group = self.group(index);
        let (mean, deviation) = (self.given::<W>(group), self.deviation::<W>(group));
        let hat = |place| self.hat::<W>(place, mean, deviation);
        let h = |place: usize| {
            Near::exact(self.affine(place % columns))
                * Near::exact(self.gradient::<G>(place).widen())
        };
        let (count, places) = self.places(group);
        let mean = self.centre(|| Near::mean(count, places.clone().map(h)));
        let with_hat = Near::mean(count, places.map(|place| h(place) * hat(place)));
        (h(index) - mean - hat(index) * with_hat) / deviation
    }

    fn check<W, G, D>(self, bench: &mut Bench<'_, D>) -> Result<(), Failure>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Memory + HasNormalise<W, G>,
    {
        let Self { shape, stream, .. } = self;
        let elements = shape.elements();
        let case = |check, length| Case::new(check, length).of(shape);
        let setup = case("normalise (setup)", elements);
        let input = Tensor::<D, W>::filled(setup, bench.device, elements, |i| self.input(i))?;
        let input = input.view(setup)?;
        let mut moments = Tensor::<D, f32>::filled(setup, bench.device, shape.moments(), pattern)?;
        bench.writes(
            case("moments", shape.moments()),
            &mut moments,
            &pattern,
            |device, to| device.run(Moments { normalisation: shape, input, to }),
            &|index| Expected::Near(self.moment::<W>(index)),
        )?;
        moments.fill(setup, bench.device, |index| self.given::<W>(index))?;
        let moments = moments.view(setup)?;

        let affine = |index| self.affine(index);
        let affine = Tensor::<D, f32>::filled(setup, bench.device, shape.affine(), affine)?;
        let affine = affine.view(setup)?;
        let mut to = Tensor::<D, W>::filled(setup, bench.device, elements, pattern)?;
        bench.within(
            case("normalise", elements),
            stream,
            &mut to,
            &|device, to, epilogue| {
                device.run(Normalise { normalisation: shape, input, moments, affine, to, epilogue })
            },
            &|index| {
                let column = index % shape.columns;
                let gain = Near::exact(self.affine(column));
                let offset = Near::exact(self.affine(shape.columns + column));
                gain * self.slow_hat::<W>(index) + offset
            },
        )?;

        let gradient = |index| self.gradient::<G>(index);
        let gradient = Tensor::<D, G>::filled(setup, bench.device, elements, gradient)?;
        let gradient = gradient.view(setup)?;
        let mut sums = Tensor::<D, f32>::filled(setup, bench.device, shape.affine(), pattern)?;
        bench.writes(
            case("normalise_sums", shape.affine()),
            &mut sums,
            &pattern,
            |device, to| {
                device.run(NormaliseSums { normalisation: shape, gradient, input, moments, to })
            },
            &|index| Expected::Near(self.sum::<W, G>(index)),
        )?;
        sums.fill(setup, bench.device, |index| self.sum::<W, G>(index).value as f32)?;
        let sums = sums.view(setup)?;
        let mut to = Tensor::<D, G>::filled(setup, bench.device, elements, pattern)?;
        bench.within(
            case("normalise_input", elements),
            stream,
            &mut to,
            &|device, to, epilogue| {
                device.run(NormaliseInput {
                    normalisation: shape,
                    gradient,
                    input,
                    moments,
                    affine,
                    sums,
                    to,
                    epilogue,
                })
            },
            &|index| self.back::<W, G>(index),
        )
    }
}

/// Gains of zero leave the offsets, bit for bit.
fn check_exact_output<W, G, D>(
    bench: &mut Bench<'_, D>,
    shape: Normalisation,
    turn: u32,
) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasNormalise<W, G>,
{
    let (columns, elements) = (shape.columns, shape.elements());
    let case = Case::new("normalise with gains of zero", elements).of(shape);
    let affine = |index: usize| match index.checked_sub(columns) {
        Some(column) => values::random(turn, column, -6, 6),
        None => 0.0,
    };
    let input = |index| values::moderate::<W>(turn, index);
    let input = Tensor::<D, W>::filled(case, bench.device, elements, input)?;
    let moments = Tensor::<D, f32>::filled(case, bench.device, shape.moments(), |_| 0.5)?;
    let parameters = Tensor::<D, f32>::filled(case, bench.device, shape.affine(), affine)?;
    let mut to = Tensor::<D, W>::filled(case, bench.device, elements, pattern)?;
    let (input, moments) = (input.view(case)?, moments.view(case)?);
    let gains = parameters.view(case)?;
    bench.exactly(
        case,
        turn,
        &mut to,
        &|device, to, epilogue| {
            let normalisation = shape;
            device.run(Normalise { normalisation, input, moments, affine: gains, to, epilogue })
        },
        &|index| affine(columns + index % columns),
    )
}

/// An input without variance and an epsilon of 1 leave a gradient without its mean, or all of it where it is not centred: small
/// integers, whose mean over eight is exact.
fn check_exact_input<W, G, D>(
    bench: &mut Bench<'_, D>,
    shape: Normalisation,
    turn: u32,
) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasNormalise<W, G>,
{
    let Normalisation { rows, columns, axis, centred, .. } = shape;
    let elements = shape.elements();
    let case = Case::new("normalise_input without variance", elements).of(shape);
    let gain = |column: usize| values::exp2(column as i32 % 3 - 1) as f32;
    let gradient = |index| values::integer::<G>(turn, index).widen();
    let sum = |column: usize| (0..rows).map(|row| gradient(row * columns + column)).sum::<f32>();
    let everywhere = if centred { 3.0 } else { 0.0 };
    let x = W::narrow(everywhere, values::native_narrowing::<W>(), 0, 0);
    let input = Tensor::<D, W>::filled(case, bench.device, elements, |_| x)?;
    let moment = |index| if index < shape.groups() { everywhere } else { 0.0 };
    let moments = Tensor::<D, f32>::filled(case, bench.device, shape.moments(), moment)?;
    let affine = |index| if index < columns { gain(index) } else { 5.0 };
    let affine = Tensor::<D, f32>::filled(case, bench.device, shape.affine(), affine)?;
    let sums = |index: usize| index.checked_sub(columns).map_or(0.0, sum);
    let sums = Tensor::<D, f32>::filled(case, bench.device, shape.affine(), sums)?;
    let scaled = |index| values::integer::<G>(turn, index);
    let from = Tensor::<D, G>::filled(case, bench.device, elements, scaled)?;
    let mut to = Tensor::<D, G>::filled(case, bench.device, elements, pattern)?;
    let (input, moments) = (input.view(case)?, moments.view(case)?);
    let (affine, sums, from) = (affine.view(case)?, sums.view(case)?, from.view(case)?);
    bench.exactly(
        case,
        turn,
        &mut to,
        &|device, to, epilogue| {
            device.run(NormaliseInput {
                normalisation: shape,
                gradient: from,
                input,
                moments,
                affine,
                sums,
                to,
                epilogue,
            })
        },
        &|index| {
            let (row, column) = (index / columns, index % columns);
            let h = |index: usize| gain(index % columns) * gradient(index);
            let mean = match axis {
                _ if !centred => 0.0,
                Axis::Rows => gain(column) * sum(column) / rows as f32,
                Axis::Columns => {
                    let row = row * columns..(row + 1) * columns;
                    row.map(h).sum::<f32>() / columns as f32
                }
            };
            h(index) - mean
        },
    )
}
