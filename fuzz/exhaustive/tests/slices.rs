//! Slices partition every job, and the blocks of a job are all there is.

use std::{collections::BTreeMap, sync::Mutex};

use adaloss_core::{
    format::{Element, Format, Narrowed, Narrowing, Rounding},
    propagate::{Scaled, shifted},
    scale::Shift,
    unscale::{Unscaled, unscale},
};
use adaloss_exhaustive::{BLOCK, Core, Job, References, Slice, Subject, jobs};
use adaloss_oracle::inputs::cases;
use proptest::prelude::*;

proptest! {
    #![proptest_config(cases(2000))]

    /// Every block is in one slice, and no slice is larger than another by more than a block.
    #[test]
    fn slices_partition_the_blocks(blocks in 0..5000_u64, of in 1..300_u64) {
        let mut seen = vec![0; blocks as usize];
        let mut lengths = Vec::new();
        for nth in 1..=of {
            let slice = Slice::new(nth, of).expect("legal");
            lengths.push(slice.blocks(blocks).len() as u64);
            slice.blocks(blocks).for_each(|block| seen[block as usize] += 1);
        }
        prop_assert!(seen.iter().all(|&times| times == 1));
        prop_assert!(lengths.iter().all(|&length| length.abs_diff(blocks / of) <= 1));
    }
}

#[test]
fn what_is_no_slice_is_refused() {
    for text in ["", "3", "0/3", "4/3", "1/0", "1/", "/2", "-1/2", "1/2/3", "a/b", "1.5/2"] {
        assert!(text.parse::<Slice>().is_err(), "{text}");
    }
    assert_eq!("3/3".parse(), Slice::new(3, 3));
    assert!(Slice::WHOLE.blocks(5).eq(0..5));
}

/// What was asked of the code under test, and how often.
#[derive(Default)]
struct Recorder {
    narrowed: Mutex<BTreeMap<(u32, i32), u32>>,
    widened: Mutex<BTreeMap<u32, u32>>,
    unscaled: Mutex<BTreeMap<i32, u32>>,
    shifted: Mutex<BTreeMap<(u32, i32), u32>>,
    /// The narrowing that is recorded.
    narrowing: Option<Narrowing>,
}

fn count<K: Ord>(of: &Mutex<BTreeMap<K, u32>>, key: K) {
    *of.lock().expect("a sound lock").entry(key).or_default() += 1;
}

impl Subject for Recorder {
    fn widen(&self, format: Format, bits: u32) -> f32 {
        if format == Format::E4M3 {
            count(&self.widened, bits);
        }
        format.widen(bits)
    }

    fn narrow(&self, narrowing: Narrowing, x: f32, shift_log2: i32, word: u32) -> Narrowed {
        if self.narrowing == Some(narrowing) {
            count(&self.narrowed, (x.to_bits(), shift_log2));
        }
        narrowing.narrow(x, shift_log2, word)
    }

    fn unscale<F: Element>(
        &self,
        format: Format,
        gradient: Scaled<&[F]>,
        to: &mut [f32],
    ) -> Unscaled {
        assert_eq!(to.len(), 256);
        if format == Format::E4M3 {
            count(&self.unscaled, gradient.scale().log2());
        }
        unscale(format, gradient, to).expect("one length")
    }

    fn shifted(&self, x: f32, shift: Shift) -> f32 {
        count(&self.shifted, (x.to_bits(), shift.log2()));
        shifted(x, shift)
    }
}

fn named<'a, 'b>(jobs: &'b [Job<'a>], name: &str) -> &'b Job<'a> {
    jobs.iter().find(|job| job.name() == name).expect("a job of that name")
}

fn once<K>(counts: Mutex<BTreeMap<K, u32>>) -> Vec<K> {
    let counts = counts.into_inner().expect("a sound lock");
    assert!(counts.values().all(|&times| times == 1));
    counts.into_keys().collect()
}

/// The blocks of the jobs from f32 are the magnitudes in order, all 2^31, with both signs.
#[test]
fn blocks_from_f32_are_all_patterns() {
    let references = References::new();
    for block in [0, 1, 777_777, u64::from((i32::MAX as u32) / BLOCK)] {
        let narrowing = Some(Narrowing::to(Format::E5M2.flushing()));
        let recorder = Recorder { narrowing, ..Recorder::default() };
        let jobs = jobs(&recorder, &references);
        let job = named(&jobs, "E5M2 nearest even from f32");
        assert_eq!(job.blocks() * u64::from(BLOCK), 1 << 31);
        job.check(block);
        drop(jobs);
        let first = block as u32 * BLOCK;
        let magnitudes = first..first + BLOCK;
        let all = magnitudes.clone().chain(magnitudes.map(|bits| bits | 1 << 31));
        let all = all.map(|bits| (bits, 0));
        assert!(once(recorder.narrowed).into_iter().eq(all));
    }
}

/// Every pattern of E4M3 meets every shift, and every scale and shift in f32.
#[test]
fn blocks_of_a_small_format_are_all_patterns_with_every_shift() {
    let references = References::new();
    // Stochastic rounding meets two words.
    for (rounding, times) in [(Rounding::TowardZero, 1), (Rounding::Stochastic, 2)] {
        let narrowing = Narrowing::to(Format::BFLOAT16.flushing()).with_rounding(rounding);
        let recorder = Recorder { narrowing: Some(narrowing.saturating()), ..Recorder::default() };
        let jobs = jobs(&recorder, &references);
        let job = named(&jobs, "E4M3 into every encoding by every shift");
        (0..job.blocks()).for_each(|block| assert_eq!(job.check(block).mismatches, 0));
        drop(jobs);
        let seen = recorder.narrowed.into_inner().expect("a sound lock");
        assert_eq!(seen.len(), 256 * 505);
        assert!(seen.values().all(|&count| count == times));
        assert!(seen.keys().all(|&(_, k)| (-252..=252).contains(&k)));
    }
    let recorder = Recorder::default();
    let jobs = jobs(&recorder, &references);
    for name in ["E4M3 widened", "E4M3 unscaled from every scale", "E4M3 shifted by every shift"] {
        let job = named(&jobs, name);
        (0..job.blocks()).for_each(|block| assert_eq!(job.check(block).mismatches, 0));
    }
    drop(jobs);
    assert!(once(recorder.widened).into_iter().eq(0..256));
    assert!(once(recorder.unscaled).into_iter().eq(-126..=126));
    assert_eq!(once(recorder.shifted).len(), 256 * 505);
}

/// The code as it is, a little of every job; every job has a name of its own.
#[test]
fn a_thin_slice_of_every_job_agrees() {
    let references = References::new();
    let jobs = jobs(&Core, &references);
    let slice = Slice::new(5_000, 20_011).expect("legal");
    for job in &jobs {
        assert_eq!(jobs.iter().filter(|other| other.name() == job.name()).count(), 1);
        for block in slice.blocks(job.blocks()).chain([0, job.blocks() - 1]) {
            let tally = job.check(block);
            assert_eq!((tally.mismatches, &tally.first[..]), (0, &[][..]), "{}", job.name());
            assert!(tally.cases > 0);
        }
    }
}
