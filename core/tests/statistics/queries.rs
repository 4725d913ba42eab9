//! The questions that policies ask, against a search over every scale and element.

use adaloss_core::{
    format::{Format, Narrowing, Overflow, Rounding},
    scale::Scale,
    statistics::Histogram,
};
use adaloss_oracle::{
    Limits, counted_narrowings,
    inputs::{SplitMix64, adversarial},
    product,
};

/// A tensor of random width and position, with the scale it carries.
fn tensor(narrowing: Narrowing, generator: &mut SplitMix64) -> (Vec<f32>, Scale) {
    let incoming = Scale::saturating(generator.below(253) as i32 - 126);
    let length = 1 + generator.below(120);
    if generator.below(4) == 0 {
        let mut values = adversarial(narrowing.format, 10, generator.word());
        values.truncate(length);
        return (values, incoming);
    }
    let least = generator.below(260) as i32 - 140;
    let greatest = (least + generator.below(60) as i32).min(127);
    let values = (0..length).map(|_| generator.between_binades(least, greatest));
    (values.filter(|&x| x != 0.0).collect(), incoming)
}

/// Counts the elements for which `is_lost` holds at scale `2^k`.
fn count(values: &[f32], incoming: Scale, k: i32, is_lost: impl Fn(f64) -> bool) -> u64 {
    let products = values.iter().map(|x| product(x.abs(), k - incoming.log2()));
    products.filter(|&v| is_lost(v)).count() as u64
}

#[test]
fn least_and_greatest_scale_are_those_of_a_search() {
    let mut generator = SplitMix64(51);
    let (mut some, mut none) = (0, 0);
    for narrowing in counted_narrowings() {
        let limits = Limits::of(narrowing.format.encoding);
        for _ in 0..60 {
            let (values, incoming) = tensor(narrowing, &mut generator);
            let mut histogram = Histogram::new(narrowing);
            histogram.observe(&values, incoming);
            let underflow: Vec<u64> = (-126..=126)
                .map(|k| count(&values, incoming, k, |v| limits.underflows(narrowing, v)))
                .collect();
            for allowed in 0..=values.len() as u64 {
                let least = (-126..).zip(&underflow).find(|&(_, &count)| count <= allowed);
                let expected = least.map(|(k, _)| Scale::saturating(k));
                assert_eq!(histogram.least_scale(allowed), expected, "{narrowing:?} {allowed}");
                match expected {
                    Some(_) => some += 1,
                    None => none += 1,
                }
            }
            let greatest = (-126..=126)
                .rev()
                .find(|&k| count(&values, incoming, k, |v| limits.overflows(narrowing, v)) == 0);
            assert_eq!(histogram.greatest_scale(), greatest.map(Scale::saturating));
        }
    }
    assert!(some > 10_000 && none > 1000, "{some} {none}");
    println!("queries: {} least scales of a search", some + none);
}

/// A tensor without nonzero elements underflows nowhere and overflows nowhere.
/// Printed, a histogram is its counts and the bins that are not empty.
#[test]
fn a_histogram_prints_what_it_holds() {
    let mut histogram = Histogram::new(Narrowing::to(Format::BINARY16));
    histogram.observe(&[1.0, 1.0, 0.5, 0.0, f32::NAN], Scale::ONE);
    let text = format!("{histogram:?}");
    // 2^k lives at K in -24 - k ..= 15 - k.
    let end =
        "elements: 5, nonfinite: 1, zero: 1, floors: {-24: 2, -23: 1}, ceilings: {15: 2, 16: 1} }";
    assert!(text.starts_with("Histogram { narrowing: Narrowing {"), "{text}");
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn an_empty_tensor_allows_every_scale() {
    for narrowing in counted_narrowings() {
        let mut histogram = Histogram::new(narrowing);
        for _ in 0..2 {
            assert_eq!(histogram.least_scale(0), Some(Scale::MIN));
            assert_eq!(histogram.greatest_scale(), Some(Scale::MAX));
            assert_eq!(histogram.least_scale_by_mass(0), Some(Scale::MIN));
            assert_eq!(histogram.lost_mass(Scale::MIN), 0);
            assert_eq!((histogram.nonzero(), histogram.underflow(Scale::ONE)), (0, 0));
            histogram.observe(&[0.0, -0.0, f32::NAN, f32::INFINITY], Scale::MAX);
        }
    }
}

/// Floors are the exponent histogram: what does not underflow at `K` and does at `K - 1`.
#[test]
fn floors_are_differences_of_underflow() {
    let mut generator = SplitMix64(52);
    for narrowing in counted_narrowings() {
        let (values, incoming) = tensor(narrowing, &mut generator);
        let mut histogram = Histogram::new(narrowing);
        histogram.observe(&values, incoming);
        let floors: Vec<(i32, u64)> = histogram.floors().collect();
        assert_eq!(floors.iter().map(|floor| floor.1).sum::<u64>(), histogram.nonzero());
        assert_eq!((floors[0].0, floors[floors.len() - 1].0), (-126, 127));
        for &(k, count) in &floors[1..floors.len() - 1] {
            let [below, at] = [k - 1, k].map(|k| histogram.underflow(Scale::saturating(k)));
            assert_eq!(below - at, count);
        }
        histogram.clear();
        assert_eq!(histogram, Histogram::new(narrowing));
    }
}

/// What becomes of overflow is none of a histogram's business; rounding and format are.
#[test]
fn saturating_shares_its_histogram() {
    for narrowing in counted_narrowings() {
        let histogram = Histogram::new(narrowing.saturating());
        assert_eq!(histogram, Histogram::new(narrowing));
        assert_eq!(histogram.narrowing(), Narrowing { overflow: Overflow::Infinity, ..narrowing });
        let stochastic = Histogram::new(narrowing.with_rounding(Rounding::Stochastic));
        assert_ne!(stochastic, histogram);
    }
}
