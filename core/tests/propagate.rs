//! Gradients that carry their scale: joins against exact arithmetic, and what is refused.

use adaloss_core::{
    format::{E4M3, Element, Format, bf16, f16},
    propagate::{JoinError, Scaled, common_scale, join, shifted},
    scale::Scale,
};

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
    assert_eq!(error.to_string(), "a join of 1 branches is none");
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
