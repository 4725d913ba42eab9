//! `convolve` and its gradients: windows of every kind, as sums of products.

use adaloss_core::format::Element;

use crate::{
    Case, Failure,
    bench::{Bench, Ending},
    near::{Near, Sum},
    refusal::Mutation,
    tensor::Tensor,
    values::{self, Kind},
};
use adaloss_hal::{
    Epilogue, ErrorKind, Memory, Mut, Plain, Ref,
    network::{Convolution, Convolve, ConvolveInput, ConvolveWeight, HasConvolve},
};

/// A single element, odd sizes, padding, strides, dilation, groups, kernels as large as the image and larger,
/// sizes beyond a tile, windows that are mostly padding, and nothing at all.
const SHAPES: [Convolution; 29] = [
    Convolution::new(1, [1, 1], 1, 1, [1, 1]),
    Convolution::new(2, [5, 7], 3, 4, [3, 3]),
    Convolution::new(2, [5, 7], 3, 4, [3, 3]).padding([1, 1]),
    Convolution::new(1, [8, 8], 16, 16, [3, 3]).padding([1, 1]),
    Convolution::new(3, [9, 6], 2, 5, [3, 2]).stride([2, 3]).padding([1, 0]),
    Convolution::new(1, [7, 7], 8, 8, [1, 1]),
    Convolution::new(2, [6, 6], 4, 6, [1, 1]).stride([2, 2]),
    Convolution::new(2, [6, 5], 6, 6, [3, 3]).padding([1, 1]).groups(6),
    Convolution::new(1, [5, 5], 4, 8, [3, 3]).padding([1, 1]).groups(2),
    Convolution::new(1, [5, 4], 3, 6, [2, 2]).groups(3),
    Convolution::new(1, [4, 4], 2, 3, [4, 4]),
    Convolution::new(1, [3, 3], 2, 2, [5, 5]).padding([2, 2]),
    Convolution::new(1, [12, 3], 1, 2, [7, 1]).stride([2, 1]).padding([3, 0]),
    Convolution::new(1, [9, 9], 2, 2, [2, 2]).stride([3, 4]),
    Convolution::new(1, [9, 7], 5, 33, [3, 3]).padding([1, 1]),
    Convolution::new(2, [7, 6], 3, 4, [3, 3]).padding([2, 2]).dilation([2, 2]),
    Convolution::new(1, [9, 11], 16, 16, [3, 3]).padding([0, 3]).dilation([1, 3]),
    Convolution::new(2, [11, 10], 2, 5, [3, 2]).stride([2, 3]).padding([4, 1]).dilation([3, 2]),
    Convolution::new(1, [8, 9], 4, 6, [2, 3]).stride([2, 1]).dilation([4, 2]).groups(2),
    Convolution::new(1, [7, 7], 4, 4, [3, 3]).padding([6, 6]).dilation([6, 6]).groups(4),
    Convolution::new(1, [2, 3], 3, 2, [3, 2]).padding([40, 37]).dilation([40, 39]),
    // Channels and filters in eights, of which some devices take one at a time.
    Convolution::new(2, [7, 6], 8, 16, [3, 3]).padding([1, 1]).stride([2, 2]),
    Convolution::new(1, [5, 9], 16, 72, [3, 2]).padding([2, 1]),
    Convolution::new(1, [6, 5], 24, 48, [3, 3]).padding([1, 1]).groups(3),
    Convolution::new(2, [5, 6], 40, 8, [1, 1]).stride([2, 3]),
    Convolution::new(1, [13, 9], 8, 8, [3, 3]).stride([2, 2]).padding([4, 3]).dilation([4, 3]),
    Convolution::new(0, [5, 5], 3, 2, [3, 3]),
    Convolution::new(2, [4, 4], 0, 3, [3, 3]),
    Convolution::new(2, [4, 4], 3, 0, [3, 3]),
];

/// Shapes that no convolution has.
const IMPOSSIBLE: [Convolution; 17] = [
    TYPICAL.stride([0, 1]),
    TYPICAL.stride([1, 0]),
    TYPICAL.padding([3, 0]),
    TYPICAL.padding([0, usize::MAX]),
    TYPICAL.dilation([0, 1]),
    TYPICAL.dilation([1, 0]),
    TYPICAL.dilation([2, 1]),
    TYPICAL.padding([0, 5]).dilation([1, 2]),
    TYPICAL.dilation([1, usize::MAX]),
    TYPICAL.groups(0),
    TYPICAL.groups(2),
    TYPICAL.groups(3),
    Convolution { kernel: [0, 3], ..TYPICAL },
    Convolution { kernel: [3, 7], ..TYPICAL },
    Convolution { input: [0, 5], ..TYPICAL },
    Convolution { batch: 1 << (usize::BITS - 1), ..TYPICAL },
    Convolution { filters: 1 << (usize::BITS - 1), ..TYPICAL },
];

