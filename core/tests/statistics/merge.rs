//! Merging: any split and any order gives the same bytes.

use adaloss_core::{
    apply::Apply,
    format::{Format, Narrowing, Noise},
    scale::Scale,
    statistics::{Histogram, LogStatistics, Outcome, Statistics},
};
use adaloss_oracle::{
    inputs::{SplitMix64, cases},
    narrowings,
};
use proptest::prelude::*;

/// What is counted of one part of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counted {
    histogram: Histogram,
    outcome: Outcome,
    statistics: Statistics,
    logs: LogStatistics,
}

impl Counted {
    fn empty(narrowing: Narrowing) -> Self {
        Self {
            histogram: Histogram::new(narrowing),
            outcome: Outcome::EMPTY,
            statistics: Statistics::EMPTY,
            logs: LogStatistics::EMPTY,
        }
    }

    /// Counts elements, each with its place in the whole tensor, so that noise stays with it.
    fn of(narrowing: Narrowing, elements: &[(u64, f32)], incoming: Scale, k: Scale) -> Self {
        let mut counted = Self::empty(narrowing);
        let noise = Noise { seed: 7, stream: 1 };
        let apply = Apply { narrowing, shift: k / incoming, noise };
        for &(index, x) in elements {
            counted.histogram.observe_one(x, incoming);
            apply.element(x, index, &mut counted.outcome);
            counted.statistics.observe(x);
            counted.logs.observe(x);
        }
        counted
    }

    fn merge(&mut self, other: &Self) {
        self.histogram.merge(&other.histogram).expect("the same narrowing");
        self.outcome.merge(&other.outcome);
        self.statistics.merge(&other.statistics);
        self.logs.merge(&other.logs);
    }
}

/// Merges parts two by two in a random order, as a tree and not only as a chain.
fn merge_in_random_order(mut parts: Vec<Counted>, generator: &mut SplitMix64) -> Counted {
    while parts.len() > 1 {
        let taken = parts.swap_remove(generator.below(parts.len()));
        let into = generator.below(parts.len());
        parts[into].merge(&taken);
    }
    parts[0]
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_split_and_any_order_count_the_same(
        bits in prop::collection::vec(any::<u32>(), 0..200),
        narrowing in prop::sample::select(narrowings()),
        (incoming, k) in (-126..=126, -126..=126),
        parts in 1..12_usize,
        seed: u64,
    ) {
        let [incoming, k] = [incoming, k].map(Scale::saturating);
        let mut generator = SplitMix64(seed);
        // Random patterns, NaN and infinities among them, and a few zeros.
        let value = |bits: u32| if bits.is_multiple_of(16) { 0.0 } else { f32::from_bits(bits) };
        let mut elements: Vec<(u64, f32)> = (0..).zip(bits.into_iter().map(value)).collect();
        let whole = Counted::of(narrowing, &elements, incoming, k);

        generator.shuffle(&mut elements);
        let mut cut: Vec<usize> =
            (1..parts).map(|_| generator.below(elements.len() + 1)).collect();
        cut.extend([0, elements.len()]);
        cut.sort_unstable();
        let parts: Vec<Counted> = cut
            .windows(2)
            .map(|ends| Counted::of(narrowing, &elements[ends[0]..ends[1]], incoming, k))
            .collect();
        let merged = merge_in_random_order(parts, &mut generator);
        prop_assert_eq!(&merged, &whole);
        prop_assert_eq!(
            merged.statistics.moments.standard_deviation().map(f64::to_bits),
            whole.statistics.moments.standard_deviation().map(f64::to_bits)
        );
    }

    #[test]
    fn nothing_is_the_identity(
        bits in prop::collection::vec(any::<u32>(), 0..50),
        narrowing in prop::sample::select(narrowings()),
    ) {
        let elements: Vec<(u64, f32)> = (0..).zip(bits.into_iter().map(f32::from_bits)).collect();
        let whole = Counted::of(narrowing, &elements, Scale::ONE, Scale::MIN);
        let (mut left, mut right) = (Counted::empty(narrowing), whole);
        left.merge(&whole);
        right.merge(&Counted::empty(narrowing));
        prop_assert_eq!(&left, &whole);
        prop_assert_eq!(&right, &whole);
    }
}

/// A histogram takes counts of its own format and rounding only, and stays as it is otherwise.
#[test]
fn other_formats_are_refused() {
    for into in narrowings() {
        for from in narrowings() {
            let mut histogram = Histogram::new(into);
            histogram.observe(&[1.0, f32::NAN, 0.0], Scale::MAX);
            let before = histogram;
            let mut other = Histogram::new(from);
            other.observe(&[3.0, f32::INFINITY], Scale::ONE);
            let matches = (into.format, into.rounding) == (from.format, from.rounding);
            match histogram.merge(&other) {
                Ok(()) => {
                    assert!(matches);
                    assert_eq!((histogram.elements(), histogram.nonfinite()), (5, 2));
                }
                Err(error) => {
                    assert!(!matches);
                    assert_eq!(histogram, before);
                    assert_eq!(error.into, before.narrowing());
                    assert_eq!(error.from, other.narrowing());
                }
            }
        }
    }
    let mut histogram = Histogram::new(Narrowing::to(Format::BINARY16));
    let error = histogram.merge(&Histogram::new(Narrowing::to(Format::E5M2)));
    let text = error.expect_err("another format").to_string();
    assert!(text.contains("Binary16") && text.contains("E5M2"), "{text}");
}

/// Added count by count, as a sum over ranks does, histograms merge as by `merge`.
#[test]
fn counts_add_up_to_a_merged_histogram() {
    let mut generator = SplitMix64(4);
    let mut some = || {
        let mut histogram = Histogram::new(Narrowing::to(Format::E4M3));
        for _ in 0..500 {
            histogram.observe_one(generator.between_binades(-40, 20), Scale::ONE);
        }
        histogram.observe(&[0.0, f32::NAN], Scale::ONE);
        histogram
    };
    let (mut into, mut from) = (some(), some());
    let mut expected = into;
    expected.merge(&from).unwrap();
    assert_eq!(into.counts_mut().count(), Histogram::COUNTS);
    into.counts_mut().zip(from.counts_mut()).for_each(|(into, from)| *into += *from);
    assert_eq!(into, expected);
}
