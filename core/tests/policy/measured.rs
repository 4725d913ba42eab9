//! `measured` against the search.

use std::sync::Mutex;

use adaloss_core::{
    format::{Format, Narrowing, Rounding},
    policy::{Cell, Config, Fraction, Measured, Policy, Rule, Trigger, Window, decide},
    scale::Scale,
    statistics::Histogram,
};
use adaloss_oracle::{
    counted_narrowings, in_parallel,
    inputs::SplitMix64,
    narrowings,
    search::{self, Decision, Tensor, counts},
};

use crate::tensor::Observe;

/// Parameters that make every rule and bound matter now and then.
fn draw_parameters(generator: &mut SplitMix64) -> Measured {
    let share = |bits: &[u32], generator: &mut SplitMix64| {
        Fraction::from_bits(bits[generator.below(bits.len())])
    };
    Measured {
        tolerance: share(&[0, 4_294_967, 42_949_673, 1 << 30], generator),
        lost_mass: share(&[0, 42_949, 4_294_967, 1 << 29], generator),
        headroom: [0, 1, 2, 5][generator.below(4)],
        slack: [0, 2, 2, 4][generator.below(4)],
        max_growth: [1, 2, 16, 255][generator.below(4)],
    }
}

fn config(narrowing: Narrowing, measured: Measured) -> Config {
    Config::for_format(narrowing.format)
        .with_rounding(narrowing.rounding, 0)
        .with_overflow(narrowing.overflow)
        .with_policy(Policy::Measured(measured))
        .expect("legal parameters")
}

/// Decides once and compares with the search; returns the rule.
fn check(config: &Config, tensor: &Tensor, cell: &mut Cell) -> Option<Rule> {
    let Policy::Measured(measured) = config.policy() else { unreachable!("measured") };
    let before = cell.is_calibrated().then(|| cell.scale().log2());
    let current = cell.scale();
    let narrowing = config.narrowing();
    let expected = search::decide(measured, narrowing, tensor, before, current.log2());
    let certificate = decide(config, &tensor.histogram(narrowing), cell);
    let expected = expected?;
    let context = || format!("{config:?} {tensor:?} from {before:?}");
    assert_eq!(Decision::of(&certificate), expected, "{}", context());
    assert_eq!(certificate.before, current);
    assert_eq!(certificate.nonzero, tensor.values.len() as u64);
    assert_eq!((cell.scale(), cell.age()), (certificate.scale, 0));
    assert_eq!((cell.trigger(), cell.is_calibrated()), (Trigger::None, true));
    Some(certificate.rule)
}

#[test]
fn decisions_are_those_of_the_search() {
    let rules = Mutex::new([0_u64; 4]);
    let checked = in_parallel(&counted_narrowings(), |&narrowing| {
        let mut generator = SplitMix64(91);
        let mut checked = 0;
        for _ in 0..120 {
            let config = config(narrowing, draw_parameters(&mut generator));
            let mut cell = config.cell();
            let mut tensor = Tensor::draw(&mut generator);
            // The same cell over a drifting tensor: kept, limited and exempt moves.
            for _ in 0..4 {
                let Some(rule) = check(&config, &tensor, &mut cell) else { break };
                let names = [Rule::Kept, Rule::Window, Rule::LostMass, Rule::Headroom];
                let index = names.iter().position(|&name| name == rule).expect("one of four");
                rules.lock().expect("no panic")[index] += 1;
                checked += 1;
                let drift = [0, 1, -3, 7, -20, 30][generator.below(6)];
                let incoming = Scale::saturating(tensor.incoming.log2() + drift);
                tensor = Tensor { incoming, ..tensor };
            }
        }
        checked
    });
    let [kept, window, mass, headroom] = *rules.lock().expect("no panic");
    println!(
        "measured: {checked} decisions, {kept} kept, {window} by window, {mass} by lost mass, \
         {headroom} by headroom"
    );
    assert!(kept.min(window).min(mass).min(headroom) > 300);
}

/// Stochastic rounding decides by its bounds.
#[test]
fn stochastic_rounding_decides_by_what_can_happen() {
    let mut generator = SplitMix64(92);
    for narrowing in narrowings().into_iter().filter(|n| n.rounding == Rounding::Stochastic) {
        for _ in 0..15 {
            let config = config(narrowing, draw_parameters(&mut generator));
            check(&config, &Tensor::draw(&mut generator), &mut config.cell());
        }
    }
}

/// Tensors at the ends of f32 that carry the scales at the ends: every decision stays legal and is
/// that of the search.
#[test]
fn extreme_tensors() {
    let mut generator = SplitMix64(93);
    for narrowing in counted_narrowings() {
        for incoming in [Scale::MIN, Scale::ONE, Scale::MAX] {
            for (least, greatest) in [(-149, -140), (-149, 127), (120, 127), (-3, 3)] {
                let draw = |_| generator.between_binades(least, greatest);
                let values = (0..60).map(draw).filter(|x| *x != 0.0).collect();
                let tensor = Tensor { values, incoming };
                let everywhere_overflow = counts(narrowing, &tensor, -126).1 > 0;
                if everywhere_overflow {
                    continue; // a test of its own below
                }
                let config = config(narrowing, Measured::for_format(narrowing.format));
                let mut cell = config.cell();
                check(&config, &tensor, &mut cell);
                check(&config, &tensor, &mut cell);
            }
        }
    }
}

