//! How often a closure runs, when a cell decides, and how joins and whole-model policies carry.

use std::error::Error;

use adaloss_core::{
    apply::{Counts, Pass},
    format::{Encoding, Format, Noise, Rounding, f16},
    policy::{
        Cell, Config, Normal, Operands, Policy, Range, Record, Rule, Trigger, finish, note, repeat,
    },
    propagate::{Scaled, shifted},
    scale::Scale,
    scaler::{LossScaler, StepError},
    statistics::Statistics,
    unscale::{Place, Unscaled, Verdict},
};

use super::{
    Bits, FORMATS, Scaler, Tensors, configs, layer, loss, narrow, run, scale, visited, widen,
};

/// A closure runs once; once more at the first visit, to store at the first scale, and for a certificate,
/// which is measured before anything is stored.
#[test]
fn a_pass_runs_once_but_for_first_visits_and_certificates() {
    let config = Config::for_format(Format::BINARY16).with_period(10).unwrap();
    let mut scaler = Scaler::new(config);
    for visit in 0..35 {
        let mut step = scaler.begin();
        let mut stores = Vec::new();
        run(step.loss(), |pass| {
            stores.push(pass.stores());
            narrow(&[1.0e-3, 2.0e-4], pass)
        })
        .unwrap();
        let expected = match visit {
            0 => &[false, true, true][..],
            _ if visit % 10 == 0 => &[false, true],
            _ => &[true],
        };
        assert_eq!(stores, expected, "{visit}");
        let last = step.last().unwrap();
        assert_eq!((usize::from(last.passes), last.replayed), (expected.len(), false));
        assert_eq!(last.certificate.is_some(), visit % 10 == 0);
        assert_eq!(step.finish(), Verdict::Apply);
    }
    assert_eq!((scaler.totals().certificates, scaler.totals().recovered), (4, 0));
    let triggers = scaler.decisions().map(|decision| decision.certificate.trigger);
    assert!(triggers.eq([Trigger::First, Trigger::Period, Trigger::Period, Trigger::Period]));
}

/// Whoever wants no certificates gets none, and the same scales and values.
#[test]
fn certificates_change_nothing() {
    for format in FORMATS {
        let config = Config::for_format(format);
        let run = |period: u32| {
            let mut scaler = Scaler::new(config.with_period(period).unwrap());
            let mut tensors = Tensors(3);
            let mut left = Vec::new();
            for _ in 0..100 {
                let mut step = scaler.begin();
                let gradient = loss(&mut step, &tensors.next(40)).unwrap();
                left.push(layer(&mut step, 3, &gradient, 0.37).unwrap());
                let _verdict = step.finish();
            }
            (left, scaler.totals())
        };
        let (without, totals) = run(Config::NEVER);
        assert_eq!((totals.certificates, totals.broken), (0, 0));
        let (with, totals) = run(1);
        assert_eq!(totals.certificates, 200);
        assert!(with == without, "{format:?}");
    }
}

