//! Narrowing, through every path that there is.

use adaloss_core::{
    apply::Apply,
    format::{
        Element, Fate, Format, Narrowed, Narrowing, Noise, Overflow, Rounding, Shifts, Subnormals,
    },
    scale::{Scale, Shift},
    statistics::Outcome,
    with_element,
};
use adaloss_oracle::{Reference, Rounded};

use crate::{
    Subject, Tally, histogram,
    tally::{narrowed, pattern, several, single},
};

/// Values that are narrowed with one rounding and shift, and what APFloat says of each.
struct Values<'a, S> {
    subject: &'a S,
    reference: &'a Reference,
    rounding: Rounding,
    shift_log2: i32,
    /// Which block this is: the seed of random words, and of what else may be anything.
    block: u64,
    values: Vec<f32>,
    rounded: Vec<Rounded>,
    noise: Noise,
    words: Words,
}

/// The random words that each value of a block is rounded with; all zero where none is drawn.
struct Words {
    /// The greatest that rounds up.
    up: Vec<u32>,
    /// The least that does not.
    down: Vec<u32>,
    /// Those of a tensor; empty where none is drawn.
    drawn: Vec<u32>,
}

/// What the values of a block have to become.
struct Expected {
    narrowed: Vec<Narrowed>,
    outcome: Outcome,
}

/// Checks everything that narrowing `2^shift_log2 x` involves, for magnitudes with both signs:
/// scalars, slices, outcomes, floors and ceilings, with gradual underflow and flushed, to infinity and
/// saturated.
pub(crate) fn check<S: Subject>(
    subject: &S,
    reference: &Reference,
    (rounding, shift_log2): (Rounding, i32),
    block: u64,
    magnitudes: &[f32],
) -> Tally {
    let mut values = magnitudes.to_vec();
    values.extend(magnitudes.iter().map(|x| -x));
    let mut rounded: Vec<Rounded> =
        magnitudes.iter().map(|&x| reference.round(rounding, x, shift_log2)).collect();
    rounded.extend_from_within(..);
    for rounded in &mut rounded[magnitudes.len()..] {
        *rounded = reference.negated(*rounded);
    }
    let noise = Noise { seed: (block >> 32) as u32, stream: block as u32 };
    let words = Words::new(rounding, &rounded, noise);
    let values =
        Values { subject, reference, rounding, shift_log2, block, values, rounded, noise, words };
    with_element!(reference.encoding(), F => values.check::<F>())
}

/// Returns the shift `2^log2`, which is a quotient of legal scales up to 252.
pub(crate) fn shift(log2: i32) -> Shift {
    let to = Scale::saturating(log2);
    to / Scale::saturating(to.log2() - log2)
}

impl Words {
    fn new(rounding: Rounding, rounded: &[Rounded], noise: Noise) -> Self {
        let down = rounded.iter().map(Rounded::fraction);
        let up = down.clone().map(|word| word.saturating_sub(1));
        let drawn = if rounding == Rounding::Stochastic { rounded.len() as u32 } else { 0 };
        let drawn = (0..drawn).map(|i| noise.word(i));
        Self { up: up.collect(), down: down.collect(), drawn: drawn.collect() }
    }
}

