//! Configurations: every policy with parameters that make each of its rules matter.

use adaloss_core::{
    format::{Encoding, Format, Rounding},
    policy::{Amax, Backoff, Config, Fraction, Measured, Normal, Policy, Range, Recovery},
};
use adaloss_hal::Capabilities;
use arbitrary::{Result, Unstructured};

use crate::input;

/// Any configuration that is legal; parameters that are not have to be refused, and are replaced.
pub(crate) fn config(u: &mut Unstructured<'_>, capabilities: Capabilities) -> Result<Config> {
    let encoding = input::encoding(u)?;
    config_for(u, encoding, capabilities)
}

/// The same for gradients in one encoding.
pub(crate) fn config_for(
    u: &mut Unstructured<'_>,
    encoding: Encoding,
    capabilities: Capabilities,
) -> Result<Config> {
    let narrowing = input::narrowing(u, encoding, capabilities)?;
    let recommended = Config::for_format(narrowing.format)
        .with_rounding(narrowing.rounding, u.arbitrary()?)
        .with_overflow(narrowing.overflow)
        .with_recovery(*u.choose(&[Recovery::Replay, Recovery::Replay, Recovery::Skip])?);
    let period = if u.ratio(1, 5)? { Config::NEVER } else { u.int_in_range(1..=9)? };
    let recommended = legal(recommended.with_period(period));
    let recommended = legal(recommended.with_max_skips(u.int_in_range(1..=4)?));
    let policy = policy(u, narrowing.format)?;
    Ok(recommended.with_policy(policy).unwrap_or(recommended))
}

/// The same with a rounding whose outcome the counts know exactly.
pub(crate) fn counted(config: Config) -> Config {
    match config.narrowing().rounding {
        Rounding::Stochastic => config.with_rounding(Rounding::NearestEven, config.seed()),
        Rounding::NearestEven | Rounding::TowardZero => config,
    }
}

fn legal<E: std::fmt::Display>(config: std::result::Result<Config, E>) -> Config {
    config.unwrap_or_else(|error| panic!("a legal parameter was refused: {error}"))
}

fn policy(u: &mut Unstructured<'_>, format: Format) -> Result<Policy> {
    Ok(match u.int_in_range(0..=8)? {
        0 => Policy::Fixed(input::scale(u)?),
        1 => Policy::Backoff(backoff(u)?),
        2 => Policy::Normal(normal(u, format)?),
        3 => Policy::Range(range(u, format)?),
        4 | 5 => Policy::Amax(Amax { window: amax_window(u)?, margin: u.int_in_range(0..=18)? }),
        _ => Policy::Measured(measured(u, format)?),
    })
}

fn measured(u: &mut Unstructured<'_>, format: Format) -> Result<Measured> {
    if u.arbitrary()? {
        return Ok(Measured::for_format(format));
    }
    let mut share = |usual: &[u32]| -> Result<Fraction> {
        let bits = if u.arbitrary()? { u.arbitrary()? } else { *u.choose(usual)? };
        Ok(Fraction::from_bits(bits))
    };
    Ok(Measured {
        tolerance: share(&[0, 4_294_967, 42_949_673, 1 << 30])?,
        most_headroom: u.int_in_range(0..=18)?,
    })
}

fn amax_window(u: &mut Unstructured<'_>) -> Result<u16> {
    if u.arbitrary()? { u.int_in_range(0..=12) } else { u.arbitrary() }
}

fn backoff(u: &mut Unstructured<'_>) -> Result<Backoff> {
    let usual = if u.arbitrary()? {
        Backoff::GRAD_SCALER
    } else {
        Backoff::chainer(u.int_in_range(1..=9)?).unwrap_or(Backoff::GRAD_SCALER)
    };
    let mut factor = |usual: f64| -> Result<f64> {
        Ok(match u.int_in_range(0..=7)? {
            0 => f64::from_bits(u.arbitrary()?),
            1 => f64::from(u.arbitrary::<u16>()?) / 256.0,
            2 => f64::from(input::scale(u)?.factor()),
            _ => usual,
        })
    };
    Ok(Backoff {
        initial: factor(usual.initial)?,
        growth: factor(usual.growth)?,
        warm_up: factor(usual.warm_up)?,
        shrink: factor(usual.shrink)?,
        floor: factor(usual.floor)?,
        cap: factor(usual.cap)?,
        interval: u.int_in_range(0..=5)?,
    })
}

fn normal(u: &mut Unstructured<'_>, format: Format) -> Result<Normal> {
    let model = if u.arbitrary()? { Normal::paper(format) } else { legal_model(u, format)? };
    let mut real = |usual: f32| -> Result<f32> {
        Ok(if u.ratio(1, 6)? { input::value(u, format)? } else { usual })
    };
    Ok(Normal {
        smallest: real(model.smallest)?,
        largest: real(model.largest)?,
        layer_cap: real(model.layer_cap)?,
        accumulated_cap: real(model.accumulated_cap)?,
        ..model
    })
}

/// The model of any share; one that is none is refused.
fn legal_model(u: &mut Unstructured<'_>, format: Format) -> Result<Normal> {
    let share = match u.int_in_range(0..=2)? {
        0 => f64::from_bits(u.arbitrary()?),
        _ => f64::from(u.arbitrary::<u16>()?) / 65536.0,
    };
    match Normal::new(format, share) {
        Ok(model) => {
            assert!(share > 0.0 && share < 1.0, "{share} is no share");
            Ok(model)
        }
        Err(_) => {
            assert!(!(share > 0.0 && share < 1.0), "{share} is a share");
            Ok(Normal::paper(format))
        }
    }
}

fn range(u: &mut Unstructured<'_>, format: Format) -> Result<Range> {
    let usual = Range::new(format);
    Ok(match u.int_in_range(0..=3)? {
        0 => Range { smallest: input::value(u, format)?, largest: input::value(u, format)? },
        _ => usual,
    })
}