/// Records give the scales of a run again, cell by cell, step by step.
#[test]
fn records_repeat_a_run() {
    for config in FORMATS.into_iter().flat_map(configs) {
        if !config.policy().follows_maxima() {
            continue;
        }
        let mut scaler = Scaler::new(config);
        let mut tensors = Tensors(9);
        let mut records: Vec<(Place, Record)> = Vec::new();
        for nth in 0..120 {
            let mut step = scaler.begin();
            let mut values = tensors.next(30);
            if nth % 17 == 5 {
                values[3] = f32::NAN;
            }
            let gradient = loss(&mut step, &values).unwrap();
            // A tensor that is not visited in every step leaves no record then.
            if nth % 3 > 0 {
                layer(&mut step, 0, &gradient, 1.0e3).unwrap();
            }
            for place in [Place::Loss, Place::Layer(0), Place::Layer(1)] {
                records.extend(step.record(place).map(|record| (place, record)));
            }
            let _verdict = step.finish();
        }
        for (place, count) in [(Place::Loss, 120), (Place::Layer(0), 80)] {
            let of_place = records.iter().filter(|(at, _)| *at == place);
            assert_eq!(of_place.clone().count(), count);
            let mut cell = config.cell();
            for (_, record) in of_place {
                assert!(repeat(&config, record, &mut cell), "{config:?} {record:?}");
            }
            assert_eq!(Some(cell.scale()), scaler.cell(place).map(Cell::scale));
        }
        // A step that is missing is noticed sooner or later.
        let mut cell = config.cell();
        let loss = records.iter().filter(|(at, _)| *at == Place::Loss);
        let is_same = |(_, record): &(Place, Record)| repeat(&config, record, &mut cell);
        assert!(
            config.narrowing().format.encoding == Encoding::BFloat16
                || !loss.skip(3).step_by(2).all(is_same)
        );
    }
}

/// Operands are asked for where a decision is due, and nowhere else.
#[test]
fn operands_are_asked_for_when_they_decide() {
    let format = Format::BINARY16;
    for policy in
        [Policy::Normal(Normal::new(format, 1e-3).unwrap()), Policy::Range(Range::new(format))]
    {
        let config = Config::for_format(format).with_policy(policy).unwrap();
        let mut scaler = Scaler::new(config.with_period(3).unwrap());
        for nth in 0..10 {
            let (mut step, mut asked) = (scaler.begin(), 0);
            let values = [1.0e-3_f32, 2.0e-4];
            let mut visit = step.loss();
            for _ in 0..2 {
                if visit.wants_operands() {
                    asked += 1;
                    visit.describe(&Operands::Cast(Statistics::of(&values)));
                }
            }
            visited(visit, &values);
            let decided = step.last().unwrap().certificate.is_some();
            assert_eq!((asked, decided), (u32::from(nth % 3 == 0), nth % 3 == 0), "{nth}");
            assert_eq!(step.finish(), Verdict::Apply);
        }
        assert_eq!(scaler.totals().certificates, 4);
    }
}

/// The log keeps the last decisions, as many as there are cells, the oldest first.
#[test]
fn the_log_keeps_the_last_decisions() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16).with_period(1).unwrap());
    for visits in 1..=11 {
        let mut step = scaler.begin();
        loss(&mut step, &[1.0e-3]).unwrap();
        assert_eq!(step.finish(), Verdict::Apply);
        let steps = scaler.decisions().map(|decision| decision.step);
        assert!(steps.eq(visits - visits.min(8)..visits), "after {visits} visits");
    }
    let oldest = scaler.decisions().next().unwrap();
    let line = format!("step 3, the loss gradient: {}", oldest.certificate);
    assert_eq!(oldest.to_string(), line);
}

/// A branch that is all zero at first, as a residual branch whose last layer starts at zero, gets its scale from the
/// first gradient that it sees; until then, and for dead branches for ever, a visit is one pass.
#[test]
fn a_zero_tensor_costs_one_pass_and_decides_nothing() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    for visit in 0..6 {
        let mut step = scaler.begin();
        let gradient = loss(&mut step, &[1.0e-3, -3.0e-4]).unwrap();
        let weight = if visit < 3 { 0.0 } else { 1.0e-6 };
        layer(&mut step, 0, &gradient, weight).unwrap();
        let last = step.last().unwrap();
        let certificate = last.certificate.map(|certificate| certificate.rule);
        // The certificate of the first visit says that there was nothing.
        assert_eq!(certificate, (visit == 0).then_some(Rule::Empty));
        assert_eq!(last.passes, [2, 1, 1, 2, 1, 1][visit], "{visit}");
        assert_eq!((last.outcome.underflow, last.replayed), (0, false));
        assert_eq!(step.finish(), Verdict::Apply);
    }
}

