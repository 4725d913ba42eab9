//! Sums, means and deviations against rational numbers.

use adaloss_core::{
    format::{E4M3, Element, f16},
    statistics::{ExactSum, LogStatistics, Moments, Statistics},
};
use adaloss_oracle::{
    exact::{in_units, rational, rational_pow2, sum, ulps},
    inputs::SplitMix64,
    tolerance::{EXACT_SUM, LOGARITHMS, MEAN, VARIANCE},
};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Zero;

/// Returns the exact mean and population variance.
fn exact_moments(values: &[f32]) -> (BigRational, BigRational) {
    let n = BigRational::from(BigInt::from(values.len()));
    let exact = |&x: &f32| rational(f64::from(x));
    let mean = sum(values.iter().map(exact)) / &n;
    // f64 holds the square of an f32 exactly.
    let mean_square = sum(values.iter().map(|&x| rational(f64::from(x).powi(2)))) / n;
    let variance = mean_square - &mean * &mean;
    (mean, variance)
}

/// Compares the moments with the exact ones: each is rounded at the end, three times at most.
fn check(values: &[f32]) {
    let moments = Statistics::of(values).moments;
    let (mean, variance) = exact_moments(values);
    assert_eq!(moments.count(), values.len() as u64);
    let (rounded, deviation) = (moments.mean(), moments.standard_deviation());
    let (rounded, deviation) = (rounded.expect("values"), deviation.expect("values"));
    assert!(MEAN.allows(ulps(rounded, &mean)), "{rounded:e} {values:?}");
    assert_eq!(deviation == 0.0, variance.is_zero(), "{values:?}");
    let square = rational(deviation) * rational(deviation);
    let error = in_units(&(square - &variance), &variance);
    assert!(VARIANCE.allows(error), "{deviation:e} {values:?}");
}

#[test]
fn mean_and_deviation_of_random_tensors() {
    let mut generator = SplitMix64(71);
    for case in 0..600 {
        let length = 1 + generator.below(300);
        let draw = |generator: &mut SplitMix64| match case % 4 {
            0 => generator.finite(),
            1 => generator.between_binades(-20, 3),
            // A mean that dwarfs the deviation: f64 sums of squares would cancel.
            2 => 1.0e20 + generator.between_binades(40, 43),
            _ => f32::from_bits(generator.half_word() & 0x8000_ffff),
        };
        let values: Vec<f32> = (0..length).map(|_| draw(&mut generator)).collect();
        check(&values);
    }
    MEAN.assert_needed();
    VARIANCE.assert_needed();
}

#[test]
fn extremes_of_f32_neither_overflow_nor_vanish() {
    let (tiny, huge) = (f32::from_bits(1), f32::MAX);
    check(&[huge; 100]);
    check(&[-huge, huge]);
    check(&[tiny]);
    check(&[tiny, -tiny, tiny]);
    check(&[huge, tiny, -huge]);
    check(&[huge, tiny, tiny, -huge, -tiny]);
    check(&[1.0, 1.0_f32.next_up()]);
    check(&[0.0, -0.0]);
    let mut alternating = vec![huge; 1001];
    alternating.iter_mut().step_by(2).for_each(|x| *x = -*x);
    check(&alternating);
}

#[test]
fn a_constant_tensor_deviates_by_zero() {
    let mut generator = SplitMix64(72);
    for _ in 0..500 {
        let x = generator.finite();
        let statistics = Statistics::of(&vec![x; 1 + generator.below(200)]);
        assert_eq!(statistics.moments.standard_deviation(), Some(0.0));
        assert_eq!(statistics.moments.mean(), Some(f64::from(x)));
        assert_eq!(statistics.extremes(), Some((x.abs(), x.abs())));
    }
}

#[test]
fn nothing_has_no_moments() {
    assert_eq!(Moments::EMPTY.mean(), None);
    assert_eq!(Moments::EMPTY.standard_deviation(), None);
    assert_eq!(Statistics::of::<f32>(&[]), Statistics::EMPTY);
    let empty = Statistics::of(&[f32::NAN, f32::INFINITY]);
    assert_eq!((empty.nonfinite, empty.moments, empty.extremes()), (2, Moments::EMPTY, None));
}