/// Growth is limited where the decision asked for more, not where it asked for just as much.
#[test]
fn growth_up_to_the_bound_is_not_limited() {
    // 2^k lives at K in -16 - k ..= 15 - k; two binades of headroom; the middle is -2 - k.
    for (max_growth, expected, limited) in [(20, -2, false), (19, -3, true), (21, -2, false)] {
        let measured = Measured { max_growth, ..Measured::for_format(Format::E5M2) };
        let config = config(Narrowing::to(Format::E5M2), measured);
        let mut cell = config.cell();
        for (value, scale, is_limited) in [(2.0_f32.powi(20), -22, false), (1.0, expected, limited)]
        {
            let tensor = Tensor { values: vec![value], incoming: Scale::ONE };
            let histogram = tensor.histogram(config.narrowing());
            let certificate = decide(&config, &histogram, &mut cell);
            assert_eq!((certificate.scale.log2(), certificate.limited), (scale, is_limited));
        }
    }
}

/// Where every legal scale overflows there is no window, and no rule may claim one: the least scale
/// is the nearest to one that would do.
#[test]
fn no_window_where_every_scale_overflows() {
    let config = Config::for_format(Format::BINARY16);
    let tensor = Tensor { values: vec![f32::MAX; 3], incoming: Scale::MIN };
    let histogram = tensor.histogram(config.narrowing());
    assert_eq!(histogram.greatest_scale(), None);
    let mut cell = config.cell();
    let certificate = decide(&config, &histogram, &mut cell);
    assert_eq!(certificate.scale, Scale::MIN);
    assert_eq!(certificate.expected[1].overflow, 3);
    assert_eq!(certificate.window.width(1), 0);
    assert_eq!(certificate.window.greatest, -127);
    assert_eq!(Window::NONE.width(0), 0);
    assert_eq!(certificate.rule, Rule::Headroom);
}

/// Named cases, by hand.
#[test]
fn three_rules_by_hand() {
    let config = Config::for_format(Format::BINARY16);
    let decide_fresh = |values: &[f32]| {
        let tensor = Tensor { values: values.to_vec(), incoming: Scale::ONE };
        decide(&config, &tensor.histogram(config.narrowing()), &mut config.cell())
    };
    // 2^0 alone: it lives from 2^-24 (the tie 2^-25 is lost) to 2^15; headroom leaves 2^14.
    let certificate = decide_fresh(&[1.0]);
    assert_eq!((certificate.window.least, certificate.window.greatest), (-24, 15));
    assert_eq!((certificate.rule, certificate.scale.log2()), (Rule::Window, -5));
    assert_eq!(certificate.window.width(1), 39);
    // 2^-50 needs 2^26, and 1 forbids more than 2^14; the mass of 2^-50 is nothing.
    let certificate = decide_fresh(&[1.0, 2.0_f32.powi(-50)]);
    assert_eq!((certificate.rule, certificate.promised), (Rule::LostMass, false));
    assert_eq!((certificate.window.least, certificate.scale.log2()), (-24, -5));
    // Many that are lost and weigh nothing: 2^16 times 2^-41 against 1.
    let mut values = vec![1.0];
    values.extend(vec![2.0_f32.powi(-41); 1 << 16]);
    let certificate = decide_fresh(&values);
    assert_eq!((certificate.rule, certificate.scale.log2()), (Rule::LostMass, -5));
    // A tolerated mass of zero leaves headroom as the last rule.
    let strict = Measured { lost_mass: Fraction::ZERO, ..Measured::for_format(Format::BINARY16) };
    let strict = config.with_policy(Policy::Measured(strict)).expect("legal");
    let tensor = Tensor { values, incoming: Scale::ONE };
    let histogram = tensor.histogram(strict.narrowing());
    let certificate = decide(&strict, &histogram, &mut strict.cell());
    assert_eq!((certificate.rule, certificate.scale.log2()), (Rule::Headroom, 14));
}

/// A format with f32's range stays as near the unscaled values as the window allows.
#[test]
fn bfloat16_takes_the_scale_nearest_to_one() {
    let config = Config::for_format(Format::BFLOAT16);
    for (log2, expected) in [(0, 0), (-60, 0), (-130, 0), (-140, 7), (127, -1), (126, 0)] {
        let x = if log2 < -126 { f32::from_bits(1 << (log2 + 149)) } else { 2.0_f32.powi(log2) };
        let tensor = Tensor { values: vec![x], incoming: Scale::ONE };
        let mut cell = config.cell();
        let certificate = decide(&config, &tensor.histogram(config.narrowing()), &mut cell);
        assert_eq!(
            (certificate.scale.log2(), certificate.rule),
            (expected, Rule::Window),
            "{log2}"
        );
    }
}

/// A histogram whose bins mean the scales of another format decides nothing.
#[test]
fn a_histogram_for_another_format_is_refused() {
    let config = Config::for_format(Format::BINARY16);
    for other in [
        Narrowing::to(Format::BFLOAT16),
        Narrowing::to(Format::BINARY16.flushing()),
        Narrowing::to(Format::BINARY16).with_rounding(Rounding::TowardZero),
    ] {
        let mut histogram = Histogram::new(other);
        histogram.observe(&[1.0e-6, 2.0e-6], Scale::ONE);
        let mut cell = config.cell();
        let certificate = decide(&config, &histogram, &mut cell);
        assert_eq!(certificate.rule, Rule::OtherFormat);
        assert_eq!((cell, certificate.scale), (config.cell(), Scale::ONE));
    }
    // What becomes of overflow changes no count.
    let mut histogram = Histogram::new(Narrowing::to(Format::BINARY16).saturating());
    histogram.observe(&[1.0e-6, 2.0e-6], Scale::ONE);
    assert_eq!(decide(&config, &histogram, &mut config.cell()).rule, Rule::Window);
}
