//! The rooms one by one, on the same inputs as core.

use std::ptr::null_mut;

use adaloss::*;
use adaloss_core::{
    apply::Apply,
    format::{Element, Encoding, Format, Narrowing, Noise, Overflow, Rounding},
    policy::{
        self, Amax, Cell, Config, Operands, Policy, Record, Seen, Terms, breaks_promise, certify,
        due, note, outgoing, recover, repeat,
    },
    propagate::{Scaled, join},
    scale::Scale,
    statistics::{Histogram, LogStatistics, Outcome, Statistics},
    unscale::{Unscaled, unscale},
    with_element,
};
use adaloss_oracle::inputs::{SplitMix64, adversarial};

use super::{
    FORMATS, config_of, configs, format_of, made_by, made_or, narrowing_of, record_of, scale,
    seen_of,
};

fn narrowings() -> impl Iterator<Item = Narrowing> {
    FORMATS.into_iter().flat_map(|format| {
        [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic].into_iter().flat_map(
            move |rounding| {
                let narrowing = Narrowing::to(format).with_rounding(rounding);
                [narrowing, narrowing.saturating()]
            },
        )
    })
}

pub(crate) fn outcome_of(outcome: &Outcome) -> adaloss_outcome {
    adaloss_outcome {
        elements: outcome.elements,
        nonfinite: outcome.nonfinite,
        zero: outcome.zero,
        underflow: outcome.underflow,
        subnormal: outcome.subnormal,
        overflow: outcome.overflow,
        max_bits: outcome.max_bits,
        reserved: 0,
    }
}

const EMPTY: adaloss_outcome = adaloss_outcome {
    elements: 0,
    nonfinite: 0,
    zero: 0,
    underflow: 0,
    subnormal: 0,
    overflow: 0,
    max_bits: 0,
    reserved: 0,
};

/// Values of every kind, those that are not finite included.
fn values(narrowing: Narrowing, seed: u64) -> Vec<f32> {
    let mut values = adversarial(narrowing.format, 500, seed);
    values.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN]);
    values
}

#[test]
fn formats() {
    for format in FORMATS {
        let limits = made_by(|to| unsafe { adaloss_format_limits(format_of(format), to) });
        let encoding = format.encoding;
        assert_eq!((limits.bits, limits.precision), (encoding.bits(), encoding.precision()));
        assert_eq!(limits.min_subnormal_log2, encoding.min_subnormal_log2());
        assert_eq!(limits.min_normal_log2, encoding.min_normal_log2());
        assert_eq!(limits.max_log2, encoding.max_log2());
        assert_eq!(limits.max_finite, encoding.widen(encoding.max_finite_bits()));
    }
    for narrowing in narrowings() {
        let mut generator = SplitMix64(3);
        for x in values(narrowing, 1) {
            let (shift, word) = (generator.below(505) as i32 - 252, generator.half_word());
            let expected = narrowing.narrow(x, shift, word);
            let mut fate = u32::MAX;
            let bits = made_by(|to| unsafe {
                adaloss_format_narrow(narrowing_of(narrowing), x, shift, word, to, &mut fate)
            });
            assert_eq!(bits, expected.bits);
            let fates = ["Zero", "Normal", "Subnormal", "Underflow", "Overflow", "NonFinite"];
            assert_eq!(fates[fate as usize], format!("{:?}", expected.fate));
            let shifts =
                made_or(|to| unsafe { adaloss_format_shifts(narrowing_of(narrowing), x, to) });
            assert_eq!(
                shifts.map(|shifts| (shifts.least, shifts.greatest)),
                narrowing.shifts(x).map(|of| (of.least, of.greatest)).ok_or(ADALOSS_NONE)
            );
        }
    }
    let noise = adaloss_noise { seed: 7, stream: 9 };
    let expected = Noise { seed: 7, stream: 9 }.word(11);
    assert_eq!(adaloss_format_noise_word(noise, 11), expected);
    for log2 in -126..=126 {
        let factor = made_by(|to| unsafe { adaloss_scale_factor(log2, to) });
        assert_eq!(factor, scale(log2).factor());
    }
}