/// What a visit reports is what happened: the certificate's promise is the outcome, exactly.
#[test]
fn certificates_promise_what_outcomes_show() {
    for format in FORMATS {
        let mut scaler = Scaler::new(Config::for_format(format).with_period(1).unwrap());
        let mut tensors = Tensors(format.encoding as u64);
        for _ in 0..300 {
            let mut step = scaler.begin();
            let values = tensors.next(200);
            let gradient = loss(&mut step, &values).unwrap();
            layer(&mut step, 3, &gradient, 0.37).unwrap();
            let visit = step.last().unwrap();
            let certificate = visit.certificate.unwrap();
            assert_eq!(visit.outgoing, certificate.scale);
            if certificate.rule == Rule::Measured {
                let [_, expected, _] = certificate.expected;
                assert_eq!(expected.underflow, visit.outcome.underflow);
                assert_eq!(expected.overflow, visit.outcome.overflow);
            }
            let _verdict = step.finish();
        }
    }
}

/// Whole-model policies decide at the loss; every layer carries that scale through.
#[test]
fn layers_follow_the_loss_under_whole_model_policies() {
    for config in configs(Format::BINARY16) {
        if !config.policy().is_whole_model() {
            continue;
        }
        let mut scaler = Scaler::new(config);
        let mut step = scaler.begin();
        let gradient = loss(&mut step, &[1.0e-3]).unwrap();
        let expected = if matches!(config.policy(), Policy::Fixed(_)) { 4 } else { 16 };
        assert_eq!(gradient.scale(), scale(expected));
        let gradient = layer(&mut step, 0, &gradient, 0.5).unwrap();
        assert_eq!(gradient.scale(), scale(expected));
        assert_eq!(step.finish(), Verdict::Apply);
    }
}

/// A further loss has a cell of its own where cells decide, and leaves with the scale of the loss where one scale
/// serves the whole model.
#[test]
fn a_further_loss_has_a_scale_of_its_own() {
    for config in configs(Format::BINARY16) {
        let mut scaler = Scaler::new(config);
        for _ in 0..6 {
            let mut step = scaler.begin();
            let first = loss(&mut step, &[1.0e-3, 2.0e-3]).unwrap();
            let values = [1.0e-9, 3.0e-9];
            let mut visit = step.loss_at(0).unwrap();
            visit.describe(&Operands::Cast(Statistics::of(&values)));
            let second = visited(visit, &values);
            let third = visited(step.loss_at(1).unwrap(), &values);
            assert_eq!(step.last().unwrap().incoming, Scale::ONE);
            if config.policy().is_whole_model() {
                assert_eq!((second.scale(), third.scale()), (first.scale(), first.scale()));
            } else if config.policy().follows_maxima() {
                assert_eq!(second.scale(), third.scale());
                assert!(second.scale().log2() >= first.scale().log2() + 18, "{config:?}");
            } else {
                assert!(second.scale() > third.scale() && third.scale() == Scale::ONE);
            }
            assert_eq!(step.finish(), Verdict::Apply);
        }
    }
}

/// Layers that give no operands carry the scale through under the paper's policies.
#[test]
fn layers_without_operands_carry_under_normal_and_range() {
    for config in configs(Format::BINARY16) {
        if !config.policy().wants_operands() {
            continue;
        }
        let mut scaler = Scaler::new(config);
        let mut step = scaler.begin();
        let gradient = loss(&mut step, &[1.0e-7, 3.0e-7, -2.0e-7]).unwrap();
        let results = widen(Format::BINARY16, gradient.scaled());
        let carried = visited(step.layer(0, &gradient).unwrap(), &results);
        assert_eq!(carried.scale(), gradient.scale());
        let decided = layer(&mut step, 1, &carried, 1.0e-3).unwrap();
        let certificate = step.last().unwrap().certificate.unwrap();
        assert_eq!(decided.scale(), certificate.scale);
        let _verdict = step.finish();
    }
}

