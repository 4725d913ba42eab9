//! What one tensor showed at one visit, for every scale at once.

use adaloss_core::{
    format::{Narrowing, Shifts},
    policy::{Fraction, Measured},
    scale::Scale,
    statistics::Outcome,
};

/// Labels lie between this one and its negative: f32 has fewer binades.
const FARTHEST: i32 = 512;

/// How many of a tensor's elements, and how much of its mass, underflow and overflow at every scale.
///
/// A [`Histogram`](adaloss_core::statistics::Histogram) with the sum of magnitudes beside each count, so that the mass
/// that is lost or clipped is exact but for the rounding of sums in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    narrowing: Narrowing,
    elements: u64,
    nonfinite: u64,
    zero: u64,
    max_bits: u32,
    mass: f64,
    /// By floor, the greatest first.
    floors: Box<[Bin]>,
    /// By ceiling, the least first.
    ceilings: Box<[Bin]>,
}

/// Elements up to a label, and the sum of their magnitudes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bin {
    label: i32,
    count: u64,
    mass: f64,
}

impl Tally {
    /// Counts unscaled values.
    pub fn of(narrowing: Narrowing, values: &[f32]) -> Self {
        let mut counter = Counter::new(narrowing);
        values.iter().for_each(|&x| counter.add(x));
        counter.tally()
    }

    /// Returns how many elements there are.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// Returns how many finite elements are not zero.
    pub fn nonzero(&self) -> u64 {
        self.elements - self.nonfinite - self.zero
    }

    /// Tells whether policies learn anything from it: something is not zero, and all is finite.
    pub fn tells(&self) -> bool {
        self.nonfinite == 0 && self.nonzero() > 0
    }

    /// Returns how many elements underflow at a scale.
    pub fn underflow(&self, scale: Scale) -> u64 {
        self.below(scale).map_or(0, |bin| bin.count)
    }

    /// Returns how many elements overflow at a scale.
    pub fn overflow(&self, scale: Scale) -> u64 {
        self.above(scale).map_or(0, |bin| bin.count)
    }

    /// Returns the share of the nonzero elements that underflows at a scale.
    pub fn underflow_share(&self, scale: Scale) -> f64 {
        self.underflow(scale) as f64 / self.nonzero().max(1) as f64
    }

    /// Returns the share of the sum of magnitudes that underflows at a scale.
    pub fn lost_share(&self, scale: Scale) -> f64 {
        self.share(self.below(scale).map_or(0.0, |bin| bin.mass))
    }

    /// Returns the share of the sum of magnitudes that lies above the format's largest number, at the elements that
    /// overflow: what saturating takes away.
    pub fn clipped_share(&self, scale: Scale) -> f64 {
        let encoding = self.narrowing.format.encoding;
        let largest = f64::from(encoding.widen(encoding.max_finite_bits()));
        let kept = largest * f64::from(-scale.log2()).exp2();
        self.share(self.above(scale).map_or(0.0, |bin| bin.mass - bin.count as f64 * kept))
    }

    /// Returns the greatest `K` at which nothing overflows, legal or not; none where nothing could.
    pub fn ceiling(&self) -> Option<i32> {
        self.ceilings.first().map(|bin| bin.label)
    }

    /// Tells whether there is a legal scale at which nothing overflows and at most the tolerated share underflows.
    pub fn has_window(&self, measured: &Measured) -> bool {
        let least = self.least_scale(measured.tolerance.of(self.nonzero()));
        least.zip(self.greatest_scale()).is_some_and(|(least, greatest)| least <= greatest)
    }

    /// Returns the greatest legal scale at which nothing overflows.
    pub fn greatest_scale(&self) -> Option<Scale> {
        Scale::new(self.ceiling().unwrap_or(i32::MAX).min(Scale::MAX.log2())).ok()
    }

    /// Returns the least legal scale at which at most so many elements underflow.
    pub fn least_scale(&self, allowed: u64) -> Option<Scale> {
        self.least(|bin| bin.count > allowed)
    }

    /// Returns the least legal scale at which at most that share of the sum of magnitudes underflows.
    pub fn least_scale_by_mass(&self, allowed: Fraction) -> Option<Scale> {
        self.least(|bin| bin.mass > allowed.to_f64() * self.mass)
    }