/// Applies, widens, joins, unscales: whatever has elements.
fn elements<F: Element>(narrowing: Narrowing) {
    let (mut generator, values) = (SplitMix64(5), values(narrowing, 2));
    let format = narrowing.format;
    for shift in [0, 20, -130, 252] {
        let noise = Noise { seed: 1, stream: generator.half_word() };
        let apply = Apply { narrowing, shift: scale(shift / 2) / scale(-shift / 2), noise };
        let mut expected = vec![F::from_bits(0); values.len()];
        let mut outcome = Outcome::EMPTY;
        apply.slice(&values, &mut expected, 5, &mut outcome).unwrap();
        let mut found = vec![F::from_bits(0); values.len()];
        let mut counted = EMPTY;
        let code = unsafe {
            let noise = adaloss_noise { seed: noise.seed, stream: noise.stream };
            let (from, to) = (values.as_ptr(), found.as_mut_ptr().cast());
            let narrowing = narrowing_of(narrowing);
            adaloss_apply_values(narrowing, shift, noise, 5, from, values.len(), to, &mut counted)
        };
        assert_eq!(code, ADALOSS_OK);
        let bits = |of: &[F]| of.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&expected));
        assert_eq!(counted, outcome_of(&outcome));

        let count = found.len();
        let mut widened = vec![0.0_f32; count];
        let code = unsafe {
            let (from, to) = (found.as_ptr().cast(), widened.as_mut_ptr());
            adaloss_format_widen(format_of(format), from, count, to)
        };
        assert_eq!(code, ADALOSS_OK);
        let as_bits = |of: &[f32]| of.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let expected: Vec<_> = found.iter().map(|x| format.widen(x.to_bits())).collect();
        assert_eq!(as_bits(&widened), as_bits(&expected));

        let mut expected = vec![0.0_f32; count];
        let met = unscale(format, Scaled::new(&found, scale(30)), &mut expected).unwrap();
        let mut unscaled = vec![0.0_f32; count];
        let mut found_met = adaloss_unscaled { elements: 0, nonfinite: 0, tiny: 0 };
        let code = unsafe {
            let (from, to) = (found.as_ptr().cast(), unscaled.as_mut_ptr());
            adaloss_unscale_values(format_of(format), from, count, 30, to, &mut found_met)
        };
        assert_eq!(code, ADALOSS_OK);
        assert_eq!(as_bits(&unscaled), as_bits(&expected));
        let Unscaled { elements, nonfinite, tiny } = met;
        assert_eq!(found_met, adaloss_unscaled { elements, nonfinite, tiny });

        let reversed: Vec<F> = found.iter().rev().copied().collect();
        let branches = [(&found, 4), (&reversed, -9), (&found, 11)];
        let mut expected = vec![0.0_f32; count];
        let scaled = branches.map(|(branch, log2)| Scaled::new(&branch[..], scale(log2)));
        let common = join(format, &scaled, &mut expected).unwrap();
        let named = branches.map(|(branch, scale_log2)| adaloss_branch {
            gradient: branch.as_ptr().cast(),
            scale_log2,
            reserved: 0,
        });
        let mut sum = vec![0.0_f32; count];
        let found_common = made_by(|to| unsafe {
            let sum = sum.as_mut_ptr();
            adaloss_propagate_join(format_of(format), named.as_ptr(), 3, sum, count, to)
        });
        assert_eq!(found_common, common.log2());
        // Which NaN comes out of a sum, nothing says.
        let quiet = |of: &[f32]| {
            of.iter().map(|x| if x.is_nan() { 1 } else { x.to_bits() }).collect::<Vec<_>>()
        };
        assert_eq!(quiet(&sum), quiet(&expected));
        let scales = [4, -9, 11];
        let least = made_by(|to| unsafe { adaloss_propagate_common(scales.as_ptr(), 3, to) });
        assert_eq!(least, -9);

        let expected = {
            let mut of = Statistics::EMPTY;
            found.iter().for_each(|x| of.observe(format.widen(x.to_bits())));
            of
        };
        let mut statistics = made_by(|to| unsafe { adaloss_statistics_clear(to) });
        let mut more = statistics;
        let (half, from) = (count / 2, found.as_ptr());
        unsafe {
            let format = format_of(format);
            let rest = from.add(half).cast();
            assert_eq!(adaloss_statistics_observe(&mut statistics, format, from.cast(), half), 0);
            assert_eq!(adaloss_statistics_observe(&mut more, format, rest, count - half), 0);
            assert_eq!(adaloss_statistics_merge(&mut statistics, &more), ADALOSS_OK);
        }
        assert_eq!((statistics.nonfinite, statistics.zero), (expected.nonfinite, expected.zero));
        assert_eq!(statistics.max_bits, expected.max_bits);
        assert_eq!(statistics.min_bits, expected.min_bits);
        let mut deviation = 0.0;
        let mean = made_by(|to| unsafe {
            adaloss_statistics_moments(&statistics.moments, to, &mut deviation)
        });
        assert_eq!(Some(mean), expected.moments.mean());
        assert_eq!(Some(deviation), expected.moments.standard_deviation());

        let mut expected = LogStatistics::EMPTY;
        found.iter().for_each(|x| expected.observe(format.widen(x.to_bits())));
        let mut logs = made_by(|to| unsafe { adaloss_statistics_log_clear(to) });
        let mut more = logs;
        unsafe {
            let format = format_of(format);
            let rest = from.add(half).cast();
            assert_eq!(adaloss_statistics_log_observe(&mut logs, format, from.cast(), half), 0);
            assert_eq!(adaloss_statistics_log_observe(&mut more, format, rest, count - half), 0);
            assert_eq!(adaloss_statistics_log_merge(&mut logs, &more), ADALOSS_OK);
        }
        assert_eq!((logs.nonfinite, logs.max_bits), (expected.nonfinite, expected.max_bits));
        let mean =
            made_or(|to| unsafe { adaloss_statistics_moments(&logs.moments, to, null_mut()) });
        assert_eq!(mean.ok(), expected.moments.mean());

        let usable: Vec<F> = found.iter().copied().filter(|x| x.widen().is_finite()).collect();
        let inner = [1, 2, 5][generator.below(3)];
        let usable = &usable[..usable.len() / inner * inner];
        let weight = [1.0_f32, 0.5, -3.0, 0.0, 7.0, 0.125, -2.0, 9.0, 1.5, -0.25];
        let expected = Terms::of(usable, &weight, inner, 3).unwrap();
        let terms = made_by(|to| unsafe {
            adaloss_policy_terms(
                format.encoding as u32,
                usable.as_ptr().cast(),
                usable.len(),
                Encoding::Binary32 as u32,
                weight.as_ptr().cast(),
                weight.len(),
                inner,
                3,
                to,
            )
        });
        assert_eq!((terms.min_abs, terms.max_abs), (expected.min_abs, expected.max_abs));
        assert_eq!((terms.nonfinite, terms.fan_in), (expected.nonfinite, 3));
    }
}