/// A cap is of the factor that a layer decides: layers without operands, and joins, are not brought below it.
#[test]
fn what_adds_no_factor_has_no_cap() {
    let capped = Normal::new(Format::BINARY16, 1e-3).unwrap().with_paper_caps(16.0, 8.0);
    let config = Config::for_format(Format::BINARY16);
    let mut scaler = Scaler::new(config.with_policy(Policy::Normal(capped)).unwrap());
    let mut step = scaler.begin();
    let branches = [scale(10); 2].map(Scaled::from);
    for _ in 0..2 {
        assert_eq!(visited(step.layer(0, scale(10)).unwrap(), &[2.0]).scale(), scale(10));
        let joined = visited(step.join(1, &branches).unwrap(), &[2.0]);
        assert_eq!((joined.scale(), step.last().unwrap().passes), (scale(10), 1));
    }
    let _verdict = step.finish();
}

#[test]
fn a_join_brings_branches_to_the_least_scale() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    let one: Bits = vec![0x3c00, 0x4000];
    let (a, b) = (Scaled::new(&one, scale(3)), Scaled::new(&one, scale(-2)));
    let tags = [a.tag(), b.tag()];
    let joined = run(step.join(0, &tags).unwrap(), |pass| {
        assert_eq!(pass.incoming(), scale(-2));
        let mut sum = [0.0; 2];
        for branch in [a, b] {
            let (bits, scale) = branch.into_parts();
            let values = widen(Format::BINARY16, bits).into_iter();
            let values = values.map(|x| shifted(x, pass.incoming() / scale));
            sum.iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
        }
        narrow(&sum, pass)
    })
    .unwrap();
    let unscaled = joined.unscale(|bits, inverse| Format::BINARY16.widen(bits[1]) * inverse);
    assert_eq!(unscaled, 2.0 / 8.0 + 2.0 * 4.0);
    let error = step.join(0, &[a.tag()]).map(drop).unwrap_err();
    assert_eq!(error, StepError::Branches { id: 0, count: 1 });
    assert_eq!(error.to_string(), "the join of cell 0 has 1 branches instead of two or more");
    assert!(error.source().is_none());
    let _verdict = step.finish();
}

/// Under the paper's policies a sum leaves at the greatest of its branches' scales that it fits.
#[test]
fn a_join_keeps_the_greatest_scale_that_fits_under_normal() {
    let config = configs(Format::BINARY16).into_iter().find(|c| c.policy().name() == "normal");
    let mut scaler = Scaler::new(config.unwrap());
    let mut step = scaler.begin();
    // The sum is 2 at the lower of the two scales and may grow to 2^15.
    // Scales 64 binades apart, as 76 and 12 are, are not taken for each other.
    let cases = [([3, 12], 12), ([3, 17], 17), ([3, 18], 3), ([15, 20], 20), ([3, 76], 3)];
    for (scales, expected) in cases {
        let branches = scales.map(|k| Scaled::from(scale(k)));
        let joined = visited(step.join(1, &branches).unwrap(), &[2.0]);
        assert_eq!(joined.scale(), scale(expected), "{scales:?}");
        assert_eq!(step.last().unwrap().outcome.overflow, 0);
    }
    let _verdict = step.finish();
}

