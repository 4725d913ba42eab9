//! The rooms one by one, on the same inputs as core.

use adaloss::*;
use adaloss_core::{
    apply::Apply,
    format::{E4M3, E5M2, Element, Encoding, Narrowing, Noise, Overflow, Rounding, bf16, f16},
    policy::{Cell, Config, Operands, Terms, decide, due, note, outgoing, recover},
    propagate::{Scaled, join},
    scale::Scale,
    statistics::{Histogram, LogStatistics, Outcome, Statistics},
    unscale::{Unscaled, unscale},
};
use adaloss_oracle::inputs::{SplitMix64, adversarial};

use super::{FORMATS, config_of, configs, format_of, made_by, made_or, narrowing_of, scale};

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

/// Calls a generic function for the element type of an encoding.
macro_rules! for_element {
    ($encoding:expr, $function:ident($($argument:expr),*)) => {
        match $encoding {
            Encoding::Binary16 => $function::<f16>($($argument),*),
            Encoding::BFloat16 => $function::<bf16>($($argument),*),
            Encoding::E5M2 => $function::<E5M2>($($argument),*),
            Encoding::E4M3 => $function::<E4M3>($($argument),*),
            Encoding::Binary32 => $function::<f32>($($argument),*),
        }
    };
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
        let mean = made_or(|to| unsafe {
            adaloss_statistics_moments(&logs.moments, to, std::ptr::null_mut())
        });
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
        for_element!(narrowing.format.encoding, elements(narrowing));
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

/// A cell lives through decisions and outcomes.
fn live(config: &Config) {
    let (c_config, mut generator) = (config_of(config), SplitMix64(8));
    let mut expected = config.cell();
    let mut cell = made_by(|to| unsafe { adaloss_policy_cell(&c_config, to) });
    for _ in 0..30 {
        super::same_cell(&cell, &expected);
        let incoming = generator.below(41) as i32 - 20;
        let least = -50 + generator.below(70) as i32;
        let values: Vec<_> = (0..40).map(|_| generator.between_binades(least, least + 9)).collect();
        let trigger = made_by(|to| unsafe { adaloss_policy_due(&c_config, &cell, to) });
        assert_eq!(trigger, due(config, &expected).map_or(0, |trigger| trigger as u32));
        let (found, histogram) = histograms(config.narrowing(), &values, incoming);
        if trigger != 0 {
            let (certificate, decided) = if config.policy().wants_operands() {
                by_operands(config, &c_config, incoming, &values, &mut cell, &mut expected)
            } else {
                let decided = decide(config, &histogram, &mut expected);
                let certificate = made_by(|to| unsafe {
                    adaloss_policy_decide(&c_config, &found, &mut cell, to)
                });
                (certificate, decided)
            };
            super::same_certificate(&certificate, &decided);
        }
        if config.policy().wants_operands() && generator.below(3) == 0 {
            join_alike(config, &c_config, incoming, (&found, &histogram), &mut cell, &mut expected);
        }
        let leaving = outgoing(config, &expected, scale(incoming));
        let found_leaving =
            made_by(|to| unsafe { adaloss_policy_outgoing(&c_config, &cell, incoming, to) });
        assert_eq!(found_leaving, leaving.log2());
        let outcome = outcome_at(config, &values, incoming, leaving.log2());
        let c_outcome = outcome_of(&outcome);
        let recovered =
            made_or(|to| unsafe { adaloss_policy_recover(&c_config, &c_outcome, incoming, to) });
        assert_eq!(recovered.ok(), recover(config, &outcome, scale(incoming)).map(Scale::log2));
        note(config, &outcome, scale(incoming), &mut expected);
        unsafe {
            assert_eq!(adaloss_policy_note(&c_config, &c_outcome, incoming, &mut cell), ADALOSS_OK);
            let clean = generator.below(3) > 0;
            adaloss_core::policy::step(config, clean, &mut expected);
            assert_eq!(adaloss_policy_step(&c_config, clean.into(), &mut cell), ADALOSS_OK);
        }
    }
}

fn outcome_at(config: &Config, values: &[f32], incoming: i32, leaving: i32) -> Outcome {
    let (narrowing, noise) = (config.narrowing(), Noise { seed: config.seed(), stream: 0 });
    let apply = Apply { narrowing, shift: scale(leaving) / scale(incoming), noise };
    let mut outcome = Outcome::EMPTY;
    for (i, &x) in (0..).zip(values) {
        apply.element(x, i, &mut outcome);
    }
    outcome
}

fn by_operands(
    config: &Config,
    c_config: &adaloss_config,
    incoming: i32,
    values: &[f32],
    cell: &mut adaloss_cell,
    expected: &mut Cell,
) -> (adaloss_certificate, adaloss_core::policy::Certificate) {
    let gradient = Statistics::of(values);
    let operands = Operands::Product { gradient, weight: gradient, fan_in: 3 };
    let decided =
        adaloss_core::policy::decide_from_operands(config, &operands, scale(incoming), expected);
    let mut statistics = made_by(|to| unsafe { adaloss_statistics_clear(to) });
    let binary32 = adaloss_format { encoding: 4, subnormals: 0 };
    let (from, count) = (values.as_ptr().cast(), values.len());
    let code = unsafe { adaloss_statistics_observe(&mut statistics, binary32, from, count) };
    assert_eq!(code, ADALOSS_OK);
    let terms = adaloss_terms { min_abs: 0.0, max_abs: 0.0, nonfinite: 0, fan_in: 0, reserved: 0 };
    let operands = adaloss_operands {
        kind: 0,
        fan_in: 3,
        gradient: statistics,
        weight: statistics,
        log_gradient: made_by(|to| unsafe { adaloss_statistics_log_clear(to) }),
        terms,
    };
    let certificate = made_by(|to| unsafe {
        adaloss_policy_decide_from_operands(c_config, &operands, incoming, cell, to)
    });
    (certificate, decided)
}

fn join_alike(
    config: &Config,
    c_config: &adaloss_config,
    incoming: i32,
    (found, histogram): (&adaloss_histogram, &Histogram),
    cell: &mut adaloss_cell,
    expected: &mut Cell,
) {
    let branches = [incoming, incoming + 5, incoming + 2];
    let scales = branches.map(scale);
    let decided = adaloss_core::policy::decide_join(
        config,
        histogram,
        scale(incoming),
        |fits| adaloss_core::policy::join_target(scales.into_iter(), fits),
        expected,
    );
    let certificate = made_by(|to| unsafe {
        let from = branches.as_ptr();
        adaloss_policy_decide_join(c_config, found, incoming, from, 3, cell, to)
    });
    super::same_certificate(&certificate, &decided);
}

#[test]
fn cells_live_alike() {
    for config in FORMATS.into_iter().flat_map(configs) {
        live(&config);
    }
}

/// What the library fills in is what core has.
#[test]
fn configurations_are_cores() {
    use adaloss_core::policy::{Backoff, Normal, Policy, Preset, Range};
    let same = |found: &adaloss_config, expected: &Config| {
        let cell = made_by(|to| unsafe { adaloss_policy_cell(found, to) });
        super::same_cell(&cell, &expected.cell());
        // A digest covers every field.
        let mut scaler = adaloss_scaler { opaque: [0; ADALOSS_SCALER_WORDS] };
        let code = unsafe { adaloss_scaler_init(&mut scaler, found, std::ptr::null_mut(), 0) };
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
