//! Convolutions against a direct loop in f64, and their epilogues against the core.

use adaloss_conformance as conformance;
use adaloss_core::{
    apply::Apply,
    format::{E5M2, Element, Format, Narrowing, Noise, f16},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_cpu::Cpu;
use adaloss_hal::{
    Plain, Run,
    network::{Convolution, Convolve, ConvolveInput, ConvolveWeight},
};

use super::operands::{integers, reals, run, shapes};

/// Which of the three operations.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    Forward,
    Input,
    Weight,
}

impl Direction {
    pub(crate) const ALL: [Self; 3] = [Self::Forward, Self::Input, Self::Weight];

    /// Returns the places of the two operands and the result among input, weight and output.
    fn roles(self) -> [usize; 3] {
        match self {
            Self::Forward => [0, 1, 2],
            Self::Input => [2, 1, 0],
            Self::Weight => [2, 0, 1],
        }
    }

    /// Returns the elements of the two operands and the result.
    pub(crate) fn lengths(self, shape: Convolution) -> [usize; 3] {
        self.roles().map(|role| shape.lengths()[role])
    }

    /// Returns the bias of the forward pass.
    fn bias(self, shape: Convolution) -> Vec<f32> {
        match self {
            Self::Forward => integers(5, shape.filters),
            Self::Input | Self::Weight => Vec::new(),
        }
    }

    pub(crate) fn run<A, B, F>(
        self,
        cpu: &mut Cpu,
        shape: Convolution,
        (a, b): (&[A], &[B]),
        narrowing: Narrowing,
        scale: Scale,
    ) -> super::operands::Readout<F>
    where
        A: Element + Plain,
        B: Element + Plain,
        F: Element + Plain,
    {
        let ([_, _, count], bias) = (self.lengths(shape), self.bias(shape));
        run(count, narrowing, scale, |to, epilogue| match self {
            Self::Forward => {
                let (convolution, input, weight, bias) = (shape, a, b, Some(&bias[..]));
                cpu.run(Convolve { convolution, input, weight, bias, to, epilogue })
            }
            Self::Input => {
                let (convolution, gradient, weight) = (shape, a, b);
                cpu.run(ConvolveInput { convolution, gradient, weight, to, epilogue })
            }
            Self::Weight => {
                let (convolution, gradient, input) = (shape, a, b);
                cpu.run(ConvolveWeight { convolution, gradient, input, to, epilogue })
            }
        })
    }

    /// Computes each sum, the sum of its magnitudes and the number of its terms in f64.
    fn direct<A: Element, B: Element>(self, shape: Convolution, a: &[A], b: &[B]) -> Vec<[f64; 3]> {
        let mut sums = vec![[0.0; 3]; self.lengths(shape)[2]];
        for (sum, start) in sums.iter_mut().zip(self.bias(shape).into_iter().cycle()) {
            *sum = [f64::from(start), f64::from(start.abs()), 1.0];
        }
        each_term(shape, |places| {
            let [a_at, b_at, to] = self.roles().map(|role| places[role]);
            let term = f64::from(a[a_at].widen()) * f64::from(b[b_at].widen());
            let sum = &mut sums[to];
            *sum = [sum[0] + term, sum[1] + term.abs(), sum[2] + 1.0];
        });
        sums
    }
}

/// Calls `take` with the places in input, weight and output of each product of a convolution.
fn each_term(shape: Convolution, mut take: impl FnMut([usize; 3])) {
    let Convolution { batch, input, channels, filters, kernel, stride, padding, .. } = shape;
    let Convolution { dilation, groups, .. } = shape;
    let [height, width] = shape.output().expect("a convolution");
    let (of_group, filters_of_group) = (channels / groups, filters / groups);
    let source = |axis: usize, at: usize, tap: usize| {
        let padded = at * stride[axis] + tap * dilation[axis];
        padded.checked_sub(padding[axis]).filter(|&x| x < input[axis])
    };
    for pixel in 0..batch * height * width {
        let (n, row, column) = (pixel / (height * width), pixel / width % height, pixel % width);
        for tap in 0..kernel[0] * kernel[1] {
            let Some(y) = source(0, row, tap / kernel[1]) else { continue };
            let Some(x) = source(1, column, tap % kernel[1]) else { continue };
            for filter in 0..filters {
                for channel in 0..of_group {
                    let group = filter / filters_of_group;
                    take([
                        ((n * input[0] + y) * input[1] + x) * channels + group * of_group + channel,
                        (filter * kernel[0] * kernel[1] + tap) * of_group + channel,
                        pixel * filters + filter,
                    ]);
                }
            }
        }
    }
}