    /// Tells whether underflow at a scale stays within twice what is tolerated.
    pub fn keeps(&self, measured: &Measured, scale: Scale) -> bool {
        self.underflow(scale) <= measured.tolerance.of(2 * self.nonzero())
    }

    /// Returns what narrowing to a scale does, but for subnormal results, of which no policy asks.
    pub fn outcome(&self, scale: Scale) -> Outcome {
        Outcome {
            elements: self.elements,
            nonfinite: self.nonfinite,
            zero: self.zero,
            underflow: self.underflow(scale),
            overflow: self.overflow(scale),
            max_bits: self.max_bits,
            ..Outcome::EMPTY
        }
    }

    /// Returns what underflows at a scale: what has a greater floor.
    fn below(&self, scale: Scale) -> Option<&Bin> {
        let end = self.floors.partition_point(|bin| bin.label > scale.log2());
        self.floors[..end].last()
    }

    /// Returns what overflows at a scale: what has a lower ceiling.
    fn above(&self, scale: Scale) -> Option<&Bin> {
        let end = self.ceilings.partition_point(|bin| bin.label < scale.log2());
        self.ceilings[..end].last()
    }

    fn least(&self, is_too_much: impl Fn(&Bin) -> bool) -> Option<Scale> {
        let first = self.floors.iter().find(|bin| is_too_much(bin));
        let label = first.map_or(i32::MIN, |bin| bin.label);
        Scale::new(label.max(Scale::MIN.log2())).ok()
    }