#[test]
fn tensors() {
    for narrowing in narrowings() {
        with_element!(narrowing.format.encoding, F => elements::<F>(narrowing));
    }
}

/// The histogram of the C library, in two parts, and core's.
fn histograms(
    narrowing: Narrowing,
    values: &[f32],
    incoming: i32,
) -> (adaloss_histogram, Histogram) {
    let mut expected = Histogram::new(narrowing);
    expected.observe(values, scale(incoming));
    let empty =
        made_by(|to| unsafe { adaloss_statistics_histogram_clear(to, narrowing_of(narrowing)) });
    let (mut found, mut more) = (empty, empty);
    let (first, second) = values.split_at(values.len() / 3);
    for (histogram, part) in [(&mut found, first), (&mut more, second)] {
        let (from, count) = (part.as_ptr(), part.len());
        let code =
            unsafe { adaloss_statistics_histogram_observe(histogram, from, count, incoming) };
        assert_eq!(code, ADALOSS_OK);
    }
    assert_eq!(unsafe { adaloss_statistics_histogram_merge(&mut found, &more) }, ADALOSS_OK);
    (found, expected)
}

#[test]
fn histograms_answer_alike() {
    for narrowing in narrowings() {
        let (found, expected) = histograms(narrowing, &values(narrowing, 4), -3);
        assert_eq!(
            found.narrowing,
            narrowing_of(Narrowing { overflow: Overflow::Infinity, ..narrowing })
        );
        assert_eq!((found.elements, found.nonfinite), (expected.elements(), expected.nonfinite()));
        assert_eq!(found.elements - found.nonfinite - found.zero, expected.nonzero());
        assert!(found.floors.iter().copied().eq(expected.floors().map(|(_, count)| count)));
        for log2 in -126..=126 {
            let underflow =
                made_by(|to| unsafe { adaloss_statistics_histogram_underflow(&found, log2, to) });
            let overflow =
                made_by(|to| unsafe { adaloss_statistics_histogram_overflow(&found, log2, to) });
            assert_eq!(underflow, expected.underflow(scale(log2)));
            assert_eq!(overflow, expected.overflow(scale(log2)));
        }
        for allowed in [0, 1, 10, 1000, u64::MAX] {
            let least =
                made_or(|to| unsafe { adaloss_statistics_histogram_least(&found, allowed, to) });
            assert_eq!(least.ok(), expected.least_scale(allowed).map(Scale::log2));
        }
        let greatest = made_or(|to| unsafe { adaloss_statistics_histogram_greatest(&found, to) });
        assert_eq!(greatest.ok(), expected.greatest_scale().map(Scale::log2));
    }
}