fn check<A: Element + Plain, B: Element + Plain>() {
    let narrowing = Narrowing::to(Format::BINARY32);
    let mut cpu = Cpu::new(2).expect("two threads");
    for shape in shapes() {
        for direction in Direction::ALL {
            let [left, right, _] = direction.lengths(shape);
            let (a, b) = (integers::<A>(1, left), integers::<B>(2, right));
            let found = direction.run(&mut cpu, shape, (&a, &b), narrowing, Scale::ONE);
            for (index, [sum, ..]) in direction.direct(shape, &a, &b).into_iter().enumerate() {
                let found: f32 = found.results[index];
                assert_eq!(found.to_bits(), (sum as f32 + 0.0).to_bits(), "{direction:?} {shape}");
            }
            let (a, b) = (reals::<A>(3, left), reals::<B>(4, right));
            let found =
                direction.run::<_, _, f32>(&mut cpu, shape, (&a, &b), narrowing, Scale::ONE);
            let sums = direction.direct(shape, &a, &b);
            for (found, [sum, magnitude, terms]) in found.results.iter().zip(sums) {
                let error = (f64::from(*found) - sum).abs();
                let bound = terms * magnitude * conformance::UNIT;
                assert!(error <= bound, "{direction:?} {shape}: {found} for {sum}");
            }
        }
    }
}

#[test]
fn sums_of_binary16_are_right() {
    check::<f16, f16>();
}

#[test]
fn sums_of_eight_bits_are_right() {
    check::<E5M2, f16>();
}

#[test]
fn sums_of_binary32_are_right() {
    check::<f32, f32>();
}

/// The f32 sums do not depend on the format they are narrowed to, so that one run tells another's
/// results, outcome and histogram.
#[test]
fn the_epilogue_is_the_core_s() {
    let mut cpu = Cpu::new(2).expect("two threads");
    let wide = Narrowing::to(Format::BINARY32);
    let narrowing = Narrowing::to(Format::E5M2);
    for shape in shapes() {
        for direction in Direction::ALL {
            let [left, right, count] = direction.lengths(shape);
            let (a, b) = (reals::<f16>(3, left), reals::<f16>(4, right));
            let sums = direction.run::<_, _, f32>(&mut cpu, shape, (&a, &b), wide, Scale::ONE);
            let scale = Scale::saturating(12);
            let found = direction.run::<_, _, E5M2>(&mut cpu, shape, (&a, &b), narrowing, scale);
            let shift = scale / Scale::ONE;
            let apply = Apply { narrowing, shift, noise: Noise::default() };
            let (mut outcome, mut histogram) = (Outcome::EMPTY, Histogram::new(narrowing));
            for (index, &x) in sums.results.iter().enumerate() {
                let expected = apply.element(x, index as u64, &mut outcome);
                assert_eq!(found.results[index].to_bits(), expected, "{direction:?} {shape}");
                histogram.observe_one(x, Scale::ONE);
            }
            assert_eq!(outcome.elements, count as u64);
            assert_eq!((found.outcome, found.histogram), (outcome, histogram));
        }
    }
}

/// What lies outside the image is not there: zero times infinity would be NaN.
#[test]
fn infinity_at_the_edge_meets_no_padding() {
    let plain = Convolution::new(1, [3; 2], 1, 1, [3; 2]).padding([1; 2]);
    let dilated = plain.padding([2; 2]).dilation([2; 2]);
    // No window reaches the last row and column.
    let short = Convolution::new(1, [7; 2], 1, 1, [2; 2]).stride([2; 2]);
    let narrowing = Narrowing::to(Format::BINARY32);
    let mut cpu = Cpu::new(1).expect("one thread");
    let shapes = [plain, dilated, short].into_iter();
    for (shape, direction) in shapes.flat_map(|shape| Direction::ALL.map(|of| (shape, of))) {
        for [of_left, of_right] in [[f16::INFINITY, f16::ONE], [f16::ONE, f16::INFINITY]] {
            let [left, right, _] = direction.lengths(shape);
            let (mut a, mut b) = (vec![f16::ONE; left], vec![f16::ONE; right]);
            (a[0], b[0]) = (of_left, of_right);
            let found =
                direction.run::<_, _, f32>(&mut cpu, shape, (&a, &b), narrowing, Scale::ONE);
            let expected = direction.direct(shape, &a, &b);
            let expected: Vec<_> = expected.into_iter().map(|[sum, ..]| sum as f32).collect();
            assert_eq!(found.results, expected, "{direction:?} {shape}");
        }
    }
}
