//! The room `statistics`: exact counts at every scale, exact moments, merged in any order.

use adaloss_core::{
    format::{Element, Narrowing},
    scale::Scale,
    statistics::{Histogram, LogStatistics, Statistics},
};
use adaloss_hal::{Capabilities, HasNarrow, Memory, Plain, Summarise};
use adaloss_oracle::{
    apfloat,
    exact::{in_units, rational, sum, ulps},
    inputs::SplitMix64,
    search::{Tensor, counts, lost_share},
    tolerance::{MEAN, VARIANCE},
};
use arbitrary::{Result, Unstructured};
use num_bigint::BigInt;
use num_rational::BigRational;

use crate::{
    device::{download, succeeds, upload},
    input, on_our_devices,
};

/// The most values whose moments are compared with rational numbers.
const MOST: usize = 120;
/// The most values whose counts are compared at every scale.
const MOST_COUNTED: usize = 600;

/// Checks histograms, and the statistics of our devices.
pub fn check(bytes: &[u8]) {
    input::run(bytes, check_histogram);
    on_our_devices!(bytes, check_on);
}

/// Checks that a device adds the statistics of a tensor to those that are there.
pub fn check_on<F: Element + Plain, D: Memory + HasNarrow<F>>(device: &mut D, bytes: &[u8]) {
    input::run(bytes, |u| {
        let lengths = [u.int_in_range(0..=MOST)?, u.int_in_range(0..=MOST)?];
        let mut parts = [input::elements::<F>(u, lengths[0])?, input::elements(u, lengths[1])?];
        if !device.capabilities().subnormals {
            // A device that flushes reads a subnormal as zero: they count as such.
            let least = F::ENCODING.min_normal_bits();
            let sign = F::ENCODING.sign_bit();
            let values = parts.iter_mut().flatten();
            let subnormals = values.filter(|x| x.to_bits() & (sign - 1) < least);
            subnormals.for_each(|x| *x = F::from_bits(x.to_bits() & sign));
        }
        let mut to = upload(device, &[Statistics::EMPTY]);
        for part in &parts {
            let values = upload(device, part);
            let (input, to) = (D::view(&values), D::view_mut(&mut to));
            succeeds(device.run(Summarise::<D::Space, F> { input, to, when: None }));
        }
        let found = download(device, D::view(&to))[0];
        let values = parts.iter().flatten();
        let values = values.map(|x| apfloat::decode(F::ENCODING, x.to_bits()) as f32);
        check_statistics(&found, &values.collect::<Vec<f32>>());
        Ok(())
    });
}

/// Compares statistics with counts, extremes and rational moments.
fn check_statistics(found: &Statistics, values: &[f32]) {
    let finite: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
    let zero = finite.iter().filter(|x| **x == 0.0).count();
    assert_eq!((found.nonfinite, found.zero), ((values.len() - finite.len()) as u64, zero as u64));
    let magnitudes = finite.iter().map(|x| x.abs()).filter(|&x| x != 0.0);
    let extremes = magnitudes.clone().reduce(f32::min).zip(magnitudes.reduce(f32::max));
    assert_eq!(found.extremes(), extremes, "{values:?}");
    assert_eq!(found.moments.count(), finite.len() as u64);
    let (Some(mean), Some(deviation)) = (found.moments.mean(), found.moments.standard_deviation())
    else {
        assert!(finite.is_empty(), "no moments of {values:?}");
        return;
    };
    let n = BigRational::from(BigInt::from(finite.len()));
    let exact = |x: f32| rational(x.into());
    let exact_mean = sum(finite.iter().map(|&x| exact(x))) / &n;
    assert!(MEAN.allows(ulps(mean, &exact_mean)), "mean {mean:e} of {values:?}");
    // f64 holds the square of an f32 exactly.
    let squares = sum(finite.iter().map(|&x| rational(f64::from(x).powi(2)))) / n;
    let variance = squares - &exact_mean * &exact_mean;
    let error = in_units(&(rational(deviation) * rational(deviation) - &variance), &variance);
    assert!(VARIANCE.allows(error), "deviation {deviation:e} of {values:?}");
}

