//! The extremes of a product's terms against all of its terms, and the factor that follows.

use adaloss_core::{
    format::Format,
    policy::{Normal, Operands, Range, ShapeError, Terms},
    statistics::Statistics,
};
use adaloss_oracle::{inputs::SplitMix64, tolerance::CEILING};

/// Some zeros, and now and then an operand that is not finite.
fn draw(generator: &mut SplitMix64, length: usize) -> Vec<f32> {
    (0..length)
        .map(|_| match generator.below(40) {
            0..8 => 0.0,
            8 => [f32::NAN, f32::NEG_INFINITY][generator.below(2)],
            _ => generator.between_binades(-60, 60),
        })
        .collect()
}

#[test]
fn extremes_are_those_of_all_terms() {
    let mut generator = SplitMix64(131);
    for (rows, inner, columns) in [(1, 1, 1), (3, 4, 5), (2, 7, 1), (1, 2, 6), (0, 3, 2)] {
        for _ in 0..200 {
            let g = draw(&mut generator, rows * inner);
            let w = draw(&mut generator, inner * columns);
            let terms = Terms::of(&g, &w, inner, 9).expect("a product");
            let places = (0..rows * inner)
                .flat_map(|i| (0..columns).map(move |m| (i, i % inner * columns + m)));
            let is_term = |x: f32| x.is_finite() && x != 0.0;
            let products: Vec<f32> = places
                .filter(|&(i, j)| is_term(g[i]) && is_term(w[j]))
                .map(|(i, j)| (g[i] * w[j]).abs())
                .collect();
            let expected = Terms {
                min_abs: products.iter().copied().reduce(f32::min).unwrap_or(0.0),
                max_abs: products.iter().copied().reduce(f32::max).unwrap_or(0.0),
                nonfinite: g.iter().chain(&w).filter(|x| !x.is_finite()).count() as u64,
                fan_in: 9,
                reserved: 0,
            };
            assert_eq!(terms, expected, "{g:?} {w:?}");
        }
    }
}

/// Terms beyond f32 are infinite at both ends; terms below it are zero at both.
#[test]
fn terms_that_leave_f32_are_no_zeros() {
    let ends = |gradient: f32, weight: f32| {
        let terms = Terms::of(&[gradient], &[weight], 1, 1).expect("a product");
        (terms.min_abs, terms.max_abs)
    };
    assert_eq!(ends(1.0e30, -1.0e30), (f32::INFINITY, f32::INFINITY));
    assert_eq!(ends(1.0e-30, 1.0e-30), (0.0, 0.0));
    assert_eq!(ends(0.0, 1.0), (0.0, 0.0));
}

/// A sum of the greatest products fits, but for the rounding of the factor: by extremes, and by the
/// model whose wanted factor is greater.
#[test]
fn sums_of_the_greatest_products_fit() {
    let mut generator = SplitMix64(132);
    let format = Format::BINARY16;
    let (range, normal) = (Range::new(format), Normal::paper(format));
    for _ in 0..1000 {
        let [small, large, weight] =
            [(-40, -30), (0, 10), (0, 4)].map(|(from, to)| generator.between_binades(from, to));
        let fan_in = 1000 + generator.below(70_000) as u32;
        let (gradient, weights) = (Statistics::of(&[small, large]), Statistics::of(&[weight]));
        let operands = Operands::Product { gradient, weight: weights, fan_in };
        let most = f64::from(fan_in) * f64::from(large * weight).abs();
        let factors =
            [(range.factor(&operands), range.largest), (normal.factor(&operands), normal.largest)];
        for (factor, largest) in factors {
            let sum = f64::from(factor.expect("finite operands")) * most;
            let excess = (sum / f64::from(largest) - 1.0).max(0.0);
            assert!(CEILING.allows(excess), "{sum:e} of {operands:?}");
        }
    }
    CEILING.assert_needed();
}

#[test]
fn operands_that_form_no_product_are_refused() {
    for (gradient, weight, inner) in [(6, 6, 0), (7, 6, 3), (6, 7, 3)] {
        let error = Terms::of(&vec![1.0_f32; gradient], &vec![1.0_f32; weight], inner, 1);
        assert_eq!(error, Err(ShapeError { gradient, weight, inner }));
    }
    let text = "a gradient of 7 and a weight of 6 elements have no inner dimension of 3";
    assert_eq!(ShapeError { gradient: 7, weight: 6, inner: 3 }.to_string(), text);
}
