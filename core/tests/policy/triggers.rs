//! When a cell decides: visits are simulated as the scaler makes them.

use adaloss_core::{
    apply::Apply,
    format::{Format, Noise},
    policy::{
        Cell, Certificate, Config, Fraction, Measured, Policy, Recovery, Rule, Trigger, decide,
        due, note, recover,
    },
    scale::Scale,
    statistics::{Histogram, Outcome},
};

/// Visits a cell once: decides if it is due, narrows, notes.
pub(crate) fn visit(
    config: &Config,
    cell: &mut Cell,
    values: &[f32],
    incoming: Scale,
) -> Option<Certificate> {
    let certificate = due(config, cell).map(|trigger| {
        let mut histogram = Histogram::new(config.narrowing());
        histogram.observe(values, incoming);
        let certificate = decide(config, &histogram, cell);
        assert_eq!(certificate.trigger, trigger);
        certificate
    });
    note(config, &outcome(config, cell.scale(), values, incoming), incoming, cell);
    certificate
}

fn outcome(config: &Config, scale: Scale, values: &[f32], incoming: Scale) -> Outcome {
    let shift = scale / incoming;
    let apply = Apply { narrowing: config.narrowing(), shift, noise: Noise::default() };
    let mut outcome = Outcome::EMPTY;
    for (index, &x) in (0..).zip(values) {
        apply.element(x, index, &mut outcome);
    }
    outcome
}

#[test]
fn a_period_decides_at_every_nth_visit_exactly() {
    for format in [Format::BINARY16, Format::E4M3.flushing(), Format::BFLOAT16] {
        for period in [1, 2, 3, 7, 10, 100] {
            let config = Config::for_format(format).with_period(period).expect("legal");
            let mut cell = config.cell();
            for at in 0..5 * period + 3 {
                let certificate = visit(&config, &mut cell, &[0.01, -3.0e-4], Scale::ONE);
                assert_eq!(certificate.is_some(), at % period == 0, "{period} {at}");
                let trigger = if at == 0 { Trigger::First } else { Trigger::Period };
                assert!(certificate.is_none_or(|c| c.trigger == trigger));
                assert_eq!(cell.age(), at % period + 1);
            }
        }
    }
}

/// A residual branch that begins at zero: every visit is due, none is a calibration, the first
/// nonzero element decides at once and without a bound on growth.
#[test]
fn an_empty_tensor_stays_due() {
    let config = Config::for_format(Format::BINARY16);
    let mut cell = config.cell();
    for at in 0..25 {
        let certificate = visit(&config, &mut cell, &[0.0; 8], Scale::ONE).expect("due");
        let trigger = if at == 0 { Trigger::First } else { Trigger::Empty };
        assert_eq!((certificate.rule, certificate.trigger), (Rule::Empty, trigger));
        assert_eq!((cell.scale(), cell.is_calibrated()), (Scale::ONE, false));
    }
    let certificate = visit(&config, &mut cell, &[1.0e-12], Scale::ONE).expect("due");
    assert_eq!((certificate.rule, certificate.limited), (Rule::Window, false));
    assert!(certificate.scale.log2() > 16);
    assert!(visit(&config, &mut cell, &[1.0e-12], Scale::ONE).is_none());
    // A tensor that becomes zero is due again after its period, and then at every visit.
    for _ in 2..10 {
        assert!(visit(&config, &mut cell, &[0.0], Scale::ONE).is_none());
    }
    let scale = cell.scale();
    let period = visit(&config, &mut cell, &[0.0], Scale::ONE).expect("due");
    let empty = visit(&config, &mut cell, &[0.0], Scale::ONE).expect("due");
    assert_eq!((period.trigger, empty.trigger), (Trigger::Period, Trigger::Empty));
    assert_eq!(cell.scale(), scale);
}

/// NaN is not the scale's fault: no trigger, no move, and the period is not used up by it.
#[test]
fn non_finite_tensors_pull_no_trigger() {
    let config = Config::for_format(Format::BINARY16);
    let mut cell = config.cell();
    visit(&config, &mut cell, &[1.0], Scale::ONE);
    let scale = cell.scale();
    for at in 1..15 {
        let values = [f32::MAX, f32::NAN, 1.0e-30];
        let certificate = visit(&config, &mut cell, &values, Scale::ONE);
        assert_eq!((cell.scale(), cell.trigger()), (scale, Trigger::None));
        assert_eq!(certificate.map(|c| c.rule), (at >= 10).then_some(Rule::NonFinite));
    }
    assert!(visit(&config, &mut cell, &[1.0], Scale::ONE).is_some(), "still due");
}