/// Stochastic rounding draws other words at every visit, and the same ones in every run.
#[test]
fn stochastic_rounding_is_a_function_of_seed_and_visit() {
    let config = |seed| Config::for_format(Format::E5M2).with_rounding(Rounding::Stochastic, seed);
    let run = |seed| {
        let mut scaler = LossScaler::<8>::new(config(seed));
        let values: Vec<f32> = (1..200).map(|i| i as f32 * 1.0e-5).collect();
        (0..3)
            .map(|_| {
                let mut step = scaler.begin();
                let gradient = loss(&mut step, &values).unwrap();
                assert_eq!(step.finish(), Verdict::Apply);
                gradient.into_parts().0
            })
            .collect::<Vec<_>>()
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
    assert_ne!(first[1], first[2]);
}

#[test]
fn a_cell_beyond_the_capacity_is_refused() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    let gradient = loss(&mut step, &[1.0]).unwrap();
    assert!(layer(&mut step, 7, &gradient, 1.0).is_ok());
    let error = layer(&mut step, 8, &gradient, 1.0).unwrap_err();
    assert_eq!(error, StepError::NoCell { id: 8, cells: 8 });
    assert_eq!(error.to_string(), "cell 8 was asked for and the scaler has 8");
    let _verdict = step.finish();
    assert!(scaler.cell(Place::Layer(7)).is_some() && scaler.cell(Place::Layer(8)).is_none());
}

/// A pass that fails leaves the scaler as it was, whichever pass it is.
#[test]
fn a_failed_pass_changes_nothing() {
    for failing in 1..=3 {
        let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
        let mut step = scaler.begin();
        loss(&mut step, &[1.0]).unwrap();
        let _verdict = step.finish();
        let (digest, totals) = (scaler.digest(), scaler.totals());
        let mut step = scaler.begin();
        let mut runs = 0;
        let result = run(step.layer(0, Scale::ONE).unwrap(), |pass| {
            runs += 1;
            if runs == failing {
                Err("the device is gone")
            } else {
                Ok(narrow(&[1.0], pass).unwrap())
            }
        });
        assert_eq!(result.unwrap_err(), "the device is gone");
        assert!(step.last().is_none());
        drop(step);
        // It was the first visit, which makes a cell, and none is there.
        assert_eq!(scaler.cell(Place::Layer(0)), None);
        assert_eq!((scaler.digest(), scaler.totals()), (digest, totals));
    }
}

/// The error of narrowing is what the step's says and what it comes from.
#[test]
fn the_error_of_narrowing_passes_through() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    let error = step.loss().apply(&[1.0; 2], &mut [f16::ZERO]).expect_err("no room for two");
    assert_eq!(error.to_string(), "2 values cannot be narrowed into room for 1");
    let source = error.source().expect("the error of the pass");
    assert_eq!(source.to_string(), error.to_string());
    let _verdict = step.finish();
}

/// A caller may count anything.
#[test]
fn counts_of_tiny_gradients_stay_at_their_end() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    let met = Unscaled { tiny: u64::MAX, ..Unscaled::default() };
    step.unscaled(0, &met);
    step.unscaled(1, &met);
    assert_eq!(step.tiny(), u64::MAX);
    let _verdict = step.finish();
}

/// What a scaler does is what the policy's own functions do.
#[test]
fn the_scaler_decides_nothing_itself() {
    let config = Config::for_format(Format::E4M3).with_period(Config::NEVER).unwrap();
    let mut scaler = Scaler::new(config);
    let mut tensors = Tensors(5);
    let mut cell = config.cell();
    for _ in 0..200 {
        let values = tensors.next(20);
        let mut step = scaler.begin();
        let gradient = loss(&mut step, &values).unwrap();
        let outcome = |scale: Scale| {
            let mut counts = Counts::NONE;
            let noise = Noise::default();
            let mut pass = Pass::storing(config.narrowing(), noise, Scale::ONE, scale, &mut counts);
            narrow(&values, &mut pass).unwrap();
            counts.outcome
        };
        let mut scale = cell.scale();
        if let Some(again) = note(&config, &outcome(scale), Scale::ONE, &mut cell) {
            scale = again;
        }
        assert_eq!(gradient.scale(), scale);
        assert_eq!(step.last().unwrap().outcome, outcome(scale));
        assert_eq!(step.finish(), Verdict::Apply);
        finish(&config, &mut cell);
        assert_eq!(scaler.cell(Place::Loss), Some(&cell));
    }
}