/// A cell of the C library's and one of core's that live alike.
struct Twins<'a> {
    config: &'a Config,
    c_config: adaloss_config,
    cell: adaloss_cell,
    core: Cell,
}

/// The f32 results of one visit.
struct Visit {
    incoming: i32,
    values: Vec<f32>,
}

impl Visit {
    /// Random values of some binades; now and then of none, or with one that is not finite.
    fn random(generator: &mut SplitMix64) -> Self {
        let incoming = generator.below(41) as i32 - 20;
        let least = -50 + generator.below(70) as i32;
        let count = if generator.below(9) == 0 { 0 } else { 40 };
        let mut values: Vec<_> =
            (0..count).map(|_| generator.between_binades(least, least + 9)).collect();
        values.extend((generator.below(14) == 0).then_some(f32::INFINITY));
        Self { incoming, values }
    }
}

impl<'a> Twins<'a> {
    fn new(config: &'a Config) -> Self {
        let c_config = config_of(config);
        let cell = made_by(|to| unsafe { adaloss_policy_cell(&c_config, to) });
        Self { config, c_config, cell, core: config.cell() }
    }

    fn are_the_same(&self) {
        super::same_cell(&self.cell, &self.core);
        let seen = made_by(|to| unsafe { adaloss_policy_seen(&self.cell, to) });
        assert_eq!(seen, seen_of(self.core.seen()));
    }

    /// Decides before narrowing, where that is due and the policy does so.
    fn decide(&mut self, visit: &Visit) {
        let trigger = made_by(|to| unsafe { adaloss_policy_due(&self.c_config, &self.cell, to) });
        assert_eq!(trigger, due(self.config, &self.core).map_or(0, |trigger| trigger as u32));
        if trigger != 0 && self.config.policy().wants_operands() {
            self.decide_from_operands(visit);
        }
    }

    fn decide_from_operands(&mut self, Visit { incoming, values }: &Visit) {
        let gradient = Statistics::of(values);
        let operands = Operands::Product { gradient, weight: gradient, fan_in: 3 };
        let decided =
            policy::decide_from_operands(self.config, &operands, scale(*incoming), &mut self.core);
        let mut statistics = made_by(|to| unsafe { adaloss_statistics_clear(to) });
        let binary32 = adaloss_format { encoding: 4, subnormals: 0 };
        let (from, count) = (values.as_ptr().cast(), values.len());
        let code = unsafe { adaloss_statistics_observe(&mut statistics, binary32, from, count) };
        assert_eq!(code, ADALOSS_OK);
        let terms =
            adaloss_terms { min_abs: 0.0, max_abs: 0.0, nonfinite: 0, fan_in: 0, reserved: 0 };
        let operands = adaloss_operands {
            kind: 0,
            fan_in: 3,
            gradient: statistics,
            weight: statistics,
            log_gradient: made_by(|to| unsafe { adaloss_statistics_log_clear(to) }),
            terms,
        };
        let (c_config, cell) = (&self.c_config, &mut self.cell);
        let certificate = made_by(|to| unsafe {
            adaloss_policy_decide_from_operands(c_config, &operands, *incoming, cell, to)
        });
        super::same_certificate(&certificate, &decided);
    }

