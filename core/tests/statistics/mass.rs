//! Lost mass: an upper bound of a share that rational numbers know exactly.

use adaloss_core::{
    format::{Format, Narrowing, Rounding},
    scale::Scale,
    statistics::Histogram,
};
use adaloss_oracle::{
    Limits, counted_narrowings,
    exact::{in_units, rational, sum},
    in_parallel,
    inputs::SplitMix64,
    product,
    tolerance::{LOST_MASS, LOST_MASS_UNITS},
};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Zero;

/// 2^32, the denominator of the shares that a histogram returns.
fn whole() -> BigRational {
    BigRational::from(BigInt::from(1_u64 << 32))
}

/// Returns the exact share of the sum of magnitudes that underflows at each legal scale, times
/// 2^32.
fn shares(narrowing: Narrowing, values: &[f32], incoming: Scale) -> Vec<BigRational> {
    let limits = Limits::of(narrowing.format.encoding);
    let mut sorted: Vec<f32> = values.iter().map(|x| x.abs()).collect();
    sorted.sort_by(f32::total_cmp);
    let total = sum(sorted.iter().map(|&x| rational(x.into())));
    let mut lost = total.clone();
    let mut kept_from = sorted.len();
    // From small scales to large: ever fewer elements are lost, the largest are kept first.
    let share = |k: i32| {
        while kept_from > 0 {
            let v = product(sorted[kept_from - 1], k - incoming.log2());
            if limits.underflows(narrowing, v) {
                break;
            }
            kept_from -= 1;
            lost -= rational(sorted[kept_from].into());
        }
        &lost / &total * whole()
    };
    (-126..=126).map(share).collect()
}

/// A tensor whose elements are within f32 and whose floors are within the legal scales.
fn tensor(narrowing: Narrowing, generator: &mut SplitMix64) -> (Vec<f32>, Scale) {
    let incoming = Scale::saturating(generator.below(41) as i32 - 20);
    let bottom = narrowing.format.min_positive_log2();
    // `2^e` is lost below K = bottom - e + k_in, give or take one.
    let least = (bottom + incoming.log2() - 124).max(-149);
    let greatest = (bottom + incoming.log2() + 124).min(127);
    let from = least + generator.below((greatest - least) as usize) as i32;
    let to = (from + generator.below(50) as i32).min(greatest);
    let length = 1 + generator.below(150);
    let mut values: Vec<f32> = (0..length).map(|_| generator.between_binades(from, to)).collect();
    match generator.below(4) {
        // Only lower edges of binades, only upper edges, or both.
        0 => values.iter_mut().for_each(|x| *x = x.abs().log2().floor().exp2()),
        1 => values.iter_mut().for_each(|x| *x = x.abs().log2().floor().exp2().next_down()),
        2 => values.iter_mut().step_by(2).for_each(|x| *x = x.abs().log2().floor().exp2()),
        _ => {}
    }
    values.retain(|x| *x != 0.0);
    (values, incoming)
}

/// Never below the share, and at most four times it: a lost element may lie at the lower edge of
/// its binade and is taken for the upper one, a kept element the other way round.
#[test]
fn lost_mass_is_an_upper_bound_within_four_times() {
    let checked = in_parallel(&counted_narrowings(), |&narrowing| {
        let mut generator = SplitMix64(61);
        let mut checked = 0;
        for _ in 0..60 {
            let (values, incoming) = tensor(narrowing, &mut generator);
            if values.is_empty() {
                continue;
            }
            let mut histogram = Histogram::new(narrowing);
            histogram.observe(&values, incoming);
            for (k, share) in (-126..=126).zip(shares(narrowing, &values, incoming)) {
                let bound = histogram.lost_mass(Scale::saturating(k));
                let context = || format!("{narrowing:?} K = {k}, k_in = {incoming}, {values:?}");
                if bound < u32::MAX {
                    let bound = BigRational::from(BigInt::from(bound));
                    assert!(bound >= share, "{bound} < {share}, {}", context());
                    assert!(is_near(&bound, &share), "{bound} for {share}, {}", context());
                } else {
                    let most = share * rational(1.0 + LOST_MASS.most);
                    assert!(most + rational(LOST_MASS_UNITS.most) >= whole(), "{}", context());
                }
                checked += 1;
            }
        }
        checked
    });
    println!("lost mass: {checked} bounds against rational numbers");
    LOST_MASS.assert_needed();
    LOST_MASS_UNITS.assert_needed();
}

