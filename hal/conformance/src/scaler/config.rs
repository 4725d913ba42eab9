//! Configurations of a scaler that the suite checks.

use adaloss_core::{
    format::{Format, Overflow, Rounding},
    policy::{Amax, Backoff, Config, ConfigError, Fraction, Measured, Policy, Preset, Recovery},
    scale::Scale,
};

/// One configuration per policy, and the ones that change what a policy sees.
///
/// No parameter is out of range; were one, its configuration would be left out.
pub(super) fn configurations(format: Format) -> impl Iterator<Item = Config> {
    let configs = all_configurations(format);
    debug_assert!(configs.iter().all(Result::is_ok));
    configs.into_iter().flatten()
}

fn all_configurations(format: Format) -> [Result<Config, ConfigError>; 13] {
    let measured = Config::for_format(format);
    let paper = Config::preset(Preset::Paper, format);
    let little_headroom = || {
        let tolerance = Fraction::new(0.25)?;
        measured.with_policy(Policy::Measured(Measured { tolerance, most_headroom: 1 }))
    };
    let amax = |window, margin| {
        measured.with_policy(Policy::Amax(Amax { window, margin }))?.with_period(1)
    };
    [
        Ok(measured),
        measured.with_period(3),
        Ok(measured.with_overflow(Overflow::Saturate)),
        measured.with_recovery(Recovery::Skip).with_period(Config::NEVER),
        little_headroom(),
        Ok(measured.with_rounding(Rounding::TowardZero, 0)),
        Ok(measured.with_rounding(Rounding::Stochastic, 7)),
        amax(5, 1),
        amax(64, 0),
        measured.with_policy(Policy::Fixed(Scale::saturating(5))),
        measured.with_policy(Policy::Backoff(Backoff::GRAD_SCALER)),
        Ok(paper),
        paper.with_recovery(Recovery::Replay).with_period(5),
    ]
}