    /// Decides as a join does, where the policy does so.
    fn join(&mut self, visit: &Visit) {
        let incoming = visit.incoming;
        let outcome = self.outcome(visit, incoming);
        let branches = [incoming, incoming + 5, incoming + 2];
        let (c_config, c_outcome, cell) = (&self.c_config, outcome_of(&outcome), &mut self.cell);
        let certificate = made_or(|to| unsafe {
            let from = branches.as_ptr();
            adaloss_policy_decide_join(c_config, &c_outcome, incoming, from, 3, cell, to)
        });
        if !self.config.policy().wants_operands() {
            assert_eq!(certificate, Err(ADALOSS_ERROR_POLICY));
            return;
        }
        let scales = branches.map(scale);
        let pick = |fits: &dyn Fn(Scale) -> bool| policy::join_target(scales.into_iter(), fits);
        let decided =
            policy::decide_join(self.config, &outcome, scale(incoming), pick, &mut self.core);
        super::same_certificate(&certificate.unwrap(), &decided);
    }

    fn outcome(&self, visit: &Visit, leaving: i32) -> Outcome {
        let (narrowing, noise) =
            (self.config.narrowing(), Noise { seed: self.config.seed(), stream: 0 });
        let apply = Apply { narrowing, shift: scale(leaving) / scale(visit.incoming), noise };
        let mut outcome = Outcome::EMPTY;
        for (i, &x) in (0..).zip(&visit.values) {
            apply.element(x, i, &mut outcome);
        }
        outcome
    }

    /// Narrows, takes note, and certifies the scale that the tensor leaves with; returns whether it was narrowed once
    /// more and whether a promise was broken.
    fn note(&mut self, visit: &Visit) -> (bool, bool) {
        let (config, incoming) = (self.config, visit.incoming);
        let leaving = outgoing(config, &self.core, scale(incoming));
        let (c_config, cell) = (&self.c_config, &mut self.cell);
        let found =
            made_by(|to| unsafe { adaloss_policy_outgoing(c_config, &*cell, incoming, to) });
        assert_eq!(found, leaving.log2());
        let outcome = self.outcome(visit, found);
        let (c_config, c_outcome, cell) = (&self.c_config, outcome_of(&outcome), &mut self.cell);
        let recovered =
            made_or(|to| unsafe { adaloss_policy_recover(c_config, &c_outcome, incoming, to) });
        assert_eq!(
            recovered,
            recover(config, &outcome, scale(incoming)).map(Scale::log2).ok_or(ADALOSS_NONE)
        );

        let again = note(config, &outcome, scale(incoming), &mut self.core);
        let mut unasked = *cell;
        let found =
            made_or(|to| unsafe { adaloss_policy_note(c_config, &c_outcome, incoming, cell, to) });
        assert_eq!(found, again.map(Scale::log2).ok_or(ADALOSS_NONE));
        let code = unsafe {
            adaloss_policy_note(c_config, &c_outcome, incoming, &mut unasked, null_mut())
        };
        assert_eq!((code, unasked), (found.err().unwrap_or(ADALOSS_OK), *cell));
        let leaving = again.unwrap_or(leaving);

        let outcome = self.outcome(visit, leaving.log2());
        let (c_config, c_outcome, cell) = (&self.c_config, outcome_of(&outcome), &mut self.cell);
        let breaks = made_by(|to| unsafe {
            adaloss_policy_breaks_promise(c_config, &c_outcome, &*cell, to)
        });
        assert_eq!(breaks, breaks_promise(config, &outcome, &self.core).into());
        if due(config, &self.core).is_some() {
            let (found, histogram) = histograms(config.narrowing(), &visit.values, incoming);
            let decided = certify(config, &histogram, leaving, &mut self.core);
            let certificate = made_by(|to| unsafe {
                adaloss_policy_certify(c_config, &found, leaving.log2(), cell, to)
            });
            super::same_certificate(&certificate, &decided);
        }
        (again.is_some(), breaks != 0)
    }