/// Extremes are those of a search, and nothing that is not finite enters one, wherever it stands.
#[test]
fn extremes_are_those_of_a_search() {
    let mut generator = SplitMix64(73);
    for _ in 0..300 {
        let length = generator.below(60);
        let mut values: Vec<f32> = (0..length).map(|_| generator.finite()).collect();
        let magnitudes: Vec<f32> = values.iter().map(|x| x.abs()).collect();
        let pure = Statistics::of(&values);
        let zeros = generator.below(3);
        values.extend([0.0, -0.0].iter().take(zeros));
        let apart = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -f32::NAN];
        values.extend(apart);
        generator.shuffle(&mut values);
        let statistics = Statistics::of(&values);
        assert_eq!((statistics.nonfinite, statistics.zero), (4, zeros as u64));
        assert_eq!(statistics.moments.count(), (length + zeros) as u64);
        let least = magnitudes.iter().copied().min_by(f32::total_cmp);
        let greatest = magnitudes.iter().copied().max_by(f32::total_cmp);
        assert_eq!(statistics.extremes(), least.zip(greatest));
        assert_eq!((statistics.min_bits, statistics.max_bits), (pure.min_bits, pure.max_bits));
        assert_eq!(statistics.max_bits, greatest.map_or(0, f32::to_bits));
    }
}

/// Statistics of low-precision elements are those of their widened values.
#[test]
fn low_precision_elements_are_widened() {
    fn check<F: Element>() {
        let mut generator = SplitMix64(74);
        let elements: Vec<F> = (0..500).map(|_| F::from_bits(generator.half_word())).collect();
        let widened: Vec<f32> = elements.iter().map(|x| x.widen()).collect();
        assert_eq!(Statistics::of(&elements), Statistics::of(&widened));
        assert_eq!(LogStatistics::of(&elements), LogStatistics::of(&widened));
    }
    check::<f16>();
    check::<E4M3>();
}

#[test]
fn log_statistics_are_of_the_logarithms() {
    let mut generator = SplitMix64(75);
    for _ in 0..100 {
        let length = 1 + generator.below(100);
        let values: Vec<f32> = (0..length).map(|_| generator.finite()).collect();
        let mut mixed = values.clone();
        mixed.extend([0.0, f32::NAN, -0.0, f32::INFINITY]);
        generator.shuffle(&mut mixed);
        let logs = LogStatistics::of(&mixed);
        assert_eq!((logs.nonfinite, logs.moments.count()), (2, values.len() as u64));
        assert_eq!(logs.max_bits, values.iter().map(|x| x.abs().to_bits()).max().expect("values"));
        let n = values.len() as f64;
        let ln: Vec<f64> = values.iter().map(|x| f64::from(x.abs()).ln()).collect();
        let mean = ln.iter().sum::<f64>() / n;
        let variance = ln.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        assert!(LOGARITHMS.allows(logs.moments.mean().expect("values") - mean));
        let deviation = logs.moments.standard_deviation().expect("values");
        assert!(LOGARITHMS.allows(deviation - variance.sqrt()));
    }
    LOGARITHMS.assert_needed();
    let empty = LogStatistics::of(&[0.0, -0.0, f32::NAN]);
    assert_eq!(empty, LogStatistics { nonfinite: 1, ..LogStatistics::EMPTY });
}

/// The long accumulator is integer arithmetic modulo its width.
#[test]
fn exact_sums_are_big_integers() {
    let mut generator = SplitMix64(76);
    for _ in 0..300 {
        let (mut sum, mut other, mut expected) =
            (ExactSum::<6>::ZERO, ExactSum::<6>::ZERO, BigInt::zero());
        for _ in 0..generator.below(60) {
            let (significand, position) =
                (generator.word() >> generator.below(64), generator.below(300));
            let negative = generator.word() & 1 == 1;
            let to = if generator.word() & 1 == 1 { &mut sum } else { &mut other };
            to.add(significand, position as u32, negative);
            let term = BigInt::from(significand) << position;
            expected += if negative { -term } else { term };
        }
        sum.merge(&other);
        let words: Vec<u32> =
            sum.magnitude().iter().flat_map(|&word| [word as u32, (word >> 32) as u32]).collect();
        assert_eq!(
            BigInt::from_slice(num_bigint::Sign::Plus, &words),
            BigInt::from(expected.magnitude().clone())
        );
        assert_eq!(sum.is_negative(), expected < BigInt::zero());
        let rounded = sum.to_f64(-149);
        let exact = BigRational::from(expected) * rational_pow2(-149);
        assert!(EXACT_SUM.allows(ulps(rounded, &exact)), "{rounded:e}");
    }
    EXACT_SUM.assert_needed();
}
