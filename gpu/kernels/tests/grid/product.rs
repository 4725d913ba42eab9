//! Products beyond the sizes of the conformance suite, operands at odd places, and sums of products.

use adaloss_core::{
    format::{Element, Format, Narrowing, Noise, bf16, f16},
    policy::Cell,
    scale::Scale,
    statistics::Outcome,
};
use adaloss_hal::Product;
use adaloss_kernels::{
    block::Factor,
    epilogue::Epilogue,
    matmul::{self, matmul_into},
    memory::Out,
    parts::{add_parts_into, parts},
};

use crate::device::Simulated;

/// Returns elements between -2 and 2.
pub(crate) fn random<E: Element>(seed: u32, count: usize) -> Vec<E> {
    let noise = Noise { seed, stream: 0 };
    let narrowing = Narrowing::to(Format::from(E::ENCODING));
    let of = |index| noise.word(index) as i32 as f32 / 2.0_f32.powi(30);
    (0..count as u32).map(|index| E::narrow(of(index), narrowing, 0, 0)).collect()
}

/// Returns one sum of a product, from its bias and its first term to its last.
fn sum<E: Element>(product: Product, [a, b]: [&[E]; 2], bias: &[f32], index: usize) -> f32 {
    let Product { rows, inner, columns, transpose_a, transpose_b } = product;
    let (row, column) = (index / columns, index % columns);
    (0..inner).fold(bias[column], |sum, k| {
        let left = if transpose_a { k * rows + row } else { row * inner + k };
        let right = if transpose_b { column * inner + k } else { k * columns + column };
        a[left].mul_add(b[right], sum)
    })
}

/// Multiplies and adds to what is there, or writes over it.
fn launch<E: Factor>(
    device: &mut Simulated,
    product: Product,
    [a, b]: [&[E]; 2],
    bias: &[f32],
    adds: bool,
    to: &mut [f32],
) -> Outcome {
    let Product { rows, inner, columns, transpose_a, transpose_b } = product;
    let cells = [Cell::at(Scale::saturating(5)), Cell::at(Scale::saturating(3))];
    let mut outcome = Outcome::EMPTY;
    let epilogue = Epilogue {
        from: &cells[0],
        to: &cells[1],
        narrowing: Narrowing::to(Format::BINARY32),
        noise: Noise::default(),
        stores: true,
        when: std::ptr::null(),
        outcome: &mut outcome,
        histogram: std::ptr::null_mut(),
    };
    let (a, b, bias) = (a.as_ptr(), b.as_ptr(), bias.as_ptr());
    let named = matmul::Product { a, b, bias, rows, inner, columns, parts: 1 };
    let (transposed, to) = ([transpose_a, transpose_b], Out::of(to));
    // SAFETY: everything named is borrowed, and has its length.
    device.multiplies().launch(|block| unsafe {
        if named.is_slim() {
            matmul_into::<_, E, true>(block, &named, transposed, adds, to, &epilogue);
        } else {
            matmul_into::<_, E, false>(block, &named, transposed, adds, to, &epilogue);
        }
    });
    outcome
}

/// Products of many tiles, in more than one band; of rows that begin at multiples of 16 bytes, and that
/// do not.
fn large<E: Factor>() {
    let device = &mut Simulated::default();
    for (nth, [rows, inner, columns]) in
        [[260, 72, 136], [130, 7, 1160], [64, 200, 1]].into_iter().enumerate()
    {
        for (transpose_a, transpose_b) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let product = Product { rows, inner, columns, transpose_a, transpose_b };
            let [left, right, result] = product.lengths();
            // An element further on, addresses are odd.
            for odd in [0, 1] {
                let a = &random::<E>(3 * nth as u32, left + odd)[odd..];
                let b = &random::<E>(5 * nth as u32 + 1, right + odd)[odd..];
                let bias = &random::<f32>(7 * nth as u32 + 2, columns + odd)[odd..];
                let mut found = vec![f32::NAN; result];
                let outcome = launch(device, product, [a, b], bias, false, &mut found);
                assert_eq!(outcome.elements, result as u64);
                let twice = launch(device, product, [a, b], bias, true, &mut found);
                assert_eq!(twice, outcome);
                for (index, &found) in found.iter().enumerate() {
                    // From scale 2^5 to 2^3, and added to itself.
                    let expected = sum(product, [a, b], bias, index) / 4.0 * 2.0;
                    assert_eq!(found, expected, "{product}, sum {index}, {odd} odd");
                }
            }
        }
    }
}