    /// Takes what other machines saw, and that sums overflowed.
    fn hear(&mut self, generator: &mut SplitMix64) {
        let other = Seen {
            ceiling: 60 - generator.below(100) as i8,
            overflowed: generator.below(2) == 0,
            sums_overflowed: generator.below(4) == 0,
            visited: generator.below(4) > 0,
        };
        let mut merged = self.core.seen();
        merged.merge(&other);
        self.core.set_seen(merged);
        let mut seen = made_by(|to| unsafe { adaloss_policy_seen(&self.cell, to) });
        let other = seen_of(other);
        assert_eq!(unsafe { adaloss_policy_seen_merge(&mut seen, &other) }, ADALOSS_OK);
        assert_eq!(seen, seen_of(merged));
        assert_eq!(unsafe { adaloss_policy_set_seen(&seen, &mut self.cell) }, ADALOSS_OK);
    }

    /// Ends a step; returns what it left behind.
    fn finish(&mut self, is_clean: bool) -> Record {
        let expected = policy::finish(self.config, &mut self.core);
        let (c_config, cell) = (&self.c_config, &mut self.cell);
        let mut unasked = *cell;
        let record = made_by(|to| unsafe { adaloss_policy_finish(c_config, cell, to) });
        assert_eq!(record, record_of(expected));
        let code = unsafe { adaloss_policy_finish(c_config, &mut unasked, null_mut()) };
        assert_eq!((code, unasked), (ADALOSS_OK, *cell));
        policy::step(self.config, is_clean, &mut self.core);
        let code = unsafe { adaloss_policy_step(c_config, is_clean.into(), cell) };
        assert_eq!(code, ADALOSS_OK);
        expected
    }

    /// Repeats a step; returns whether it is the one that was.
    fn repeat(&mut self, record: &Record) -> bool {
        let (c_config, c_record, cell) = (&self.c_config, record_of(*record), &mut self.cell);
        let mut unasked = *cell;
        let found = made_or(|to| unsafe { adaloss_policy_repeat(c_config, &c_record, cell, to) });
        if !self.config.policy().follows_maxima() {
            assert_eq!(found, Err(ADALOSS_ERROR_POLICY));
            return true;
        }
        let code = unsafe { adaloss_policy_repeat(c_config, &c_record, &mut unasked, null_mut()) };
        assert_eq!((code, unasked), (ADALOSS_OK, *cell));
        let is_same = repeat(self.config, record, &mut self.core);
        assert_eq!(found, Ok(is_same.into()));
        is_same
    }
}

/// What happened in some lives.
#[derive(Default)]
struct Tally {
    again: u32,
    broken: u32,
    others: u32,
}

/// A cell lives through steps of some visits; others repeat it, one of them with a gap.
fn live(config: &Config, seed: u64, tally: &mut Tally) {
    let mut generator = SplitMix64(seed);
    let mut twins = Twins::new(config);
    let (mut repeated, mut gap) = (Twins::new(config), Twins::new(config));
    for step in 0..25 {
        for _ in 0..generator.below(3) {
            let visit = Visit::random(&mut generator);
            twins.decide(&visit);
            if generator.below(3) == 0 {
                twins.join(&visit);
            }
            let (again, broke) = twins.note(&visit);
            tally.again += u32::from(again);
            tally.broken += u32::from(broke);
            twins.are_the_same();
        }
        if generator.below(9) == 0 {
            twins.hear(&mut generator);
        }
        let was_visited = twins.core.seen().visited;
        let record = twins.finish(generator.below(3) > 0);
        twins.are_the_same();
        if was_visited {
            assert!(repeated.repeat(&record), "{config:?}");
            repeated.are_the_same();
            if config.policy().follows_maxima() {
                assert_eq!(repeated.core.scale(), twins.core.scale());
            }
            if step != 12 && !gap.repeat(&record) {
                tally.others += 1;
            }
            gap.are_the_same();
        }
    }
}