/// Tells whether a bound is at most so many times the share, and rounded up.
fn is_near(bound: &BigRational, share: &BigRational) -> bool {
    let beyond = |most: BigRational| (bound - most).max(rational(0.0));
    let edges = beyond(share + rational(LOST_MASS_UNITS.most));
    let rounding = beyond(share * rational(1.0 + LOST_MASS.most));
    LOST_MASS.allows(in_units(&edges, share))
        && LOST_MASS_UNITS.allows(in_units(&rounding, &rational(1.0)))
}

/// Elements that underflow at no legal scale, or at all of them, are not told apart: the bound is
/// looser there, and still a bound.
#[test]
fn lost_mass_is_an_upper_bound_for_any_tensor() {
    let mut generator = SplitMix64(65);
    for narrowing in counted_narrowings() {
        for _ in 0..40 {
            let incoming = Scale::saturating(generator.below(253) as i32 - 126);
            let values: Vec<f32> =
                (0..1 + generator.below(80)).map(|_| generator.finite()).collect();
            let mut histogram = Histogram::new(narrowing);
            histogram.observe(&values, incoming);
            for (k, share) in (-126..=126).zip(shares(narrowing, &values, incoming)) {
                let bound = histogram.lost_mass(Scale::saturating(k));
                let is_bound = BigRational::from(BigInt::from(bound)) >= share;
                assert!(is_bound || bound == u32::MAX, "{narrowing:?} K = {k} {values:?}");
            }
        }
    }
}

/// The factor of four is reached: half the mass of a bound is no promise of half the mass lost.
/// The bound is `2 L / (T + L)` of the lower edges of what is lost and of everything, and never below it
/// for being rounded.
#[test]
fn the_bound_is_that_of_edges_rounded_up() {
    let mut generator = SplitMix64(57);
    let narrowing = Narrowing::to(Format::BINARY16);
    let mut rounded = 0;
    for _ in 0..300 {
        let length = 2 + generator.below(60);
        let values: Vec<f32> = (0..length).map(|_| generator.between_binades(-24, 16)).collect();
        let mut histogram = Histogram::new(narrowing);
        histogram.observe(&values, Scale::ONE);
        // Exact in f64: a few powers of two of some forty binades.
        let edge = |(floor, count): (i32, u64)| count as f64 * f64::from(-floor).exp2();
        let total: f64 = histogram.floors().map(edge).sum();
        for log2 in -44..4 {
            let lost: f64 = histogram.floors().filter(|&(floor, _)| floor > log2).map(edge).sum();
            let exact = 2.0 * lost / (total + lost) * 2.0_f64.powi(32);
            let found = f64::from(histogram.lost_mass(Scale::saturating(log2)));
            let most = (exact * (1.0 + 2.0_f64.powi(-29)) + 1.0).min(f64::from(u32::MAX));
            let least = exact.min(f64::from(u32::MAX)) * (1.0 - 2.0_f64.powi(-50));
            assert!((least..=most).contains(&found), "{found} of {exact} at {log2}: {values:?}");
            rounded += u32::from(found > exact && lost > 0.0);
        }
    }
    assert!(rounded > 1000, "{rounded} of the bounds were rounded");
}

#[test]
fn four_times_is_reached() {
    // Kept at the upper edge of its binade, lost at the lower edge.
    let values = [2.0_f32.next_down(), 2.0_f32.powi(-13).next_up()];
    let narrowing = Narrowing::to(Format::BINARY16);
    let mut histogram = Histogram::new(narrowing);
    histogram.observe(&values, Scale::ONE);
    let scale = Scale::saturating(-13);
    assert_eq!((histogram.underflow(scale), histogram.nonzero()), (1, 2));
    let share = f64::from(values[1]) / (f64::from(values[0]) + f64::from(values[1]));
    let ratio = f64::from(histogram.lost_mass(scale)) / 2.0_f64.powi(32) / share;
    assert!(ratio > 3.99 && ratio <= 4.0, "{ratio}");
}

