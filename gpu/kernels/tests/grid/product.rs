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
};

use crate::device::Simulated;

/// Returns elements between -2 and 2.
fn random<E: Element>(seed: u32, count: usize) -> Vec<E> {
    let noise = Noise { seed, stream: 0 };
    let narrowing = Narrowing::to(Format::from(E::ENCODING));
    let of = |index| noise.word(index) as i32 as f32 / 2.0_f32.powi(30);
    (0..count as u32).map(|index| E::narrow(of(index), narrowing, 0, 0)).collect()
}

/// Returns one sum of a product, from its first term to its last.
fn sum<E: Element>(product: Product, a: &[E], b: &[E], index: usize) -> f32 {
    let Product { rows, inner, columns, transpose_a, transpose_b } = product;
    let (row, column) = (index / columns, index % columns);
    (0..inner).fold(0.0, |sum, k| {
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
    let named = matmul::Product { a: a.as_ptr(), b: b.as_ptr(), rows, inner, columns };
    let (transposed, to) = ([transpose_a, transpose_b], Out::of(to));
    // SAFETY: everything named is borrowed, and has its length.
    device.multiplies().launch(|block| unsafe {
        matmul_into(block, &named, transposed, adds, to, &epilogue);
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
                let mut found = vec![f32::NAN; result];
                let outcome = launch(device, product, [a, b], false, &mut found);
                assert_eq!(outcome.elements, result as u64);
                let twice = launch(device, product, [a, b], true, &mut found);
                assert_eq!(twice, outcome);
                for (index, &found) in found.iter().enumerate() {
                    // From scale 2^5 to 2^3, and added to itself.
                    let expected = sum(product, a, b, index) / 4.0 * 2.0;
                    assert_eq!(found, expected, "{product}, sum {index}, {odd} odd");
                }
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
