//! The central promise: one histogram knows how many elements underflow and overflow at every
//! scale.
//!
//! Counts are compared with two others: what [`Apply`] does to each element, and what the
//! definition says of the exact product, which an f64 holds for every shift.

use adaloss_core::{
    apply::Apply,
    format::{Fate, Narrowing, Noise, Rounding},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_oracle::{
    Limits, counted_narrowings, in_parallel,
    inputs::{SplitMix64, adversarial, with_neighbours},
    pow2, product,
};

use crate::narrowed;

/// Scales that the f32 values carry before they are narrowed: both ends, none, and others.
const INCOMING: [i32; 6] = [-126, -40, 0, 3, 77, 126];

/// Elements per histogram: few enough that no two mistakes hide each other.
const BLOCK: usize = 64;

fn scale(log2: i32) -> Scale {
    Scale::new(log2).expect("a legal exponent")
}

/// Compares the counts of one block at one scale; returns how many elements were looked at.
fn check(histogram: &Histogram, block: &[f32], incoming: Scale, k: i32) -> u64 {
    let narrowing = histogram.narrowing();
    let limits = Limits::of(narrowing.format.encoding);
    let shift = scale(k) / incoming;
    let apply = Apply { narrowing, shift, noise: Noise::default() };
    let mut outcome = Outcome::EMPTY;
    let (mut underflow, mut overflow) = (0, 0);
    narrowed::slice(&apply, block, 0, &mut outcome);
    for &x in block {
        let v = product(x.abs(), shift.log2());
        underflow += u64::from(v > 0.0 && limits.underflows(narrowing, v));
        overflow += u64::from(v.is_finite() && limits.overflows(narrowing, v));
    }
    let counted = (histogram.underflow(scale(k)), histogram.overflow(scale(k)));
    let context = || format!("{narrowing:?} K = {k}, k_in = {incoming}, {block:?}");
    assert_eq!(counted, (outcome.underflow, outcome.overflow), "narrowing, {}", context());
    assert_eq!(counted, (underflow, overflow), "definition, {}", context());
    block.len() as u64
}

/// Compares at all given scales and incoming scales.
fn check_all(narrowing: Narrowing, values: &[f32], scales: &[i32]) -> u64 {
    let mut checked = 0;
    for incoming in INCOMING.map(scale) {
        for block in values.chunks(BLOCK) {
            let mut histogram = Histogram::new(narrowing);
            histogram.observe(block, incoming);
            for &k in scales {
                checked += check(&histogram, block, incoming, k);
            }
        }
    }
    checked
}

#[test]
fn counts_are_exact_at_every_scale() {
    let near: Vec<i32> = (-64..=64).collect();
    let everywhere: Vec<i32> = (-126..=126).step_by(7).chain([-126, -125, 125, 126]).collect();
    let checked = in_parallel(&counted_narrowings(), |&narrowing| {
        let values = adversarial(narrowing.format, 3000, 41);
        check_all(narrowing, &values, &near) + check_all(narrowing, &values, &everywhere)
    });
    println!("exact counts: {checked} (format, rounding, K, element) checks, 0 mismatches");
    assert!(checked > 100_000_000);
}

/// Every legal scale, with fewer elements.
#[test]
fn counts_are_exact_at_every_legal_scale() {
    let every: Vec<i32> = (-126..=126).collect();
    let checked = in_parallel(&counted_narrowings(), |&narrowing| {
        check_all(narrowing, &adversarial(narrowing.format, 1, 42)[..512], &every)
    });
    println!("exact counts: {checked} checks at every legal K, 0 mismatches");
}

/// Around every point at which a count changes at scale `K`: f32 values just below, on and just
/// above what underflows and overflows there.
#[test]
fn counts_change_exactly_where_they_should() {
    let checked = in_parallel(&counted_narrowings(), |&narrowing| {
        let limits = Limits::of(narrowing.format.encoding);
        let smallest = Limits::smallest_of(narrowing.format);
        let edges = [smallest / 2.0, smallest, limits.largest, limits.tie(), limits.beyond];
        let mut count = 0;
        for incoming in INCOMING.map(scale) {
            for k in -126..=126 {
                let unshift = pow2(incoming.log2() - k);
                for edge in edges {
                    let x = (edge * unshift) as f32;
                    for x in with_neighbours(x) {
                        let mut histogram = Histogram::new(narrowing);
                        histogram.observe_one(x, incoming);
                        count += check(&histogram, &[x], incoming, k);
                    }
                }
            }
        }
        count
    });
    println!("exact counts: {checked} single elements on the edges, 0 mismatches");
}

/// Under stochastic rounding the counts are bounds that hold for every random word, and the words 0
/// and 2^32 - 1 reach them.
#[test]
fn stochastic_counts_are_tight_bounds() {
    let narrowings: Vec<Narrowing> = counted_narrowings()
        .into_iter()
        .filter(|n| n.rounding == Rounding::NearestEven)
        .map(|n| n.with_rounding(Rounding::Stochastic))
        .collect();
    let checked = in_parallel(&narrowings, |&narrowing| {
        let mut generator = SplitMix64(43);
        let mut checked = 0;
        for incoming in INCOMING.map(scale) {
            for block in adversarial(narrowing.format, 200, 44).chunks(BLOCK) {
                let mut histogram = Histogram::new(narrowing);
                histogram.observe(block, incoming);
                for k in (-64..=64).step_by(3).chain([-126, 126]) {
                    let shift = (scale(k) / incoming).log2();
                    let mut count = |fate: Fate, noise: &mut dyn FnMut() -> u32| -> u64 {
                        checked += block.len() as u64;
                        let fates = block.iter().map(|&x| narrowing.narrow(x, shift, noise()).fate);
                        fates.filter(|&f| f == fate).count() as u64
                    };
                    let underflow = histogram.underflow(scale(k));
                    let overflow = histogram.overflow(scale(k));
                    let mut random = || generator.half_word();
                    assert!(count(Fate::Underflow, &mut random) <= underflow);
                    assert!(count(Fate::Overflow, &mut random) <= overflow);
                    assert_eq!(count(Fate::Underflow, &mut || u32::MAX), underflow);
                    assert_eq!(count(Fate::Overflow, &mut || 0), overflow);
                }
            }
        }
        checked
    });
    println!("stochastic counts: {checked} narrowings within bounds that are reached");
}

/// What is zero or not finite is counted apart and at no scale, wherever it stands.
#[test]
fn zero_and_non_finite_elements_are_counted_apart() {
    for narrowing in counted_narrowings() {
        for incoming in INCOMING.map(scale) {
            let values = adversarial(narrowing.format, 50, 45);
            let mut pure = Histogram::new(narrowing);
            pure.observe(&values, incoming);
            let apart = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -0.0];
            let mut mixed = values.clone();
            mixed.extend(apart);
            SplitMix64(46).shuffle(&mut mixed);
            let mut histogram = Histogram::new(narrowing);
            histogram.observe(&mixed, incoming);
            assert_eq!(histogram.elements(), mixed.len() as u64);
            assert_eq!(histogram.nonfinite(), 4);
            assert_eq!(histogram.nonzero(), values.len() as u64);
            for k in (-126..=126).map(scale) {
                assert_eq!(histogram.underflow(k), pure.underflow(k));
                assert_eq!(histogram.overflow(k), pure.overflow(k));
            }
            assert!(histogram.floors().eq(pure.floors()));
        }
    }
}