/// Cuts a tensor into parts, merges them in another order, and asks for every scale.
fn check_histogram(u: &mut Unstructured<'_>) -> Result<()> {
    let encoding = input::encoding(u)?;
    let narrowing = input::narrowing(u, encoding, Capabilities::ALL)?;
    let incoming = input::scale(u)?;
    let values = input::values(u, narrowing.format, MOST_COUNTED)?;
    let mut generator = SplitMix64(u.arbitrary()?);
    let mut whole = Histogram::new(narrowing);
    whole.observe(&values, incoming);
    let merged = in_parts(narrowing, &values, incoming, &mut generator);
    assert_eq!(merged, whole, "in parts, {values:?} at {incoming}");

    let finite: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
    let zero = finite.iter().filter(|x| **x == 0.0).count() as u64;
    let nonfinite = (values.len() - finite.len()) as u64;
    let nonzero = finite.len() as u64 - zero;
    let seen = (whole.elements(), whole.nonfinite(), whole.nonzero());
    assert_eq!(seen, (values.len() as u64, nonfinite, nonzero), "{values:?}");
    let tensor = Tensor { values: finite.into_iter().filter(|x| *x != 0.0).collect(), incoming };
    check_every_scale(&whole, &tensor, u.int_in_range(0..=nonzero)?, u.arbitrary()?);
    check_logarithms(&values, &mut generator);
    Ok(())
}

/// Compares what a histogram promises with counts of the elements themselves.
fn check_every_scale(histogram: &Histogram, tensor: &Tensor, allowed: u64, share: u32) {
    let narrowing = histogram.narrowing();
    let context = || format!("{narrowing:?} {tensor:?}");
    let at = |k: i32| counts(narrowing, tensor, k);
    let every: Vec<(u64, u64)> = (-126..=126).map(at).collect();
    for (k, &(underflow, overflow)) in (-126..).zip(&every) {
        let scale = Scale::saturating(k);
        let found = (histogram.underflow(scale), histogram.overflow(scale));
        assert_eq!(found, (underflow, overflow), "at 2^{k}, {}", context());
    }
    let scales = || (-126..).zip(&every);
    let least = scales().find(|(_, counts)| counts.0 <= allowed).map(|(k, _)| k);
    assert_eq!(histogram.least_scale(allowed).map(Scale::log2), least, "{}", context());
    let greatest = scales().filter(|(_, counts)| counts.1 == 0).map(|(k, _)| k).last();
    assert_eq!(histogram.greatest_scale().map(Scale::log2), greatest, "{}", context());

    // Mass is bounded from above, at whatever scale; the bound is monotonic.
    let by_mass = histogram.least_scale_by_mass(share);
    let below = by_mass.map_or(126, |scale| scale.log2() - 1);
    for k in [below, by_mass.map_or(0, Scale::log2), 0] {
        let bound = histogram.lost_mass(Scale::saturating(k));
        let exact = lost_share(narrowing, tensor, k.clamp(-126, 126));
        assert!(bound == u32::MAX || rational(bound.into()) >= exact, "2^{k}, {}", context());
    }
    match by_mass {
        Some(scale) => assert!(histogram.lost_mass(scale) <= share, "{}", context()),
        None => assert!(histogram.lost_mass(Scale::MAX) > share, "{}", context()),
    }
    assert!(below < -126 || histogram.lost_mass(Scale::saturating(below)) > share);
}

/// Observes a tensor in parts, in another order, and merges them in a third.
fn in_parts(
    narrowing: Narrowing,
    values: &[f32],
    incoming: Scale,
    generator: &mut SplitMix64,
) -> Histogram {
    let mut shuffled = values.to_vec();
    generator.shuffle(&mut shuffled);
    let mut parts = vec![Histogram::new(narrowing)];
    let mut rest = &shuffled[..];
    while !rest.is_empty() {
        let (part, after) = rest.split_at(1 + generator.below(rest.len()));
        let mut histogram = Histogram::new(narrowing);
        histogram.observe(part, incoming);
        parts.push(histogram);
        rest = after;
    }
    while parts.len() > 1 {
        let taken = parts.swap_remove(generator.below(parts.len()));
        let into = generator.below(parts.len());
        parts[into].merge(&taken).expect("one narrowing");
    }
    parts.remove(0)
}

/// Statistics of logarithms: counts, the maximum, and the same bits in any order.
fn check_logarithms(values: &[f32], generator: &mut SplitMix64) {
    let whole = LogStatistics::of(values);
    let mut shuffled = values.to_vec();
    generator.shuffle(&mut shuffled);
    let (left, right) = shuffled.split_at(generator.below(shuffled.len() + 1));
    let mut merged = LogStatistics::of(left);
    merged.merge(&LogStatistics::of(right));
    assert_eq!(merged, whole, "{values:?}");
    let finite = || values.iter().map(|x| x.abs()).filter(|x| x.is_finite());
    assert_eq!(whole.nonfinite, values.iter().filter(|x| !x.is_finite()).count() as u64);
    assert_eq!(whole.moments.count(), finite().filter(|&x| x != 0.0).count() as u64);
    assert_eq!(whole.max_bits, finite().reduce(f32::max).map_or(0, f32::to_bits));
}