#[test]
fn cells_live_alike() {
    let mut tally = Tally::default();
    for config in FORMATS.into_iter().flat_map(configs) {
        for seed in 0..4 {
            live(&config, seed, &mut tally);
        }
    }
    let Tally { again, broken, others } = tally;
    assert!(again > 500 && broken > 100 && others > 100, "{again}, {broken}, {others}");
}

/// A cell of another policy, or one that was overwritten, is none of this configuration's.
#[test]
fn cells_are_those_of_their_configuration() {
    let measured = Config::for_format(Format::BINARY16);
    let amax = measured.with_policy(Policy::Amax(Amax { window: 5, margin: 0 })).unwrap();
    let mut twins = Twins::new(&amax);
    let _ = twins.note(&Visit { incoming: 0, values: vec![1.0e-6, 3.0e-5] });
    twins.finish(true);
    twins.cell.memory[12] = 200;
    let refused = |config: &Config, mut cell: adaloss_cell| {
        let (config, outcome) = (config_of(config), outcome_of(&Outcome::EMPTY));
        let (mut number, mut log2) = (7_u32, 7_i32);
        let before = cell;
        for code in unsafe {
            [
                adaloss_policy_due(&config, &cell, &mut number),
                adaloss_policy_outgoing(&config, &cell, 0, &mut log2),
                adaloss_policy_breaks_promise(&config, &outcome, &cell, &mut number),
                adaloss_policy_note(&config, &outcome, 0, &mut cell, &mut log2),
                adaloss_policy_finish(&config, &mut cell, null_mut()),
                adaloss_policy_step(&config, 1, &mut cell),
            ]
        } {
            assert_eq!(code, ADALOSS_ERROR_CELL);
        }
        assert_eq!((cell, number, log2), (before, 7, 7));
    };
    refused(&amax, twins.cell);
    let fixed = measured.with_policy(Policy::Fixed(scale(4))).unwrap();
    refused(&fixed, Twins::new(&measured).cell);
}

/// What the library fills in is what core has.
#[test]
fn configurations_are_cores() {
    use adaloss_core::policy::{Backoff, Normal, Preset, Range};
    let same = |found: &adaloss_config, expected: &Config| {
        let cell = made_by(|to| unsafe { adaloss_policy_cell(found, to) });
        super::same_cell(&cell, &expected.cell());
        // A digest covers every field.
        let mut scaler = adaloss_scaler { opaque: [0; ADALOSS_SCALER_WORDS] };
        let code = unsafe { adaloss_scaler_init(&mut scaler, found, null_mut(), 0) };
        assert_eq!(code, ADALOSS_OK);
        let digest = made_by(|to| unsafe { adaloss_scaler_digest(&scaler, to) });
        let core = adaloss_core::scaler::LossScaler::<1>::new(*expected);
        assert_eq!(digest, core.digest());
    };
    for format in FORMATS {
        let recommended = Config::for_format(format);
        let mut found = made_by(|to| unsafe { adaloss_policy_recommended(format_of(format), to) });
        same(&found, &recommended);
        let paper = made_by(|to| unsafe { adaloss_policy_paper(format_of(format), to) });
        same(&paper, &Config::preset(Preset::Paper, format));

        found.policy = 1;
        found.parameters.backoff = made_by(|to| unsafe { adaloss_policy_grad_scaler(to) });
        same(&found, &recommended.with_policy(Policy::Backoff(Backoff::GRAD_SCALER)).unwrap());
        found.parameters.backoff = made_by(|to| unsafe { adaloss_policy_chainer(1000, to) });
        let chainer = Policy::Backoff(Backoff::chainer(1000).unwrap());
        same(&found, &recommended.with_policy(chainer).unwrap());
        found.policy = 2;
        found.parameters.normal =
            made_by(|to| unsafe { adaloss_policy_normal(format_of(format), 0.01, to) });
        let normal = Policy::Normal(Normal::new(format, 0.01).unwrap());
        same(&found, &recommended.with_policy(normal).unwrap());
        found.policy = 3;
        found.parameters.range =
            made_by(|to| unsafe { adaloss_policy_range(format_of(format), to) });
        same(&found, &recommended.with_policy(Policy::Range(Range::new(format))).unwrap());
    }
}
