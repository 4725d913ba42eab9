//! A configuration that exists is possible, and its bytes tell it from every other.

use std::collections::BTreeMap;

use adaloss_core::{
    format::{Encoding, Format, Overflow, Rounding, Subnormals},
    policy::{
        Amax, Backoff, Config, ConfigError, Fraction, Growth, Measured, Normal, Policy, Preset,
        Range, Recovery, step,
    },
    scale::Scale,
};
use adaloss_oracle::{formats, inputs::cases};
use proptest::prelude::*;

const FORMAT: Format = Format::BINARY16;

fn with(policy: Policy) -> Result<Config, ConfigError> {
    Config::for_format(FORMAT).with_policy(policy)
}

const AMAX: Amax = Amax { window: 16, margin: 1 };

fn range() -> Range {
    Range::new(FORMAT)
}

fn normal() -> Normal {
    Normal::paper(FORMAT)
}

#[test]
fn impossible_configurations_are_refused_by_name() {
    let config = Config::for_format(FORMAT);
    assert_eq!(config.with_period(0), Err(ConfigError::NoPeriod));
    assert_eq!(config.with_max_skips(0), Err(ConfigError::NoSkips));
    assert_eq!(Backoff::chainer(0), Err(ConfigError::NoInterval));

    let measured = Measured::for_format(FORMAT);
    let refused = [
        (Policy::Amax(Amax { window: 0, ..AMAX }), ConfigError::NoWindow),
        (Policy::Measured(Measured { most_headroom: 0, ..measured }), ConfigError::NoHeadroom),
        (Policy::Amax(Amax { margin: 17, ..AMAX }), ConfigError::Headroom { binades: 17 }),
        (
            Policy::Measured(Measured { most_headroom: 17, ..measured }),
            ConfigError::Headroom { binades: 17 },
        ),
    ];
    for (policy, error) in refused {
        assert_eq!(with(policy), Err(error), "{policy:?}");
        assert!(!error.to_string().is_empty());
    }
    assert!(with(Policy::Measured(Measured { most_headroom: 16, ..measured })).is_ok());
    assert!(with(Policy::Amax(Amax { margin: 16, ..AMAX })).is_ok());
    for share in [-1e-9, 1.0, 1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(Fraction::new(share), Err(ConfigError::Share), "{share}");
        assert_eq!(Normal::new(FORMAT, share), Err(ConfigError::Share), "{share}");
    }
    assert_eq!(Normal::new(FORMAT, 0.0), Err(ConfigError::Share));
}

#[test]
fn impossible_backoffs_are_refused_by_name() {
    let good = Backoff::GRAD_SCALER;
    assert!(with(Policy::Backoff(good)).is_ok());
    let zero = Policy::Backoff(Backoff { interval: 0, ..good });
    assert_eq!(with(zero), Err(ConfigError::NoInterval));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-40, 1e40] {
        for policy in [
            Backoff { initial: bad, ..good },
            Backoff { floor: bad, ..good },
            Backoff { cap: bad, ..good },
        ] {
            let error = with(Policy::Backoff(policy));
            assert_eq!(error, Err(ConfigError::ScaleBounds), "{policy:?}");
        }
    }
    for (floor, initial, cap) in [(2.0, 1.0, 4.0), (1.0, 8.0, 4.0), (4.0, 2.0, 1.0)] {
        let policy = Policy::Backoff(Backoff { floor, initial, cap, ..good });
        assert_eq!(with(policy), Err(ConfigError::ScaleBounds));
    }
    let factors = [0.5, 0.0, -2.0, f64::NAN, f64::INFINITY];
    for bad in factors {
        for policy in [Backoff { growth: bad, ..good }, Backoff { warm_up: bad, ..good }] {
            assert_eq!(with(Policy::Backoff(policy)), Err(ConfigError::Factors), "{policy:?}");
        }
    }
    for shrink in [0.0, 1.0, 2.0, -0.5, f64::NAN] {
        let policy = Policy::Backoff(Backoff { shrink, ..good });
        assert_eq!(with(policy), Err(ConfigError::Factors), "{shrink}");
    }
}