/// An element observed at `2^k_in` counts as its unscaled value: the same tensor, carried at
/// another scale, has the same histogram.
#[test]
fn scales_are_absolute() {
    let mut generator = SplitMix64(47);
    for narrowing in counted_narrowings() {
        for _ in 0..20 {
            let values: Vec<f32> = (0..50).map(|_| generator.between_binades(-20, 20)).collect();
            let mut unscaled = Histogram::new(narrowing);
            unscaled.observe(&values, Scale::ONE);
            let incoming = scale(generator.below(120) as i32 - 60);
            let mut scaled = Histogram::new(narrowing);
            let carried: Vec<f32> = values.iter().map(|x| x * incoming.factor()).collect();
            scaled.observe(&carried, incoming);
            assert_eq!(scaled, unscaled);
        }
    }
}

/// Long slices are counted by class and short ones one by one: to the same counts, for values of
/// every exponent on every side of the points where floor and ceiling change.
#[test]
fn a_slice_is_counted_as_its_elements_are() {
    let bits = (0..0x200_u32).flat_map(|high| {
        let reaches = [12, 15, 19, 20, 23].map(|width| 0x80_0000 - (1 << width));
        let low = reaches.into_iter().flat_map(|low| [low.max(1) - 1, low, low + 1]);
        low.chain([0, 1, 0x7f_ffff]).map(move |low| high << 23 | low)
    });
    let values: Vec<f32> = bits.map(f32::from_bits).collect();
    // Without subnormals no block is counted one by one.
    let normal: Vec<f32> = values.iter().copied().filter(|x| !x.is_subnormal()).collect();
    for narrowing in counted_narrowings() {
        for incoming in INCOMING.map(scale) {
            for values in [&values, &normal] {
                for length in [0, 1, 127, 255, 256, 257, values.len()] {
                    let mut slice = Histogram::new(narrowing);
                    let mut single = slice;
                    slice.observe(&values[..length], incoming);
                    values[..length].iter().for_each(|&x| single.observe_one(x, incoming));
                    assert_eq!(slice, single, "{narrowing:?}");
                }
            }
        }
    }
}
