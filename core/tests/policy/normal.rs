//! The edges of the paper's policies, which the authors' code does not show.

use adaloss_core::{
    format::{Fate, Format},
    policy::{
        Backoff, Config, ConfigError, Growth, Normal, Operands, Policy, Range, Rule, Terms,
        decide_from_operands,
    },
    scale::Scale,
    statistics::{LogStatistics, Statistics},
};
use adaloss_oracle::{Limits, formats};

/// One NaN in either operand is enough, and as many in both do not cancel.
#[test]
fn operands_that_are_not_finite_say_nothing() {
    let (normal, range) = (Normal::paper(Format::BINARY16), Range::new(Format::BINARY16));
    let (clean, spoilt) = ([0.25_f32, -3.0], [0.25, f32::NAN, f32::INFINITY]);
    let of = |is_spoilt| Statistics::of(if is_spoilt { &spoilt[..] } else { &clean });
    for (gradient, weight) in [(false, false), (true, false), (false, true), (true, true)] {
        let operands = Operands::Product { gradient: of(gradient), weight: of(weight), fan_in: 7 };
        assert_eq!(normal.factor(&operands).is_none(), gradient || weight);
        assert_eq!(range.factor(&operands).is_none(), gradient || weight);
    }
    for is_spoilt in [false, true] {
        let cast = Operands::Cast(of(is_spoilt));
        assert_eq!(normal.factor(&cast).is_none(), is_spoilt);
        assert_eq!(range.factor(&cast).is_none(), is_spoilt);
        let gradient = if is_spoilt { spoilt } else { [0.25, -3.0, 1.0] };
        let terms = Terms::of(&gradient, &[1.0_f32; 3], 3, 3).expect("a product");
        assert_eq!(range.factor(&Operands::Terms(terms)).is_none(), is_spoilt);
        let log = LogStatistics::of(if is_spoilt { &spoilt[..] } else { &clean });
        assert_eq!(normal.factor(&Operands::LogCast(log)).is_none(), is_spoilt);
    }
}

/// Sums of no products are all zero, and say nothing of a scale: the greatest one would have been chosen.
#[test]
fn sums_of_no_products_say_nothing() {
    let statistics = Statistics::of(&[0.25_f32, -3.0]);
    let product = |fan_in| Operands::Product { gradient: statistics, weight: statistics, fan_in };
    let terms = Terms { fan_in: 0, ..Terms::of(&[0.25_f32], &[1.0_f32], 1, 1).expect("a product") };
    for policy in [
        Policy::Normal(Normal::paper(Format::BINARY16)),
        Policy::Range(Range::new(Format::BINARY16)),
    ] {
        let config = Config::for_format(Format::BINARY16).with_policy(policy).expect("possible");
        for operands in [product(0), Operands::Terms(terms)] {
            let mut cell = config.cell();
            let certificate = decide_from_operands(&config, &operands, Scale::ONE, &mut cell);
            assert_eq!((certificate.rule, certificate.scale), (Rule::Empty, Scale::ONE));
            assert_eq!(cell, config.cell());
        }
        let mut cell = config.cell();
        let certificate = decide_from_operands(&config, &product(1), Scale::ONE, &mut cell);
        assert!(certificate.rule != Rule::Empty && cell.is_calibrated());
    }
}

