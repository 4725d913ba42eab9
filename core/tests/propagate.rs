//! Gradients that carry their scale: joins against exact arithmetic, and what is refused.

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, bf16, f16},
    propagate::{JoinError, Scaled, common_scale, join, shifted},
    scale::Scale,
};
use adaloss_oracle::{
    apfloat,
    exact::{in_units, rational, rational_pow2},
    inputs::{SplitMix64, cases},
    tolerance::JOIN,
};
use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;

fn scale(log2: i32) -> Scale {
    Scale::new(log2).unwrap()
}

fn exp2(log2: i32) -> f64 {
    2.0_f64.powi(log2)
}

#[test]
fn the_common_scale_is_the_least_in_any_order() {
    let scales = [3, -70, 12, 0].map(scale);
    assert_eq!(common_scale(scales.into_iter()), Some(scale(-70)));
    assert_eq!(common_scale(scales.into_iter().rev()), Some(scale(-70)));
    assert_eq!(common_scale(std::iter::empty()), None);
}

/// While scales differ by at most 102 binades, each branch is brought down exactly, so that the sum
/// of two is rounded once: the same as the exact sum in f64 rounded to f32.
#[test]
fn two_branches_are_summed_with_one_rounding() {
    let patterns: Vec<u32> = (0..0x7c00).step_by(97).flat_map(|b| [b, b | 0x8000]).collect();
    let a: Vec<f16> = patterns.iter().map(|&b| Element::from_bits(b)).collect();
    let b: Vec<f16> = patterns.iter().rev().map(|&b| Element::from_bits(b)).collect();
    for (k_a, k_b) in [(0, 0), (5, 0), (-3, 40), (102, 0), (-51, 51), (126, 24)] {
        let mut sum = vec![0.0; a.len()];
        let branches = [Scaled::new(&a[..], scale(k_a)), Scaled::new(&b[..], scale(k_b))];
        let common = join(Format::BINARY16, &branches, &mut sum).unwrap();
        assert_eq!(common.log2(), k_a.min(k_b));
        for ((a, b), sum) in a.iter().zip(&b).zip(sum) {
            // Both terms and their sum are exact in f64 where they are far less than 53 bits apart;
            // elsewhere the smaller one is far below half a unit of the f32 result.
            let exact = f64::from(a.widen()) * exp2(common.log2() - k_a)
                + f64::from(b.widen()) * exp2(common.log2() - k_b);
            assert_eq!(sum, exact as f32);
        }
    }
}

/// Three branches are summed in the order given, each partial sum in f32.
#[test]
fn the_order_is_the_callers() {
    let [large, small, opposite] = [[bf16::from_f32(1.0e8)], [bf16::ONE], [bf16::from_f32(-1.0e8)]];
    let joined = |branches: [&[bf16]; 3]| {
        let mut sum = [0.0];
        let branches = branches.map(|branch| Scaled::new(branch, Scale::ONE));
        join(Format::BFLOAT16, &branches, &mut sum).unwrap();
        sum[0]
    };
    assert_eq!(joined([&large, &small, &opposite]), 0.0);
    assert_eq!(joined([&large, &opposite, &small]), 1.0);
}

/// A flushing format reads subnormal operands as zero; a NaN stays one.
#[test]
fn operands_are_read_as_the_format_says() {
    let subnormal = [E4M3(0x01)];
    let joined = |format, other: E4M3| {
        let mut sum = [9.0];
        let branches = [
            Scaled::new(&subnormal[..], Scale::ONE),
            Scaled::new(std::slice::from_ref(&other), Scale::ONE),
        ];
        join(format, &branches, &mut sum).unwrap();
        sum[0]
    };
    assert_eq!(joined(Format::E4M3, E4M3(0x00)), exp2(-9) as f32);
    assert_eq!(joined(Format::E4M3.flushing(), E4M3(0x00)), 0.0);
    assert!(joined(Format::E4M3, E4M3(0x7f)).is_nan());
}

#[test]
fn a_join_of_less_than_two_or_of_other_lengths_is_refused() {
    let (one, two) = ([f16::ONE], [f16::ONE; 2]);
    let mut sum = [5.0];
    let single = [Scaled::new(&one[..], Scale::ONE)];
    let error = join(Format::BINARY16, &single, &mut sum).unwrap_err();
    assert_eq!(error, JoinError::Branches { count: 1 });
    assert_eq!(error.to_string(), "a join needs two branches or more, and has 1");
    let error = join::<f16>(Format::BINARY16, &[], &mut sum).unwrap_err();
    assert_eq!(error, JoinError::Branches { count: 0 });
    let uneven = [Scaled::new(&one[..], Scale::ONE), Scaled::new(&two[..], Scale::ONE)];
    let error = join(Format::BINARY16, &uneven, &mut sum).unwrap_err();
    assert_eq!(error, JoinError::Length { index: 1, length: 2, expected: 1 });
    assert_eq!(error.to_string(), "branch 1 of a join has 2 elements instead of 1");
    assert_eq!(sum, [5.0]);
}