#[test]
fn impossible_models_are_refused_by_name() {
    let (normal, range) = (normal(), range());
    assert!(with(Policy::Normal(normal)).is_ok() && with(Policy::Range(range)).is_ok());
    for bad in [0.0, -1.0, f32::NAN] {
        for policy in [
            Policy::Normal(Normal { smallest: bad, ..normal }),
            Policy::Normal(Normal { largest: bad, ..normal }),
            Policy::Normal(Normal { layer_cap: bad, ..normal }),
            Policy::Normal(Normal { accumulated_cap: bad, ..normal }),
            Policy::Range(Range { smallest: bad, ..range }),
            Policy::Range(Range { largest: bad, ..range }),
        ] {
            assert_eq!(with(policy), Err(ConfigError::Extremes), "{policy:?}");
        }
    }
    let infinite = Policy::Range(Range { largest: f32::INFINITY, ..range });
    assert_eq!(with(infinite), Err(ConfigError::Extremes));
    let swapped = Range { smallest: range.largest, largest: range.smallest };
    assert_eq!(with(Policy::Range(swapped)), Err(ConfigError::Extremes));
    for bad in [0.0, -1.0, f64::NAN] {
        let policy = Policy::Normal(Normal { gaussian_factor: bad, ..normal });
        assert_eq!(with(policy), Err(ConfigError::Share));
    }
    for bad in [f64::INFINITY, f64::NAN] {
        let policy = Policy::Normal(Normal { log_normal_factor: bad, ..normal });
        assert_eq!(with(policy), Err(ConfigError::Share));
    }
}

/// Configurations that each differ from another one in a single field.
fn neighbours() -> Vec<Config> {
    let base = Config::for_format(FORMAT);
    let measured = Measured::for_format(FORMAT);
    let backoff = Backoff::GRAD_SCALER;
    let (normal, range) = (normal(), range());
    let policies = [
        Policy::Fixed(Scale::ONE),
        Policy::Fixed(Scale::MIN),
        Policy::Fixed(Scale::MAX),
        Policy::Backoff(backoff),
        Policy::Backoff(Backoff { initial: 32768.0, ..backoff }),
        Policy::Backoff(Backoff { growth: 4.0, ..backoff }),
        Policy::Backoff(Backoff { warm_up: 2.0, ..backoff }),
        Policy::Backoff(Backoff { shrink: 0.25, ..backoff }),
        Policy::Backoff(Backoff { floor: 1.0, ..backoff }),
        Policy::Backoff(Backoff { cap: 65536.0, ..backoff }),
        Policy::Backoff(Backoff { interval: 2001, ..backoff }),
        // The last byte of the longest policy.
        Policy::Backoff(Backoff { interval: 2000 + (1 << 24), ..backoff }),
        Policy::Normal(normal),
        Policy::Normal(Normal { gaussian_factor: 2.0, ..normal }),
        Policy::Normal(Normal { log_normal_factor: 2.0, ..normal }),
        Policy::Normal(Normal { smallest: 2.0, ..normal }),
        Policy::Normal(Normal { largest: 2.0, ..normal }),
        Policy::Normal(Normal { layer_cap: 2.0, ..normal }),
        Policy::Normal(Normal { accumulated_cap: 2.0, ..normal }),
        Policy::Normal(Normal { accumulated_cap: 2.0_f32.next_up(), ..normal }),
        Policy::Normal(Normal { accumulated_cap: 4.0, ..normal }),
        Policy::Range(range),
        Policy::Range(Range { smallest: 2.0, ..range }),
        Policy::Range(Range { largest: 2.0, ..range }),
        Policy::Amax(AMAX),
        Policy::Amax(Amax { window: 17, ..AMAX }),
        Policy::Amax(Amax { window: 16 + 256, ..AMAX }),
        Policy::Amax(Amax { margin: 2, ..AMAX }),
        Policy::Measured(Measured { tolerance: Fraction::ZERO, ..measured }),
        Policy::Measured(Measured { tolerance: Fraction::from_bits(u32::MAX), ..measured }),
        Policy::Measured(Measured { most_headroom: 3, ..measured }),
    ];
    let mut configs = vec![
        base,
        base.with_period(11).expect("legal"),
        base.with_period(100 + (1 << 24)).expect("legal"),
        base.with_max_skips(33).expect("legal"),
        base.with_max_skips(32 + (1 << 24)).expect("legal"),
        base.with_rounding(Rounding::NearestEven, 1),
        base.with_rounding(Rounding::NearestEven, 1 << 24),
        base.with_rounding(Rounding::TowardZero, 0),
        base.with_rounding(Rounding::Stochastic, 0),
        base.with_overflow(Overflow::Saturate),
        base.with_recovery(Recovery::Skip),
    ];
    // The policy stays the same while the format changes.
    let policy = *base.policy();
    for encoding in Encoding::ALL {
        for subnormals in [Subnormals::Gradual, Subnormals::Flush] {
            let format = Format::new(encoding, subnormals);
            if format != FORMAT {
                let config = Config::for_format(format).with_overflow(Overflow::Infinity);
                configs.push(config.with_policy(policy).expect("legal"));
            }
        }
    }
    configs.extend(policies.map(|policy| base.with_policy(policy).expect("legal")));
    configs
}