#[test]
fn least_scale_by_mass_is_that_of_a_search() {
    let checked = in_parallel(&counted_narrowings(), |&narrowing| {
        let mut generator = SplitMix64(62);
        let mut checked = 0;
        for _ in 0..30 {
            let (values, incoming) = tensor(narrowing, &mut generator);
            if values.is_empty() {
                continue;
            }
            let mut histogram = Histogram::new(narrowing);
            histogram.observe(&values, incoming);
            let shares = shares(narrowing, &values, incoming);
            for allowed in [0, 1, 42_949, 4_294_967, 1 << 28, 1 << 31, u32::MAX - 1, u32::MAX] {
                let legal = |k| Scale::saturating(k);
                let least = histogram.least_scale_by_mass(allowed);
                let search = (-126..=126).map(legal).find(|&k| histogram.lost_mass(k) <= allowed);
                assert_eq!(least, search, "{narrowing:?} {allowed} {values:?}");
                if let Some(least) = least {
                    // What is promised is kept, but for the share 1 that no u32 says.
                    let share = &shares[(least.log2() + 126) as usize];
                    let allowed = BigRational::from(BigInt::from(allowed));
                    let is_kept = *share <= allowed || allowed.to_integer() == u32::MAX.into();
                    assert!(is_kept, "{narrowing:?} {share} > {allowed} {values:?}");
                }
                checked += 1;
            }
        }
        checked
    });
    println!("lost mass: {checked} least scales of a search");
}

/// Nothing is lost, everything is lost: the two ends are exact.
#[test]
fn the_ends_are_exact() {
    let mut generator = SplitMix64(63);
    for narrowing in counted_narrowings() {
        for _ in 0..50 {
            let (values, incoming) = tensor(narrowing, &mut generator);
            let mut histogram = Histogram::new(narrowing);
            histogram.observe(&values, incoming);
            for k in (-126..=126).map(Scale::saturating) {
                let (lost, nonzero) = (histogram.underflow(k), histogram.nonzero());
                let mass = histogram.lost_mass(k);
                assert_eq!(mass == 0, lost == 0, "{narrowing:?} {k} {values:?}");
                if lost == nonzero && lost > 0 {
                    assert_eq!(mass, u32::MAX);
                }
            }
        }
    }
}

/// Histograms of up to 2^61 elements, made by merging one with itself: no sum overflows, and the
/// bound is that of the small histogram but for its last units.
#[test]
fn huge_counts_keep_the_bound() {
    let mut generator = SplitMix64(64);
    for narrowing in counted_narrowings() {
        let (values, incoming) = tensor(narrowing, &mut generator);
        let mut small = Histogram::new(narrowing);
        small.observe(&values, incoming);
        let mut huge = small;
        while huge.elements() < 1 << 60 {
            let copy = huge;
            huge.merge(&copy).expect("the same narrowing");
        }
        let shares = shares(narrowing, &values, incoming);
        for (k, share) in (-126..=126).map(Scale::saturating).zip(shares) {
            let mass = BigRational::from(BigInt::from(huge.lost_mass(k)));
            let is_all = huge.lost_mass(k) == u32::MAX;
            assert!(is_all || mass >= share, "{narrowing:?} {k}: {mass} < {share}");
            assert_eq!(huge.underflow(k) == 0, share.is_zero());
        }
    }
}

/// Few large elements above very many small ones: the kept binades that are too small for the units
/// of the sum must not count as more than they are.
#[test]
fn huge_counts_below_a_few_large_elements() {
    let narrowing = Narrowing::to(Format::BINARY16).with_rounding(Rounding::TowardZero);
    // One element in each of 50 binades, and 2^50 just below them.
    let few: Vec<f32> = (-19..=30).map(|log2| 2.0_f32.powi(log2)).collect();
    let small = 2.0_f32.powi(-19).next_down();
    let mut histogram = Histogram::new(narrowing);
    histogram.observe(&[small], Scale::ONE);
    for _ in 0..50 {
        let copy = histogram;
        histogram.merge(&copy).expect("the same narrowing");
    }
    let mut kept = Histogram::new(narrowing);
    kept.observe(&few, Scale::ONE);
    histogram.merge(&kept).expect("the same narrowing");
    let scale = Scale::saturating(-5);
    assert_eq!(histogram.underflow(scale), 1 << 50);
    let lost = f64::from(small) * 2.0_f64.powi(50);
    let total = lost + few.iter().copied().map(f64::from).sum::<f64>();
    let bound = f64::from(histogram.lost_mass(scale)) / 2.0_f64.powi(32);
    assert!(bound >= lost / total, "{bound} < {}", lost / total);
}