    fn share(&self, mass: f64) -> f64 {
        if self.mass > 0.0 { (mass / self.mass).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A tally in the making.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    narrowing: Narrowing,
    nonfinite: u64,
    zero: u64,
    max_bits: u32,
    floors: Vec<(u64, f64)>,
    ceilings: Vec<(u64, f64)>,
}

impl Counter {
    pub(super) fn new(narrowing: Narrowing) -> Self {
        let bins = vec![(0, 0.0); 2 * FARTHEST as usize + 1];
        let (nonfinite, zero, max_bits) = (0, 0, 0);
        Self { narrowing, nonfinite, zero, max_bits, floors: bins.clone(), ceilings: bins }
    }

    /// Counts an unscaled value.
    pub(super) fn add(&mut self, x: f32) {
        let Some(Shifts { least, greatest }) = self.narrowing.shifts(x) else {
            self.zero += u64::from(x == 0.0);
            self.nonfinite += u64::from(x != 0.0);
            return;
        };
        self.max_bits = self.max_bits.max(x.abs().to_bits());
        for (bins, label) in [(&mut self.floors, least), (&mut self.ceilings, greatest)] {
            let bin = &mut bins[(label + FARTHEST) as usize];
            bin.0 += 1;
            bin.1 += f64::from(x.abs());
        }
    }

    /// Returns what was counted.
    pub(super) fn tally(&self) -> Tally {
        let labelled = |bins: &[(u64, f64)]| {
            let bins = (-FARTHEST..).zip(bins.iter().copied());
            bins.filter(|(_, (count, _))| *count > 0).collect::<Vec<_>>()
        };
        let (floors, ceilings) = (labelled(&self.floors), labelled(&self.ceilings));
        let (floors, ceilings) = (summed(floors.into_iter().rev()), summed(ceilings.into_iter()));
        let total = floors.last().copied();
        Tally {
            narrowing: self.narrowing,
            elements: total.map_or(0, |bin| bin.count) + self.zero + self.nonfinite,
            nonfinite: self.nonfinite,
            zero: self.zero,
            max_bits: self.max_bits,
            mass: total.map_or(0.0, |bin| bin.mass),
            floors,
            ceilings,
        }
    }
}

/// Makes each bin the sum of itself and those before it.
fn summed(bins: impl Iterator<Item = (i32, (u64, f64))>) -> Box<[Bin]> {
    bins.scan((0, 0.0), |sum, (label, (count, mass))| {
        *sum = (sum.0 + count, sum.1 + mass);
        Some(Bin { label, count: sum.0, mass: sum.1 })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use adaloss_core::{
        format::{Fate, Format},
        statistics::Histogram,
    };
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Magnitudes over all of f32, and some thirty binades with the edges at which something changes.
    fn values() -> [Vec<f32>; 2] {
        let mut generator = ChaCha8Rng::seed_from_u64(7);
        let mut bits = |count: usize| (0..count).map(|_| generator.random()).collect::<Vec<u32>>();
        let wide = bits(400).into_iter().map(f32::from_bits).filter(|x| x.is_finite()).collect();
        let edges = [0.0, -0.0, 448.0, 464.0, 465.0, 57344.0, 61440.0, 65504.0, 65520.0, 1.0e-45];
        let mut near = edges.to_vec();
        // Sign and significand, and another exponent.
        near.extend(bits(300).into_iter().map(|bits| {
            f32::from_bits(bits & 0x807f_ffff | 0x3f80_0000)
                * 2.0_f32.powi(-((bits >> 23) as i32 % 30))
        }));
        [wide, near]
    }

    #[test]
    fn a_tally_says_what_a_histogram_and_narrowing_say() {
        let formats = [
            Format::E4M3,
            Format::E5M2,
            Format::BINARY16,
            Format::BINARY16.flushing(),
            Format::BFLOAT16,
        ];
        for values in values() {
            formats.iter().for_each(|&format| compare(Narrowing::to(format), &values));
        }
    }

    fn compare(narrowing: Narrowing, values: &[f32]) {
        let tally = Tally::of(narrowing, values);
        let mut histogram = Histogram::new(narrowing);
        histogram.observe(values, Scale::ONE);
        assert_eq!(tally.elements(), histogram.elements());
        assert_eq!(tally.nonzero(), histogram.nonzero());
        for allowed in [0, 1, 17] {
            assert_eq!(tally.least_scale(allowed), histogram.least_scale(allowed));
        }
        assert_eq!(tally.greatest_scale(), histogram.greatest_scale());
        let total: f64 = values.iter().map(|x| f64::from(x.abs())).sum();
        for scale in (-126..=126).map(Scale::saturating) {
            assert_eq!(tally.underflow(scale), histogram.underflow(scale), "{narrowing:?} {scale}");
            assert_eq!(tally.overflow(scale), histogram.overflow(scale), "{narrowing:?} {scale}");
            let (mut lost, mut clipped) = (0.0, 0.0);
            for &x in values {
                let narrowed = narrowing.saturating().narrow(x, scale.log2(), 0);
                let (before, after) =
                    (f64::from(x.abs()), f64::from(narrowing.format.widen(narrowed.bits).abs()));
                match narrowed.fate {
                    Fate::Underflow => lost += before,
                    Fate::Overflow => clipped += before - after * f64::from(-scale.log2()).exp2(),
                    _ => {}
                }
            }
            assert!((tally.lost_share(scale) - lost / total).abs() < 1e-12, "{scale}");
            assert!((tally.clipped_share(scale) - clipped / total).abs() < 1e-12, "{scale}");
            // Core's bound is one.
            let bound = Fraction::from_bits(histogram.lost_mass(scale)).to_f64();
            assert!(tally.lost_share(scale) <= bound + 1e-9, "{scale}");
        }
    }

    #[test]
    fn what_is_not_finite_or_all_zero_tells_nothing() {
        let narrowing = Narrowing::to(Format::E4M3);
        for values in [&[][..], &[0.0, -0.0], &[1.0, f32::NAN], &[f32::INFINITY]] {
            assert!(!Tally::of(narrowing, values).tells(), "{values:?}");
        }
        let empty = Tally::of(narrowing, &[0.0]);
        assert_eq!((empty.ceiling(), empty.greatest_scale()), (None, Some(Scale::MAX)));
        assert_eq!(empty.lost_share(Scale::MIN), 0.0);
        assert!(Tally::of(narrowing, &[0.0, 1.0]).tells());
    }

    #[test]
    fn scales_by_mass_leave_the_small_ones_behind() {
        // 2^0 lives from 2^-9 on.  2^-10 does from 2^1 on, and is a 1,025th of the mass.
        let tally = Tally::of(Narrowing::to(Format::E4M3), &[1.0, -(2.0_f32.powi(-10))]);
        let least = |share| tally.least_scale_by_mass(Fraction::new(share).unwrap());
        assert_eq!([least(0.9e-3), least(1.0e-3)], [1, -9].map(|log2| Scale::new(log2).ok()));
        assert!((tally.lost_share(Scale::ONE) - 1.0 / 1025.0).abs() < 1e-15);
    }
}