const TYPICAL: Convolution = Convolution::new(2, [4, 5], 3, 4, [3, 3]);

/// Which of the three operations.
#[derive(Clone, Copy)]
enum Method {
    Forward,
    Input,
    Weight,
}

impl Method {
    const ALL: [Self; 3] = [Self::Forward, Self::Input, Self::Weight];

    /// Returns the elements of the operands, then of the result.
    fn lengths(self, shape: Convolution) -> [usize; 3] {
        let [input, weight, output] = shape.lengths();
        match self {
            Self::Forward => [input, weight, output],
            Self::Input => [output, weight, input],
            Self::Weight => [output, input, weight],
        }
    }

    fn check(self, kind: Kind, has_bias: bool, in_order: bool) -> &'static str {
        match (self, kind) {
            (Self::Forward, Kind::Integers) if has_bias => "convolve of small integers from a bias",
            (Self::Forward, Kind::NonFinite) if has_bias => {
                "convolve with NaN and infinity from a bias"
            }
            (Self::Forward, Kind::Reals) if has_bias && in_order => {
                "convolve in the order of the index from a bias"
            }
            (Self::Forward, Kind::Reals) if has_bias => "convolve in any order from a bias",
            (Self::Forward, Kind::Integers) => "convolve of small integers",
            (Self::Input, Kind::Integers) => "convolve_input of small integers",
            (Self::Weight, Kind::Integers) => "convolve_weight of small integers",
            (Self::Forward, Kind::NonFinite) => "convolve with NaN and infinity",
            (Self::Input, Kind::NonFinite) => "convolve_input with NaN and infinity",
            (Self::Weight, Kind::NonFinite) => "convolve_weight with NaN and infinity",
            (Self::Forward, Kind::Reals) if in_order => "convolve in the order of the index",
            (Self::Input, Kind::Reals) if in_order => "convolve_input in the order of the index",
            (Self::Weight, Kind::Reals) if in_order => "convolve_weight in the order of the index",
            (Self::Forward, Kind::Reals) => "convolve in any order",
            (Self::Input, Kind::Reals) => "convolve_input in any order",
            (Self::Weight, Kind::Reals) => "convolve_weight in any order",
        }
    }

    /// Runs the operation; forward only there is a bias.
    fn run<'r, 'w, A, B, F, D>(
        self,
        device: &mut D,
        convolution: Convolution,
        (a, b, bias): Operands<'r, D, A, B>,
        to: Mut<'w, D, F>,
        epilogue: Epilogue<'w, D::Space>,
        mutation: &Mutation,
    ) -> Result<(), D::Error>
    where
        A: Element + Plain,
        B: Element + Plain,
        F: Element + Plain,
        D: Memory + HasConvolve<A, B, F>,
    {
        match self {
            Self::Forward => {
                let (input, weight) = (a, b);
                device.run(mutation.apply(Convolve {
                    convolution,
                    input,
                    weight,
                    bias,
                    to,
                    epilogue,
                }))
            }
            Self::Input => {
                let (gradient, weight) = (a, b);
                device.run(mutation.apply(ConvolveInput {
                    convolution,
                    gradient,
                    weight,
                    to,
                    epilogue,
                }))
            }
            Self::Weight => {
                let (gradient, input) = (a, b);
                device.run(mutation.apply(ConvolveWeight {
                    convolution,
                    gradient,
                    input,
                    to,
                    epilogue,
                }))
            }
        }
    }

    /// Calls `take` with the places of the operands of each term of one sum, in the order of the
    /// first operand.
    fn each_term(self, shape: Convolution, index: usize, mut take: impl FnMut(usize, usize)) {
        let Convolution { batch, input, channels, filters, kernel, .. } = shape;
        let Some(output) = shape.output() else { return };
        let (of_group, filters_of_group) = (channels / shape.groups, filters / shape.groups);
        let in_weight = |filter: usize, [down, right]: [usize; 2], channel: usize| {
            ((filter * kernel[0] + down) * kernel[1] + right) * of_group + channel % of_group
        };
        let in_input = |n: usize, [y, x]: [usize; 2], channel: usize| {
            ((n * input[0] + y) * input[1] + x) * channels + channel
        };
        let in_output = |n: usize, [row, column]: [usize; 2], filter: usize| {
            ((n * output[0] + row) * output[1] + column) * filters + filter
        };
        match self {
            Self::Forward => {
                let (filter, pixel) = (index % filters, index / filters);
                let (n, at) = unravel(pixel, output);
                let group = filter / filters_of_group;
                for pixel in pixels(input) {
                    let Some(offset) = offset(shape, pixel, at) else { continue };
                    for channel in group * of_group..(group + 1) * of_group {
                        take(in_input(n, pixel, channel), in_weight(filter, offset, channel));
                    }
                }
            }
            Self::Input => {
                let (channel, pixel) = (index % channels, index / channels);
                let (n, pixel) = unravel(pixel, input);
                let group = channel / of_group;
                for at in pixels(output) {
                    let Some(offset) = offset(shape, pixel, at) else { continue };
                    for filter in group * filters_of_group..(group + 1) * filters_of_group {
                        take(in_output(n, at, filter), in_weight(filter, offset, channel));
                    }
                }
            }
            Self::Weight => {
                let (channel, rest) = (index % of_group, index / of_group);
                let (filter, wanted) = unravel(rest, kernel);
                let channel = filter / filters_of_group * of_group + channel;
                let at_offset = |at: [usize; 2], axis: usize| {
                    let offset = wanted[axis] * shape.dilation[axis];
                    let padded = at[axis] * shape.stride[axis] + offset;
                    padded.checked_sub(shape.padding[axis]).filter(|&x| x < input[axis])
                };
                for (n, at) in (0..batch).flat_map(|n| pixels(output).map(move |at| (n, at))) {
                    if let (Some(y), Some(x)) = (at_offset(at, 0), at_offset(at, 1)) {
                        take(in_output(n, at, filter), in_input(n, [y, x], channel));
                    }
                }
            }
        }
    }
}

