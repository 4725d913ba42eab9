//! `matmul`: sums that are exact in any order, then sums that are not.

use adaloss_core::{format::Element, scale::Scale};

use super::{
    Case, Failure,
    bench::Bench,
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
            let integers = Operands::new(bench, product, Kind::Integers, stream)?;
            check_exact::<A, B, F, D>(bench, "matmul of small integers", &integers)?;
            let reals = Operands::new(bench, product, Kind::Reals, stream)?;
            if bench.report.capabilities.sequential_sums {
                check_exact::<A, B, F, D>(bench, "matmul in the order of the index", &reals)?;
            } else {
                check_bounds::<A, B, F, D>(bench, &reals)?;
            }
        }
    }
    for transposed in 0..4 {
        let product = transposed_product([5, 9, 7], transposed);
        let operands = Operands::new(bench, product, Kind::NonFinite, transposed)?;
        check_exact::<A, B, F, D>(bench, "matmul with NaN and infinity", &operands)?;
    }
    check_refusals::<A, B, F, D>(bench)
}

/// Returns a product in which bit 0 of `transposed` transposes the left operand, and bit 1 the right one.
fn transposed_product([rows, inner, columns]: [usize; 3], transposed: u32) -> Product {
    let (transpose_a, transpose_b) = (transposed & 1 == 1, transposed & 2 == 2);
    Product { rows, inner, columns, transpose_a, transpose_b }
}

/// Two matrices on the device and the functions they were filled from.
struct Operands<D: Memory, A: Plain, B: Plain> {
    product: Product,
    kind: Kind,
    stream: u32,
    a: Tensor<D, A>,
    b: Tensor<D, B>,
}

impl<D: Memory, A: Element + Plain, B: Element + Plain> Operands<D, A, B> {
    fn new(
        bench: &mut Bench<'_, D>,
        product: Product,
        kind: Kind,
        stream: u32,
    ) -> Result<Self, Failure> {
        let [left, right, result] = product.lengths();
        let case = Case::new("matmul (setup)", result);
        Ok(Self {
            product,
            kind,
            stream,
            a: Tensor::filled(case, bench.device, left, |index| kind.left(stream, index))?,
            b: Tensor::filled(case, bench.device, right, |index| kind.right(stream, index))?,
        })
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
        self.terms(index).fold(0.0, |sum, (a, b)| a.mul_add(b, sum))
    }
}

/// Compares sums bit for bit: with results, outcome and histogram of the core.
fn check_exact<A, B, F, D>(
    bench: &mut Bench<'_, D>,
    check: &'static str,
    operands: &Operands<D, A, B>,
) -> Result<(), Failure>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Memory + HasMatmul<A, B, F>,
{
    let product = operands.product;
    let [_, _, length] = product.lengths();
    let case = Case::new(check, length).of(product);
    let (a, b) = (operands.a.view(case)?, operands.b.view(case)?);
    let mut to = Tensor::filled(case, bench.device, length, |_| F::from_bits(0))?;
    bench.exactly(
        case,
        operands.stream,
        &mut to,
        &|device, to, epilogue| device.run(Matmul { product, a, b, to, epilogue }),
        &|index| operands.sum(index),
    )
}

/// Compares sums in any order with their bounds, and counters with one another.
fn check_bounds<A, B, F, D>(
    bench: &mut Bench<'_, D>,
    operands: &Operands<D, A, B>,
) -> Result<(), Failure>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Memory + HasMatmul<A, B, F>,
{
    let product = operands.product;
    let [_, _, length] = product.lengths();
    let case = Case::new("matmul in any order", length).of(product);
    let (a, b) = (operands.a.view(case)?, operands.b.view(case)?);
    let mut to = Tensor::filled(case, bench.device, length, |_| F::from_bits(0))?;
    bench.within(
        case,
        operands.stream,
        &mut to,
        &|device, to, epilogue| device.run(Matmul { product, a, b, to, epilogue }),
        &|index| {
            Near::sum(
                operands
                    .terms(index)
                    .map(|(a, b)| Near::exact(f64::from(a.widen()) * f64::from(b.widen()))),
            )
        },
    )
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
        Operands::new(bench, transposed_product([3, 4, 5], 0), Kind::Integers, 0)?;
    let mut to = Tensor::filled(shapes, bench.device, 15, |_| F::from_bits(0))?;
    let (a, b) = (operands.a.view(shapes)?, operands.b.view(shapes)?);
    let half = 1 << (usize::BITS - 1);
    let wrong = [[3, 4, 4], [3, 5, 5], [2, 4, 5], [4, 3, 5], [5, 4, 3], [half, 2, 5], [3, half, 2]];
    for shape in wrong {
        for transposed in 0..4 {
            let product = transposed_product(shape, transposed);
            let shapes = shapes.of(product);
            bench.refuses(shapes, ErrorKind::Shape, &mut to, &|device, to, epilogue| {
                device.run(Matmul { product, a, b, to, epilogue })
            })?;
        }
    }
    let case = Case::narrowing("matmul refused", 15, narrowing, scales);
    let product = operands.product;
    bench.refuses_mutated(case, &mut to, &|device, to, epilogue, mutation| {
        device.run(mutation.apply(Matmul { product, a, b, to, epilogue }))
    })
}
