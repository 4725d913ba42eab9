//! Code that is wrong in one way each, and the job that has to find it.

mod narrow;
mod slice;
mod statistics;
mod widen;

use adaloss_core::{
    apply::Apply,
    format::{Element, Format, Narrowed, Narrowing, Shifts},
    propagate::{Scaled, shifted},
    scale::{Scale, Shift},
    statistics::{Histogram, Outcome},
    unscale::{Unscaled, unscale},
};
use adaloss_exhaustive::{BLOCK, References, Subject, Tally, jobs};

/// A way to narrow a value, with a shift and a word.
type Narrow = fn(Narrowing, f32, i32, u32) -> Narrowed;

/// What is done to the bits and the counts of a narrowed slice, given its operands.
type Defect = fn(&Apply, &[f32], &mut [u32], &mut Outcome);

/// Core, with a mistake in what is not `None`.
#[derive(Default)]
struct Planted {
    widen: Option<fn(Format, u32) -> f32>,
    narrow: Option<Narrow>,
    /// The place of a slice's first element instead of the one given.
    first: Option<fn(u64) -> u64>,
    slice: Option<Defect>,
    shifts: Option<fn(Narrowing, f32) -> Option<Shifts>>,
    observe: Option<fn(&mut Histogram, &[f32], Scale)>,
    /// What is done to a slice that was unscaled, and to its counts.
    unscale: Option<fn(&mut [f32], &mut Unscaled)>,
    shifted: Option<fn(f32, Shift) -> f32>,
}

impl Subject for Planted {
    fn widen(&self, format: Format, bits: u32) -> f32 {
        self.widen.map_or_else(|| format.widen(bits), |wrong| wrong(format, bits))
    }

    fn narrow(&self, narrowing: Narrowing, x: f32, k: i32, word: u32) -> Narrowed {
        let right = || narrowing.narrow(x, k, word);
        self.narrow.map_or_else(right, |wrong| wrong(narrowing, x, k, word))
    }

    fn slice<F: Element>(
        &self,
        apply: &Apply,
        from: &[f32],
        to: &mut [F],
        first: u64,
        outcome: &mut Outcome,
    ) {
        let first = self.first.map_or(first, |wrong| wrong(first));
        apply.slice(from, to, first, outcome).expect("one length, and the narrowing's encoding");
        if let Some(wrong) = self.slice {
            let mut bits: Vec<u32> = to.iter().map(|x| x.to_bits()).collect();
            wrong(apply, from, &mut bits, outcome);
            to.iter_mut().zip(bits).for_each(|(to, bits)| *to = F::from_bits(bits));
        }
    }

    fn shifts(&self, narrowing: Narrowing, x: f32) -> Option<Shifts> {
        self.shifts.map_or_else(|| narrowing.shifts(x), |wrong| wrong(narrowing, x))
    }

    fn observe(&self, histogram: &mut Histogram, values: &[f32], incoming: Scale) {
        let right = Histogram::observe;
        self.observe.unwrap_or(right)(histogram, values, incoming);
    }

    fn unscale<F: Element>(
        &self,
        format: Format,
        gradient: Scaled<&[F]>,
        to: &mut [f32],
    ) -> Unscaled {
        let mut met = unscale(format, gradient, to).expect("one length");
        self.unscale.into_iter().for_each(|wrong| wrong(to, &mut met));
        met
    }

    fn shifted(&self, x: f32, shift: Shift) -> f32 {
        self.shifted.map_or_else(|| shifted(x, shift), |wrong| wrong(x, shift))
    }
}

impl Planted {
    /// Checks one block of a job.
    fn tally(&self, job: &str, block: u64) -> Tally {
        let references = References::new();
        let jobs = jobs(self, &references);
        let job = jobs.iter().find(|listed| listed.name() == job).expect("a job of that name");
        job.check(block)
    }

    /// Asserts that a job finds so many mismatches, and that the first is described so.
    fn is_found(&self, job: &str, block: u64, mismatches: u64, first: &str) {
        let found = self.tally(job, block);
        let described = found.first.first().map_or("", String::as_str);
        assert!(described.contains(first), "{described}");
        assert_eq!(found.mismatches, mismatches, "{:?}", found.first);
    }

    fn is_missed(&self, job: &str, block: u64) {
        self.is_found(job, block, 0, "");
    }
}

/// Returns the block that an f32 is in, of a job from f32.
fn block_of(x: f32) -> u64 {
    u64::from(x.abs().to_bits() / BLOCK)
}
