//! What a check found.

use adaloss_core::format::{Encoding, Narrowed};
use adaloss_oracle::apfloat;

/// How many mismatches are kept as text.
const KEPT: usize = 5;

/// Compared results, and those that are not what they should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Results that were compared.
    pub cases: u64,
    /// Those that differ from their reference.
    pub mismatches: u64,
    /// The first few of these: bit patterns and their meaning.
    pub first: Vec<String>,
}

impl Tally {
    /// Counts one comparison; `describe` says what differs.
    #[inline]
    pub(crate) fn check(&mut self, agrees: bool, describe: impl FnOnce() -> String) {
        self.cases += 1;
        if !agrees {
            self.mismatch(describe);
        }
    }

    /// Counts so many comparisons; `agrees` is asked first for all, and again for those to describe.
    #[inline(always)]
    pub(crate) fn check_all(
        &mut self,
        count: usize,
        agrees: impl Fn(usize) -> bool,
        describe: impl Fn(usize) -> String,
    ) {
        self.cases += count as u64;
        let wrong = (0..count).filter(|&i| !agrees(i)).count();
        if wrong > 0 {
            let wrong = (0..count).filter(|&i| !agrees(i));
            wrong.for_each(|i| self.mismatch(|| describe(i)));
        }
    }

    #[cold]
    #[inline(never)]
    fn mismatch(&mut self, describe: impl FnOnce() -> String) {
        self.mismatches += 1;
        if self.first.len() < KEPT {
            self.first.push(describe());
        }
    }

    /// Adds what a later check found.
    #[must_use]
    pub fn merge(mut self, later: Self) -> Self {
        self.cases += later.cases;
        self.mismatches += later.mismatches;
        let room = KEPT.saturating_sub(self.first.len());
        self.first.extend(later.first.into_iter().take(room));
        self
    }
}

/// Returns a bit pattern with its value.
pub(crate) fn pattern(encoding: Encoding, bits: u32) -> String {
    let width = encoding.bits() as usize / 4 + 2;
    format!("{bits:#0width$x} ({:e})", apfloat::decode(encoding, bits))
}

/// Returns an f32 with its bits.
pub(crate) fn single(x: f32) -> String {
    pattern(Encoding::Binary32, x.to_bits())
}

/// Returns the ends of a block of values.
pub(crate) fn several(values: &[f32]) -> String {
    match values {
        [] => "no values".into(),
        [only] => single(*only),
        [first, .., last] => {
            format!("{} values from {} to {}", values.len(), single(*first), single(*last))
        }
    }
}

/// Returns a narrowed value with its meaning.
pub(crate) fn narrowed(encoding: Encoding, Narrowed { bits, fate }: Narrowed) -> String {
    format!("{} {fate:?}", pattern(encoding, bits))
}
