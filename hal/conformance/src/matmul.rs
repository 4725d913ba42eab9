//! `matmul`: sums that are exact in any order, then sums that are not.

use adaloss_core::{format::Element, scale::Scale};

use super::{
    Case, Failure,
    bench::{Bench, Ending},
    near::Near,
    tensor::Tensor,
    values::{self, Kind},
};
use adaloss_hal::{ErrorKind, HasMatmul, Matmul, Memory, Plain, Product};

/// Rows, terms and columns: single elements, odd sizes, sizes beyond a tile, and nothing at all.
const SHAPES: [[usize; 3]; 16] = [
    [1, 1, 1],
    [2, 3, 5],
    [7, 1, 9],
    [1, 64, 1],
    [1, 5, 130],
    [130, 5, 1],
    [8, 32, 32],
    [9, 33, 31],
    [16, 16, 16],
    [17, 65, 129],
    [64, 8, 64],
    [65, 35, 67],
    [3, 515, 5],
    [0, 4, 5],
    [4, 0, 5],
    [4, 5, 0],
];

pub(super) fn check<A, B, F, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Memory + HasMatmul<A, B, F>,
{
    for (nth, shape) in SHAPES.into_iter().enumerate() {
        for transposed in 0..4 {
            let (product, stream) =
                (transposed_product(shape, transposed), 4 * nth as u32 + transposed);
            // Each product has a bias once.
            let has_bias = (nth as u32 + transposed).is_multiple_of(2);
            for (kind, has_bias) in [(Kind::Integers, has_bias), (Kind::Reals, !has_bias)] {
                let operands = Operands::<D, A, B>::new(bench, product, kind, has_bias, stream)?;
                operands.check::<F>(bench)?;
            }
        }
    }
    for transposed in 0..4 {
        let product = transposed_product([5, 9, 7], transposed);
        let has_bias = transposed > 1;
        let operands =
            Operands::<D, A, B>::new(bench, product, Kind::NonFinite, has_bias, transposed)?;
        operands.check::<F>(bench)?;
    }
    check_refusals::<A, B, F, D>(bench)
}

/// Returns a product in which bit 0 of `transposed` transposes the left operand, and bit 1 the right one.
fn transposed_product([rows, inner, columns]: [usize; 3], transposed: u32) -> Product {
    let (transpose_a, transpose_b) = (transposed & 1 == 1, transposed & 2 == 2);
    Product { rows, inner, columns, transpose_a, transpose_b }
}

/// Two matrices on the device, perhaps a bias, and the functions they were filled from.
struct Operands<D: Memory, A: Plain, B: Plain> {
    product: Product,
    kind: Kind,
    stream: u32,
    a: Tensor<D, A>,
    b: Tensor<D, B>,
    bias: Option<Tensor<D, f32>>,
}

impl<D: Memory, A: Element + Plain, B: Element + Plain> Operands<D, A, B> {
    fn new(
        bench: &mut Bench<'_, D>,
        product: Product,
        kind: Kind,
        has_bias: bool,
        stream: u32,
    ) -> Result<Self, Failure> {
        let [left, right, result] = product.lengths();
        let case = Case::new("matmul (setup)", result);
        let a = Tensor::filled(case, bench.device, left, |index| kind.left(stream, index))?;
        let b = Tensor::filled(case, bench.device, right, |index| kind.right(stream, index))?;
        let bias = |column| kind.bias(stream, column);
        let bias = has_bias.then(|| Tensor::filled(case, bench.device, product.columns, bias));
        Ok(Self { product, kind, stream, a, b, bias: bias.transpose()? })
    }

    /// Returns what one sum starts at.
    fn start(&self, index: usize) -> Option<f32> {
        self.bias.as_ref().map(|_| self.kind.bias(self.stream, index % self.product.columns))
    }