/// Terms that are cut into parts, of rows that begin at multiples of 16 bytes and that do not: each part is a sum in
/// order, and parts are added in theirs.
#[test]
fn parts_are_sums_in_order() {
    let device = &mut Simulated::default();
    let cell = Cell::at(Scale::ONE);
    for (part_count, [rows, inner, columns]) in
        [(2, [40, 2100, 24]), (5, [131, 168, 136]), (7, [1, 70, 9]), (3, [5, 0, 3])]
    {
        for (transpose_a, transpose_b) in [(false, false), (true, true)] {
            let product = Product { rows, inner, columns, transpose_a, transpose_b };
            let [left, right, result] = product.lengths();
            let (a, b) = (random::<bf16>(8, left), random::<bf16>(9, right));
            let (a, b) = (&a[..], &b[..]);
            let mut outcome = Outcome::EMPTY;
            let mut epilogue = Epilogue {
                from: &cell,
                to: &cell,
                narrowing: Narrowing::to(Format::BINARY32),
                noise: Noise::default(),
                stores: true,
                when: std::ptr::null(),
                outcome: std::ptr::null_mut(),
                histogram: std::ptr::null_mut(),
            };
            let bias = random::<f32>(10, columns);
            let parts_of = |parts| {
                let (a, b, bias) = (a.as_ptr(), b.as_ptr(), bias.as_ptr());
                matmul::Product { a, b, bias, rows, inner, columns, parts }
            };
            assert_eq!(parts(&parts_of(1)), (inner / 1024).max(1));
            let named = parts_of(part_count);
            let mut in_parts = vec![f32::NAN; part_count * result];
            let to = Out::of(&mut in_parts);
            // SAFETY: everything named is borrowed, and has its length.
            device.multiplies().launch(|block| unsafe {
                let transposed = [transpose_a, transpose_b];
                if named.is_slim() {
                    matmul_into::<_, _, true>(block, &named, transposed, false, to, &epilogue);
                } else {
                    matmul_into::<_, _, false>(block, &named, transposed, false, to, &epilogue);
                }
            });
            epilogue.outcome = &mut outcome;
            let mut found = vec![1.0; result];
            let to = Out::of(&mut found);
            // SAFETY: as above.
            device.grid().launch(|block| unsafe {
                add_parts_into(block, &in_parts, true, to, &epilogue);
            });
            assert_eq!(outcome.elements, result as u64);
            let of_part = 32 * inner.div_ceil(32).div_ceil(part_count);
            for (index, &found) in found.iter().enumerate() {
                let term = |k: usize| {
                    let (row, column) = (index / columns, index % columns);
                    let left = if transpose_a { k * rows + row } else { row * inner + k };
                    let right = if transpose_b { column * inner + k } else { k * columns + column };
                    (a[left], b[right])
                };
                let sum_of = |part: usize| {
                    let terms = (part * of_part).min(inner)..((part + 1) * of_part).min(inner);
                    // The first part starts at the bias.
                    let start = if part == 0 { bias[index % columns] } else { 0.0 };
                    terms.map(term).fold(start, |sum, (a, b)| a.mul_add(b, sum))
                };
                let expected = (0..part_count).map(sum_of).fold(-0.0, |sum, part| sum + part);
                assert_eq!(found, 1.0 + expected, "{product}, sum {index}");
            }
        }
    }
}

#[test]
fn binary16_products_of_many_tiles_are_sums_in_order() {
    large::<f16>();
}

#[test]
fn bfloat16_products_of_many_tiles_are_sums_in_order() {
    large::<bf16>();
}