impl<S: Subject> Values<'_, S> {
    fn check<F: Element>(&self) -> Tally {
        let mut tally = Tally::default();
        let overflows = [Overflow::Infinity, Overflow::Saturate];
        for (nth, subnormals) in (0..).zip([Subnormals::Gradual, Subnormals::Flush]) {
            let format = Format::new(F::ENCODING, subnormals);
            for (nth, overflow) in (2 * nth..).zip(overflows) {
                let narrowing = Narrowing { format, rounding: self.rounding, overflow };
                let apply = Apply { narrowing, shift: shift(self.shift_log2), noise: self.noise };
                if self.rounding != Rounding::Stochastic {
                    self.deterministic::<F>(&apply, &mut tally);
                    continue;
                }
                self.stochastic::<F>(narrowing, &mut tally);
                // Slices draw words and narrow value by value: one narrowing of four is enough.
                if nth == self.block % 4 {
                    let expected = self.expected(narrowing, &self.words.drawn);
                    self.slice::<F>(&apply, &expected, &mut tally);
                }
            }
            self.shifts::<F>(Narrowing::to(format).with_rounding(self.rounding), &mut tally);
        }
        tally
    }

    fn deterministic<F: Element>(&self, apply: &Apply, tally: &mut Tally) {
        let words = &self.words.down;
        let expected = self.expected(apply.narrowing, words);
        self.scalars::<F>(apply.narrowing, words, &expected, tally);
        self.slice::<F>(apply, &expected, tally);
        self.slices_with_an_infinity::<F>(apply, &expected, tally);
    }

    fn stochastic<F: Element>(&self, narrowing: Narrowing, tally: &mut Tally) {
        for words in [&self.words.up, &self.words.down] {
            let expected = self.expected(narrowing, words);
            self.scalars::<F>(narrowing, words, &expected, tally);
        }
    }

    fn expected(&self, narrowing: Narrowing, words: &[u32]) -> Expected {
        let mut outcome = Outcome::EMPTY;
        let inputs = self.values.iter().zip(&self.rounded).zip(words);
        let narrowed = inputs.map(|((&x, &rounded), &word)| {
            let narrowed = self.reference.narrowed(narrowing, rounded, word);
            record(&mut outcome, x, narrowed.fate);
            narrowed
        });
        Expected { narrowed: narrowed.collect(), outcome }
    }

    /// Each value by itself.
    fn scalars<F: Element>(
        &self,
        mut narrowing: Narrowing,
        words: &[u32],
        expected: &Expected,
        tally: &mut Tally,
    ) {
        // Known to the compiler, which makes this loop several times as fast.
        narrowing.format.encoding = F::ENCODING;
        let (values, k, expected) = (&self.values, self.shift_log2, &expected.narrowed);
        let got = |i: usize| self.subject.narrow(narrowing, values[i], k, words[i]);
        let describe = |i: usize| {
            let [got, expected] = [got(i), expected[i]].map(|is| narrowed(F::ENCODING, is));
            let input = format!("2^{k} * {}, word {:#010x}", single(values[i]), words[i]);
            format!("{narrowing:?}: {input} gave {got} instead of {expected}")
        };
        tally.check_all(values.len(), |i| got(i) == expected[i], describe);
    }

    /// All values as one slice, and what was counted of it.
    fn slice<F: Element>(&self, apply: &Apply, expected: &Expected, tally: &mut Tally) {
        let mut to = vec![F::from_bits(0); self.values.len()];
        let mut outcome = Outcome::EMPTY;
        self.subject.slice(apply, &self.values, &mut to, 0, &mut outcome);
        self.elements(apply, &self.values, &to, &expected.narrowed, tally);
        self.outcome(apply, outcome, expected.outcome, tally);
    }

    /// Short slices that begin with an infinity: none may be taken for one that stays within the
    /// format, so that the path for any value gets every value to do.
    fn slices_with_an_infinity<F: Element>(
        &self,
        apply: &Apply,
        expected: &Expected,
        tally: &mut Tally,
    ) {
        const LENGTH: usize = 256;
        let mut to = [F::from_bits(0); LENGTH];
        let mut from = [f32::INFINITY; LENGTH];
        let (mut outcome, mut expected_outcome) = (Outcome::EMPTY, expected.outcome);
        let parts = self.values.chunks(LENGTH - 1).zip(expected.narrowed.chunks(LENGTH - 1));
        for (values, expected) in parts {
            let length = values.len();
            from[1..=length].copy_from_slice(values);
            self.subject.slice(apply, &from[..=length], &mut to[..=length], 0, &mut outcome);
            record(&mut expected_outcome, f32::INFINITY, Fate::NonFinite);
            self.elements(apply, values, &to[1..=length], expected, tally);
        }
        self.outcome(apply, outcome, expected_outcome, tally);
    }

    fn elements<F: Element>(
        &self,
        apply: &Apply,
        from: &[f32],
        to: &[F],
        expected: &[Narrowed],
        tally: &mut Tally,
    ) {
        let (from, expected) = (&from[..to.len()], &expected[..to.len()]);
        let describe = |i: usize| {
            let Apply { narrowing, shift, .. } = apply;
            let bits = [to[i].to_bits(), expected[i].bits];
            let [got, expected] = bits.map(|bits| pattern(F::ENCODING, bits));
            let input = format!("{shift:?} * {} in a slice", single(from[i]));
            format!("{narrowing:?}: {input} gave {got} instead of {expected}")
        };
        tally.check_all(to.len(), |i| to[i].to_bits() == expected[i].bits, describe);
    }

    fn outcome(&self, apply: &Apply, got: Outcome, expected: Outcome, tally: &mut Tally) {
        tally.check(got == expected, || {
            let Apply { narrowing, shift, .. } = apply;
            let values = several(&self.values);
            format!("{narrowing:?}: {shift:?} * {values} gave {got:?} instead of {expected:?}")
        });
    }

    /// Floors and ceilings, one by one against the definition and against what becomes of the value,
    /// and counted.
    fn shifts<F: Element>(&self, mut narrowing: Narrowing, tally: &mut Tally) {
        narrowing.format.encoding = F::ENCODING;
        let (values, k) = (&self.values, self.shift_log2);
        let fate = |i: usize, word| self.reference.narrowed(narrowing, self.rounded[i], word).fate;
        // The greatest word never rounds up, the least does wherever one can.
        let fates = |i: usize| match self.rounding {
            Rounding::Stochastic => (fate(i, u32::MAX), fate(i, 0)),
            Rounding::NearestEven | Rounding::TowardZero => (fate(i, 0), fate(i, 0)),
        };
        let got = |i: usize| self.subject.shifts(narrowing, values[i]);
        let expected: Vec<Option<Shifts>> =
            values.iter().map(|&x| self.reference.shifts(narrowing, x)).collect();
        let agrees = |i: usize| {
            got(i) == expected[i]
                && expected[i].is_none_or(|Shifts { least, greatest }| {
                    let (low, high) = fates(i);
                    ((low == Fate::Underflow), (high == Fate::Overflow))
                        == ((k < least), (k > greatest))
                })
        };
        let describe = |i: usize| {
            let context = format!("{narrowing:?}: the shifts of {}", single(values[i]));
            let (got, expected, (low, high)) = (got(i), expected[i], fates(i));
            format!("{context} are {got:?} instead of {expected:?}, {low:?} {high:?} at {k}")
        };
        tally.check_all(values.len(), agrees, describe);
        let values = histogram::Values { values, shifts: &expected };
        values.check(self.subject, narrowing, self.block, tally);
    }
}

/// Counts what became of one value; the categories are those that an outcome documents.
#[inline]
fn record(outcome: &mut Outcome, x: f32, fate: Fate) {
    outcome.elements += 1;
    outcome.zero += u64::from(fate == Fate::Zero);
    outcome.underflow += u64::from(fate == Fate::Underflow);
    outcome.subnormal += u64::from(fate == Fate::Subnormal);
    outcome.overflow += u64::from(fate == Fate::Overflow);
    outcome.nonfinite += u64::from(fate == Fate::NonFinite);
    if x.is_finite() {
        outcome.max_bits = outcome.max_bits.max(x.abs().to_bits());
    }
}