/// Every shift between two legal scales is rounded once, also those that no f32 factor holds.
#[test]
fn a_shift_rounds_once() {
    for x in [1.0_f32, -1.999_999_9, 3.0e-39, 6.0e-45, 3.0e38] {
        for log2 in -252..=252 {
            let (to, from) = (log2.clamp(-126, 126), log2.clamp(-126, 126) - log2);
            let expected = (f64::from(x) * exp2(log2)) as f32;
            assert_eq!(shifted(x, scale(to) / scale(from)), expected, "{x} by 2^{log2}");
        }
    }
    assert!(shifted(f32::NAN, scale(126) / scale(-126)).is_nan());
    assert_eq!(shifted(f32::NEG_INFINITY, scale(126) / scale(-126)), f32::NEG_INFINITY);
}

#[test]
fn a_gradient_keeps_its_scale_until_it_is_unscaled() {
    let gradient = Scaled::new([f16::ONE, f16::NEG_ONE], scale(9));
    let carried = gradient.carry(|[a, _]| [a, f16::ZERO]);
    assert_eq!(carried.scale(), scale(9));
    assert_eq!(carried.as_ref().scale(), scale(9));
    assert_eq!(carried.unscale(|g, inverse| g[0].widen() * inverse), exp2(-9) as f32);
    assert_eq!(carried.into_parts(), ([f16::ONE, f16::ZERO], scale(9)));
}

/// Branches of random bits at random scales, near each other or anywhere.
fn branches<F: Element>(count: usize, generator: &mut SplitMix64) -> Vec<(Vec<F>, Scale)> {
    let (centre, width) = (generator.below(253) as i32 - 126, 1 + generator.below(253));
    let mut branch = || {
        let scale = Scale::saturating(centre + generator.below(width) as i32);
        let elements = (0..24).map(|_| F::from_bits(generator.half_word())).collect();
        (elements, scale)
    };
    (0..count).map(|_| branch()).collect()
}

/// Asserts that a sum is within the documented bound of the exact one; returns whether there was
/// anything to compare.
fn check_sum(sum: f32, terms: &[(f64, i32)]) -> bool {
    if !terms.iter().all(|(x, _)| x.is_finite()) {
        assert!(!sum.is_finite(), "{terms:?}");
        return false;
    }
    let exact = |(x, shift): &(f64, i32)| rational(*x) * rational_pow2(*shift);
    let (total, magnitudes) = terms.iter().map(exact).fold(
        (rational(0.0), rational(0.0)),
        |(total, magnitudes), term| {
            let magnitude = if term < rational(0.0) { -&term } else { term.clone() };
            (total + term, magnitudes + magnitude)
        },
    );
    if magnitudes >= rational_pow2(127) {
        return false;
    }
    let whole = |n: usize| BigRational::from(BigInt::from(n));
    let (n, one) = (whole(terms.len()), whole(1));
    let bound = (&n - one) * rational_pow2(-24) * magnitudes + n * rational_pow2(-149);
    let error = rational(f64::from(sum)) - total;
    assert!(JOIN.allows(in_units(&error, &bound)), "{sum:e} of {terms:?}");
    true
}

/// Joins random branches in several orders; returns how many sums were compared.
fn check_join<F: Element>(flushes: bool, count: usize, generator: &mut SplitMix64) -> usize {
    let format = Format::from(F::ENCODING);
    let format = if flushes { format.flushing() } else { format };
    let mut branches = branches::<F>(count, generator);
    let least = branches.iter().map(|branch| branch.1).min().expect("branches");
    let mut compared = 0;
    for _ in 0..3 {
        generator.shuffle(&mut branches);
        let scaled: Vec<Scaled<&[F]>> =
            branches.iter().map(|(elements, scale)| Scaled::new(&elements[..], *scale)).collect();
        let mut sum = [0.0; 24];
        assert_eq!(join(format, &scaled, &mut sum), Ok(least));
        for (i, sum) in sum.into_iter().enumerate() {
            let term = |(elements, scale): &(Vec<F>, Scale)| {
                (apfloat::read(format, elements[i].to_bits()), least.log2() - scale.log2())
            };
            let terms: Vec<(f64, i32)> = branches.iter().map(term).collect();
            compared += usize::from(check_sum(sum, &terms));
        }
    }
    compared
}

proptest! {
    #![proptest_config(cases(60))]

    fn joins_are_near_the_exact_sums(
        flushes: bool,
        count in 2..7_usize,
        seed: u64,
    ) {
        let mut generator = SplitMix64(seed);
        let compared = check_join::<f16>(flushes, count, &mut generator)
            + check_join::<bf16>(flushes, count, &mut generator)
            + check_join::<E5M2>(flushes, count, &mut generator)
            + check_join::<E4M3>(flushes, count, &mut generator);
        prop_assert!(compared > 50, "{compared}");
    }
}

/// The scale of a join is that of no order of its branches, and neither is its error.
#[test]
fn a_join_is_near_the_exact_sum_in_any_order() {
    joins_are_near_the_exact_sums();
    JOIN.assert_needed();
}
