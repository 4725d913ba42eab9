//! Histograms, bin by bin.

use adaloss_core::{
    format::{Narrowing, Shifts},
    scale::Scale,
    statistics::Histogram,
};

use crate::{Subject, Tally, tally::several};

/// Values, and where each finite nonzero one of them lives.
pub(crate) struct Values<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) shifts: &'a [Option<Shifts>],
}

/// The exponents of all legal scales.
const LEGAL: std::ops::RangeInclusive<i32> = Scale::MIN.log2()..=Scale::MAX.log2();

/// The answers of a histogram that does not clamp: counts per exponent from -600 to 600.
struct Counts {
    floors: Vec<u64>,
    ceilings: Vec<u64>,
}

impl Values<'_> {
    /// Counts the values at an incoming scale that changes with the block, and compares everything
    /// that a histogram says of them.
    pub(crate) fn check<S: Subject>(
        &self,
        subject: &S,
        narrowing: Narrowing,
        block: u64,
        tally: &mut Tally,
    ) {
        let incoming = Scale::saturating((block % 253) as i32 - 126);
        let mut histogram = Histogram::new(narrowing);
        subject.observe(&mut histogram, self.values, incoming);
        tally.cases += self.values.len() as u64;
        if !self.counts(incoming).agree(self.values, &histogram) {
            tally.check(false, || {
                let values = several(self.values);
                format!("{values} at {incoming} were counted as {histogram:?}")
            });
        }
    }

    fn counts(&self, incoming: Scale) -> Counts {
        let mut counts = Counts { floors: vec![0; 1201], ceilings: vec![0; 1201] };
        for shifts in self.shifts.iter().flatten() {
            counts.floors[bin(shifts.least + incoming.log2())] += 1;
            counts.ceilings[bin(shifts.greatest + incoming.log2())] += 1;
        }
        counts
    }
}

fn bin(label: i32) -> usize {
    (label + 600) as usize
}

impl Counts {
    fn agree(&self, values: &[f32], histogram: &Histogram) -> bool {
        let nonfinite = values.iter().filter(|x| !x.is_finite()).count() as u64;
        let zero = values.iter().filter(|&&x| x == 0.0).count() as u64;
        let nonzero = values.len() as u64 - nonfinite - zero;
        // What lies beyond an end is in the bin there.
        let floor = |k: i32| match k {
            -126 => self.floors[..=bin(k)].iter().sum(),
            127 => self.floors[bin(k)..].iter().sum(),
            _ => self.floors[bin(k)],
        };
        let agrees = (histogram.elements(), histogram.nonfinite(), histogram.nonzero())
            == (values.len() as u64, nonfinite, nonzero)
            && histogram.floors().eq((-126..=127).map(|k| (k, floor(k))));
        let underflow = |k: i32| self.floors[bin(k + 1)..].iter().sum::<u64>();
        let overflow = |k: i32| self.ceilings[..bin(k)].iter().sum::<u64>();
        // Both are sums from one end: it is enough to ask on both sides of every change.
        let is_asked = |k: &i32| match *k {
            -126 | 126 => true,
            k => [k, k + 1].iter().any(|&k| self.floors[bin(k)] + self.ceilings[bin(k - 1)] > 0),
        };
        agrees
            && LEGAL.filter(is_asked).all(|k| {
                let scale = Scale::saturating(k);
                histogram.underflow(scale) == underflow(k)
                    && histogram.overflow(scale) == overflow(k)
            })
    }
}