/// Returns every pixel of an image, row by row.
fn pixels([height, width]: [usize; 2]) -> impl Iterator<Item = [usize; 2]> {
    (0..height).flat_map(move |y| (0..width).map(move |x| [y, x]))
}

/// Returns an image and a pixel of it.
fn unravel(index: usize, [height, width]: [usize; 2]) -> (usize, [usize; 2]) {
    (index / (height * width), [index / width % height, index % width])
}

/// Returns where in the kernel a pixel of the input lies, seen from one of the output.
fn offset(shape: Convolution, pixel: [usize; 2], at: [usize; 2]) -> Option<[usize; 2]> {
    let axis = |axis: usize| {
        let padded = pixel[axis] + shape.padding[axis];
        let behind = padded.checked_sub(at[axis] * shape.stride[axis])?;
        let is_there = behind.is_multiple_of(shape.dilation[axis]);
        (is_there && behind / shape.dilation[axis] < shape.kernel[axis])
            .then_some(behind / shape.dilation[axis])
    };
    Some([axis(0)?, axis(1)?])
}

/// The operands of a sum, and a bias perhaps.
type Operands<'r, D, A, B> = (Ref<'r, D, A>, Ref<'r, D, B>, Option<Ref<'r, D, f32>>);

/// An operation with its operands on the device, a bias perhaps, and the functions they were filled from.
struct Sums<D: Memory, A: Plain, B: Plain> {
    method: Method,
    shape: Convolution,
    kind: Kind,
    stream: u32,
    a: Tensor<D, A>,
    b: Tensor<D, B>,
    bias: Option<Tensor<D, f32>>,
}

impl<D: Memory, A: Element + Plain, B: Element + Plain> Sums<D, A, B> {
    fn new(
        bench: &mut Bench<'_, D>,
        method: Method,
        shape: Convolution,
        kind: Kind,
        has_bias: bool,
        stream: u32,
    ) -> Result<Self, Failure> {
        let [left, right, _] = method.lengths(shape);
        let case = Case::new("convolve (setup)", left).of(shape);
        let a = Tensor::filled(case, bench.device, left, |index| kind.left(stream, index))?;
        let b = Tensor::filled(case, bench.device, right, |index| kind.right(stream, index))?;
        let has_bias = has_bias && matches!(method, Method::Forward);
        let bias = |filter| kind.bias(stream, filter);
        let bias = has_bias.then(|| Tensor::filled(case, bench.device, shape.filters, bias));
        Ok(Self { method, shape, kind, stream, a, b, bias: bias.transpose()? })
    }

    /// Returns what one sum starts at.
    fn start(&self, index: usize) -> Option<f32> {
        self.bias.as_ref().map(|_| self.kind.bias(self.stream, index % self.shape.filters))
    }