#[test]
fn bytes_tell_any_two_configurations_apart() {
    let configs = neighbours();
    let mut seen = BTreeMap::new();
    for config in &configs {
        // Debug assertions are on here: a writer that runs over its length panics.
        if let Some(other) = seen.insert(config.to_bytes(), config) {
            panic!("the same bytes for {config:?} and {other:?}");
        }
        assert_eq!(config.to_bytes(), config.to_bytes());
        assert!(configs.iter().filter(|other| *other == config).count() == 1);
    }
    println!("config: {} configurations, each with bytes of its own", configs.len());
}

/// Every policy with every byte set: nothing is written beyond the end, which would be lost.
#[test]
fn the_longest_configurations_fit() {
    let loud = f64::from_bits(0x4010_0101_0101_0101);
    let backoff = Backoff {
        initial: loud,
        growth: loud,
        warm_up: loud,
        shrink: f64::from_bits(0x3fe0_0101_0101_0101),
        floor: loud,
        cap: loud,
        interval: u32::MAX,
    };
    let bytes = with(Policy::Backoff(backoff)).expect("legal").to_bytes();
    let end = bytes.iter().rposition(|&byte| byte != 0).expect("bytes") + 1;
    assert_eq!(bytes[end - 4..end], [0xff; 4], "the interval is last and whole");
    assert!(end <= Config::BYTES);
    let normal = Normal { layer_cap: f32::MAX, accumulated_cap: f32::MAX, ..normal() };
    let bytes = with(Policy::Normal(normal)).expect("legal").to_bytes();
    let end = bytes.iter().rposition(|&byte| byte != 0).expect("bytes") + 1;
    assert_eq!(bytes[end - 4..end], f32::MAX.to_le_bytes());
}

#[test]
fn defaults_are_the_documented_ones() {
    for format in formats() {
        let config = Config::for_format(format);
        let Policy::Measured(measured) = config.policy() else { panic!("measured") };
        assert_eq!(measured.tolerance, Fraction::new(1e-3).expect("a share"));
        assert_eq!((config.period(), config.recovery()), (100, Recovery::Replay));
        assert_eq!(config.narrowing().overflow, Overflow::Infinity);
        assert!(config.replays() && !config.with_recovery(Recovery::Skip).replays());
        assert!(!config.with_overflow(Overflow::Saturate).replays());
        assert!(!config.with_policy(Policy::Fixed(Scale::ONE)).expect("legal").replays());
        assert_eq!(config.narrowing().format, format);
        assert_eq!(config, Config::preset(Preset::Measured, format));
        assert_eq!(config.cell().scale(), Scale::ONE);
        let paper = Config::preset(Preset::Paper, format);
        assert_eq!((paper.period(), paper.recovery()), (1, Recovery::Skip));
        assert_eq!(paper.policy().name(), "normal");
    }
}

/// The real scale within its bounds, and the greatest power of two below it: each step by hand.
#[test]
fn backoff_by_hand() {
    let backoff =
        Backoff { initial: 6.0, cap: 40.0, floor: 1.5, interval: 2, ..Backoff::GRAD_SCALER };
    let config = with(Policy::Backoff(backoff)).expect("legal");
    let mut cell = config.cell();
    assert_eq!(cell.scale().log2(), 2);
    let mut scales = Vec::new();
    for usable in [1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0] {
        step(&config, usable == 1, &mut cell);
        scales.push(Growth::of(&cell).real_scale);
        assert_eq!(cell.scale().log2(), Growth::of(&cell).real_scale.log2().floor() as i32);
    }
    let expected = [
        6.0, 12.0, 12.0, 6.0, 6.0, 12.0, 12.0, 24.0, 24.0, 40.0, 40.0, 40.0, 20.0, 10.0, 5.0, 2.5,
        1.5, 1.5,
    ];
    assert_eq!(scales, expected);
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn a_fraction_of_a_count_is_rounded_down_once(bits: u32, count: u64) {
        let expected = (u128::from(count) * u128::from(bits)) >> 32;
        prop_assert_eq!(u128::from(Fraction::from_bits(bits).of(count)), expected);
    }

    #[test]
    fn a_fraction_is_never_above_its_share(share in 0.0..1.0_f64) {
        let fraction = Fraction::new(share).expect("a share");
        prop_assert!(fraction.to_f64() <= share);
        prop_assert!(share - fraction.to_f64() < 1.0 / 4_294_967_296.0);
        prop_assert_eq!(Fraction::from_bits(fraction.bits()), fraction);
    }
}