/// Overflow moves the scale at once, in one move that is enough, and makes the cell decide.
#[test]
fn overflow_moves_at_once() {
    for format in [Format::BINARY16, Format::E5M2, Format::E4M3, Format::BFLOAT16] {
        let config = Config::for_format(format);
        let mut cell = config.cell();
        // At an incoming scale of 2^3 throughout; absolute magnitudes are an eighth.
        let incoming = Scale::saturating(3);
        visit(&config, &mut cell, &[1.0e-3], incoming);
        let values = [f32::MAX / 3.0, 2.0e-3];
        let seen = outcome(&config, cell.scale(), &values, incoming);
        if format == Format::BFLOAT16 {
            assert_eq!(seen.overflow, 0, "its range is that of f32");
            continue;
        }
        assert_eq!(seen.overflow, 1);
        visit(&config, &mut cell, &values, incoming);
        assert_eq!(Some(cell.scale()), recover(&config, &seen, incoming));
        assert_eq!(outcome(&config, cell.scale(), &values, incoming).overflow, 0);
        assert_eq!(due(&config, &cell), Some(Trigger::Overflow));
        let certificate = visit(&config, &mut cell, &[1.0e-3], incoming).expect("due");
        assert_eq!(certificate.trigger, Trigger::Overflow);
        assert_eq!(due(&config, &cell), None);

        // Without recovery the period goes on and nothing moves.
        let config = config.with_recovery(Recovery::Skip);
        let mut cell = config.cell();
        visit(&config, &mut cell, &[1.0e-3], incoming);
        let scale = cell.scale();
        visit(&config, &mut cell, &values, incoming);
        assert_eq!((cell.scale(), due(&config, &cell)), (scale, None));
    }
}

/// An overflow that no legal scale prevents leaves the scale, says so by its trigger, and the
/// decision that follows ends at the least scale: no loop.
#[test]
fn overflow_that_no_scale_prevents() {
    let config = Config::for_format(Format::BINARY16);
    let mut cell = config.cell();
    let values = [f32::MAX];
    visit(&config, &mut cell, &values, Scale::MIN);
    assert_eq!(
        recover(&config, &outcome(&config, cell.scale(), &values, Scale::MIN), Scale::MIN),
        None
    );
    assert_eq!((cell.scale(), cell.trigger()), (Scale::MIN, Trigger::Overflow));
}

/// The trigger is pulled by more than twice the tolerated share, after a promise and not otherwise.
#[test]
fn underflow_pulls_the_trigger_beyond_twice_the_tolerance() {
    let format = Format::BINARY16;
    for tolerance in [4_294_967_u32, 42_949_672, 1 << 28, 1 << 30] {
        let measured =
            Measured { tolerance: Fraction::from_bits(tolerance), ..Measured::for_format(format) };
        let config = Config::for_format(format).with_policy(Policy::Measured(measured));
        let config = config.expect("legal");
        let mut promised = config.cell();
        visit(&config, &mut promised, &[1.0], Scale::ONE);
        for nonzero in [1_u64, 3, 10, 500, 999, 1500, 2000, 100_000, 1 << 40] {
            let twice = 2 * u128::from(tolerance) * u128::from(nonzero);
            let most = (twice >> 32) as u64;
            for underflow in [0, 1, most.saturating_sub(1), most, most + 1, most + 2] {
                if underflow > nonzero {
                    continue;
                }
                let max_bits = 1.0_f32.to_bits();
                let seen = Outcome { elements: nonzero, underflow, max_bits, ..Outcome::EMPTY };
                let mut cell = promised;
                note(&config, &seen, Scale::ONE, &mut cell);
                let is_beyond = u128::from(underflow) << 32 > twice;
                let expected = if is_beyond { Trigger::Underflow } else { Trigger::None };
                let context = format!("{underflow} of {nonzero}, T = {tolerance} / 2^32");
                assert_eq!(cell.trigger(), expected, "{context}");
                assert_eq!(cell.scale(), promised.scale());
            }
        }
    }
}

#[test]
fn without_a_promise_underflow_pulls_no_trigger() {
    let config = Config::for_format(Format::E4M3);
    let mut cell = config.cell();
    // 40 binades are more than E4M3 has: no window, no promise.
    let mut values: Vec<f32> = (0..40).map(|log2| 2.0_f32.powi(-log2)).collect();
    values.push(0.0);
    let certificate = visit(&config, &mut cell, &values, Scale::ONE).expect("the first");
    assert!(!certificate.promised && certificate.expected[1].underflow > 0);
    for _ in 1..10 {
        assert!(visit(&config, &mut cell, &values, Scale::ONE).is_none());
    }
    assert_eq!(
        visit(&config, &mut cell, &values, Scale::ONE).expect("due").trigger,
        Trigger::Period
    );
    // A promise is broken by a move that overflow demands.
    let mut cell = config.cell();
    assert!(visit(&config, &mut cell, &[1.0], Scale::ONE).expect("the first").promised);
    visit(&config, &mut cell, &[1.0e9], Scale::ONE);
    assert_eq!(cell.trigger(), Trigger::Overflow);
    let seen = Outcome { elements: 10, underflow: 9, ..Outcome::EMPTY };
    note(&config, &seen, Scale::ONE, &mut cell);
    assert_eq!(cell.trigger(), Trigger::Overflow, "overflow is the stronger word");
}

/// One scale for the whole model: no cell is ever due.
#[test]
fn whole_model_policies_have_no_triggers() {
    use adaloss_core::policy::Backoff;
    let config = Config::for_format(Format::BINARY16);
    for policy in [Policy::Fixed(Scale::ONE), Policy::Backoff(Backoff::GRAD_SCALER)] {
        let config = config.with_policy(policy).expect("legal");
        let mut cell = config.cell();
        let before = cell;
        assert!(visit(&config, &mut cell, &[f32::MAX, 1.0e-40], Scale::ONE).is_none());
        assert_eq!(cell, before);
    }
}