    /// Names the operands.
    fn operands(&self, case: Case) -> Result<Operands<'_, D, A, B>, Failure> {
        let bias = self.bias.as_ref().map(|bias| bias.view(case)).transpose()?;
        Ok((self.a.view(case)?, self.b.view(case)?, bias))
    }

    /// Returns one sum, in the order of the first operand.
    fn sum(&self, index: usize) -> f32 {
        let mut sum = self.start(index).unwrap_or(0.0);
        self.method.each_term(self.shape, index, |left, right| {
            let (a, b): (A, B) =
                (self.kind.left(self.stream, left), self.kind.right(self.stream, right));
            sum = a.mul_add(b, sum);
        });
        sum
    }

    /// Returns one sum with the bound that any order keeps.
    fn near(&self, index: usize) -> Near {
        let mut sum = Sum::default();
        self.start(index).into_iter().for_each(|start| sum.take(Near::exact(start)));
        self.method.each_term(self.shape, index, |left, right| {
            let (a, b): (A, B) =
                (self.kind.left(self.stream, left), self.kind.right(self.stream, right));
            sum.take(Near::exact(f64::from(a.widen()) * f64::from(b.widen())));
        });
        sum.finish()
    }

    fn check<F: Element + Plain>(&self, bench: &mut Bench<'_, D>) -> Result<(), Failure>
    where
        D: HasConvolve<A, B, F>,
    {
        let (method, shape) = (self.method, self.shape);
        let [_, _, length] = method.lengths(shape);
        let in_order = bench.report.capabilities.sequential_sums;
        let check = method.check(self.kind, self.bias.is_some(), in_order);
        let case = Case::new(check, length).of(shape);
        let operands = self.operands(case)?;
        let mut to = Tensor::filled(case, bench.device, length, |_| F::from_bits(0))?;
        let unchanged = Mutation::none();
        let run: &Ending<'_, D, F> =
            &|device, to, epilogue| method.run(device, shape, operands, to, epilogue, &unchanged);
        if in_order || !matches!(self.kind, Kind::Reals) {
            bench.exactly(case, self.stream, &mut to, run, &|index| self.sum(index))
        } else {
            bench.within(case, self.stream, &mut to, run, &|index| self.near(index))
        }
    }
}

pub(super) fn check<A, B, F, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Memory + HasConvolve<A, B, F>,
{
    for (nth, shape) in SHAPES.into_iter().enumerate() {
        for (turn, method) in Method::ALL.into_iter().enumerate() {
            let stream = (3 * nth + turn) as u32;
            // Each shape has a bias once.
            let has_bias = nth.is_multiple_of(2);
            for (kind, has_bias) in [(Kind::Integers, has_bias), (Kind::Reals, !has_bias)] {
                Sums::<D, A, B>::new(bench, method, shape, kind, has_bias, stream)?.check(bench)?;
            }
        }
    }
    for (stream, method) in (0..).zip(Method::ALL) {
        let in_eights = Convolution { channels: 8, filters: 8, ..TYPICAL };
        for shape in [TYPICAL.padding([1, 1]), in_eights.padding([1, 1]).stride([2, 1])] {
            for has_bias in [false, true] {
                Sums::<D, A, B>::new(bench, method, shape, Kind::NonFinite, has_bias, stream)?
                    .check(bench)?;
            }
        }
        check_refusals::<A, B, F, D>(bench, method)?;
    }
    Ok(())
}

/// Operands that do not have their shape, shapes that no convolution has, and wrong epilogues.
fn check_refusals<A, B, F, D>(bench: &mut Bench<'_, D>, method: Method) -> Result<(), Failure>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Memory + HasConvolve<A, B, F>,
{
    let narrowing = values::plain(F::ENCODING, bench.report.capabilities);
    let [_, _, length] = method.lengths(TYPICAL);
    let case = Case { narrowing: Some(narrowing), ..Case::new("convolve refused", length) };
    let sums = Sums::<D, A, B>::new(bench, method, TYPICAL, Kind::Integers, true, 0)?;
    let operands = sums.operands(case)?;
    let mut to = Tensor::filled(case, bench.device, length, |_| F::from_bits(0))?;
    let unchanged = Mutation::none();
    for shape in IMPOSSIBLE {
        bench.refuses(case.of(shape), ErrorKind::Shape, &mut to, &|device, to, epilogue| {
            method.run(device, shape, operands, to, epilogue, &unchanged)
        })?;
    }
    bench.refuses_mutated(case.of(TYPICAL), &mut to, &|device, to, epilogue, mutation| {
        method.run(device, TYPICAL, operands, to, epilogue, mutation)
    })
}