    /// Returns the factors of one sum, in the order of their index.
    fn terms(&self, index: usize) -> impl Iterator<Item = (A, B)> + '_ {
        let Product { rows, inner, columns, transpose_a, transpose_b } = self.product;
        let (row, column) = (index / columns, index % columns);
        (0..inner).map(move |k| {
            let left = if transpose_a { k * rows + row } else { row * inner + k };
            let right = if transpose_b { column * inner + k } else { k * columns + column };
            (self.kind.left(self.stream, left), self.kind.right(self.stream, right))
        })
    }

    /// Returns one sum, from the first term to the last.
    fn sum(&self, index: usize) -> f32 {
        let start = self.start(index).unwrap_or(0.0);
        self.terms(index).fold(start, |sum, (a, b)| a.mul_add(b, sum))
    }

    /// Returns one sum with the bound that any order keeps.
    fn near(&self, index: usize) -> Near {
        let product = |(a, b): (A, B)| Near::exact(f64::from(a.widen()) * f64::from(b.widen()));
        Near::sum(
            self.start(index).into_iter().map(Near::exact).chain(self.terms(index).map(product)),
        )
    }

    /// Returns the name of the check.
    fn name(&self, in_order: bool) -> &'static str {
        match (self.kind, self.bias.is_some()) {
            (Kind::Integers, false) => "matmul of small integers",
            (Kind::Integers, true) => "matmul of small integers from a bias",
            (Kind::NonFinite, false) => "matmul with NaN and infinity",
            (Kind::NonFinite, true) => "matmul with NaN and infinity from a bias",
            (Kind::Reals, false) if in_order => "matmul in the order of the index",
            (Kind::Reals, true) if in_order => "matmul in the order of the index from a bias",
            (Kind::Reals, false) => "matmul in any order",
            (Kind::Reals, true) => "matmul in any order from a bias",
        }
    }

    /// Compares sums bit for bit with results, outcome and histogram of the core; or, where they may be in any order, with their
    /// bounds, and counters with one another.
    fn check<F: Element + Plain>(&self, bench: &mut Bench<'_, D>) -> Result<(), Failure>
    where
        D: HasMatmul<A, B, F>,
    {
        let (product, in_order) = (self.product, bench.report.capabilities.sequential_sums);
        let [_, _, length] = product.lengths();
        let case = Case::new(self.name(in_order), length).of(product);
        let (a, b) = (self.a.view(case)?, self.b.view(case)?);
        let bias = self.bias.as_ref().map(|bias| bias.view(case)).transpose()?;
        let mut to = Tensor::filled(case, bench.device, length, |_| F::from_bits(0))?;
        let run: &Ending<'_, D, F> =
            &|device, to, epilogue| device.run(Matmul { product, a, b, bias, to, epilogue });
        if in_order || !matches!(self.kind, Kind::Reals) {
            bench.exactly(case, self.stream, &mut to, run, &|index| self.sum(index))
        } else {
            bench.within(case, self.stream, &mut to, run, &|index| self.near(index))
        }
    }
}

/// Shapes that are not the operands', shapes that no operand has, and operands and epilogues that do not fit.
fn check_refusals<A, B, F, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Memory + HasMatmul<A, B, F>,
{
    let narrowing = values::plain(F::ENCODING, bench.report.capabilities);
    let scales = (Scale::ONE, Scale::ONE);
    let shapes = Case::narrowing("matmul with other shapes", 15, narrowing, scales);
    let operands: Operands<D, A, B> =
        Operands::new(bench, transposed_product([3, 4, 5], 0), Kind::Integers, true, 0)?;
    let mut to = Tensor::filled(shapes, bench.device, 15, |_| F::from_bits(0))?;
    let (a, b) = (operands.a.view(shapes)?, operands.b.view(shapes)?);
    let half = 1 << (usize::BITS - 1);
    let wrong = [[3, 4, 4], [3, 5, 5], [2, 4, 5], [4, 3, 5], [5, 4, 3], [half, 2, 5], [3, half, 2]];
    for shape in wrong {
        for transposed in 0..4 {
            let product = transposed_product(shape, transposed);
            let shapes = shapes.of(product);
            bench.refuses(shapes, ErrorKind::Shape, &mut to, &|device, to, epilogue| {
                device.run(Matmul { product, a, b, bias: None, to, epilogue })
            })?;
        }
    }
    let case = Case::narrowing("matmul refused", 15, narrowing, scales);
    let product = operands.product;
    let bias = operands.bias.as_ref().map(|bias| bias.view(case)).transpose()?;
    bench.refuses_mutated(case, &mut to, &|device, to, epilogue, mutation| {
        device.run(mutation.apply(Matmul { product, a, b, bias, to, epilogue }))
    })
}