/// A constant has no deviation from which a factor could follow: what can be is its magnitude, and it is kept.
#[test]
fn a_constant_gradient_is_not_lost() {
    for format in formats() {
        let model = Normal::new(format, 1.0e-3).expect("a share");
        let config = Config::for_format(format).with_policy(Policy::Normal(model)).expect("legal");
        let smallest = f64::from(model.smallest);
        for constant in [1.0e-30_f32, -3.0e-12, 5.9e-8, 7.0e-5, 1.5, -2.0e4] {
            let values = [constant; 17];
            let magnitude = f64::from(constant.abs());
            let limit = f64::from(model.largest) / magnitude;
            let expected = (smallest / magnitude).max(1.0).min(limit) as f32;
            for operands in [
                Operands::Cast(Statistics::of(&values)),
                Operands::LogCast(LogStatistics::of(&values)),
            ] {
                assert_eq!(model.factor(&operands), Some(expected), "{constant:e} in {format:?}");
                let mut cell = config.cell();
                let scale = decide_from_operands(&config, &operands, Scale::ONE, &mut cell).scale;
                let narrowed = config.narrowing().narrow(constant, scale.log2(), 0);
                let flushes = format == format.flushing();
                // Where subnormals are flushed, what is floored to a power of two may be below the smallest number.
                let is_kept = !matches!(narrowed.fate, Fate::Underflow | Fate::Overflow);
                assert!(is_kept || flushes, "{constant:e} in {format:?} at {scale}");
            }
        }
        for zeros in [&[0.0_f32, -0.0][..], &[]] {
            let cast = Operands::Cast(Statistics::of(zeros));
            assert_eq!(model.factor(&cast), Some(1.0));
            let cast = Operands::LogCast(LogStatistics::of(zeros));
            assert_eq!(model.factor(&cast), Some(1.0));
        }
    }
}

/// Nor are products whose root mean square is below every f32.
#[test]
fn products_below_f32_ask_for_what_they_need() {
    let model = Normal::new(Format::BINARY16, 1.0e-3).expect("a share");
    let statistics = |x: f32| Statistics::of(&[x; 5]);
    let product = |g, w| {
        let (gradient, weight) = (statistics(g), statistics(w));
        model.factor(&Operands::Product { gradient, weight, fan_in: 2 })
    };
    let sigma = f64::from(1.0e-30_f32) * f64::from(1.0e-20_f32);
    let wanted = f64::from(model.smallest) / (model.gaussian_factor * sigma);
    assert_eq!(product(1.0e-30, 1.0e-20), Some(wanted as f32));
    assert_eq!(product(1.0e-30, 1.0e-38), Some(f32::INFINITY));
    assert_eq!(product(0.0, 1.0e-20), Some(1.0));
}

#[test]
fn extremes_are_those_of_the_format() {
    for format in formats() {
        let normal = Normal::new(format, 1.0e-3).expect("a share");
        let limits = Limits::of(format.encoding);
        let smallest = 2.0_f64.powi(format.min_positive_log2());
        assert_eq!(f64::from(normal.smallest), smallest, "{format:?}");
        assert_eq!(f64::from(normal.largest), limits.largest, "{format:?}");
    }
}

/// Between the smallest and the largest number there has to be something.
#[test]
fn a_range_of_one_number_is_refused() {
    let config = Config::for_format(Format::BINARY16);
    let normal = Normal { smallest: 1.0, largest: 1.0, ..Normal::paper(Format::BINARY16) };
    assert_eq!(config.with_policy(Policy::Normal(normal)), Err(ConfigError::Extremes));
    let normal = Normal { largest: 1.0_f32.next_up(), ..normal };
    assert!(config.with_policy(Policy::Normal(normal)).is_ok());
    let range = Range { smallest: 1.0, largest: 1.0 };
    assert_eq!(config.with_policy(Policy::Range(range)), Err(ConfigError::Extremes));
    let range = Range { largest: 1.0_f32.next_up(), ..range };
    assert!(config.with_policy(Policy::Range(range)).is_ok());
}

/// Chainer's schedule ends at the largest number of binary16, not at `GradScaler`'s bound.
#[test]
fn chainer_stops_at_binary16() {
    let backoff = Backoff::chainer(1).expect("an interval");
    let config = Config::for_format(Format::BINARY16).with_policy(Policy::Backoff(backoff));
    let config = config.expect("legal");
    let mut cell = config.cell();
    for _ in 0..40 {
        adaloss_core::policy::step(&config, true, &mut cell);
    }
    assert_eq!(
        (Growth::of(&cell).real_scale, cell.scale()),
        (65504.0, Scale::new(15).expect("legal"))
    );
}
