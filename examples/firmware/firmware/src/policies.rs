//! The configurations that layers are walked with.

use adaloss_core::{
    format::{Encoding, Format, Subnormals},
    policy::{Amax, Backoff, Config, Normal, Policy, Range},
    scale::Scale,
};

/// The format of the accelerator.
const FORMAT: Format = Format::new(Encoding::Binary16, Subnormals::Flush);

/// The policies by name.
pub const POLICIES: [&str; 6] = ["fixed", "backoff", "normal", "range", "amax", "measured"];

/// Returns the configuration of a policy, if there is one of that name.
pub fn config(name: &str) -> Option<Config> {
    // Often, so that a walk of two hundred steps has many certificates, and decisions of `range`.
    let frequent = Config::for_format(FORMAT).with_period(10).ok()?;
    let with = |policy| frequent.with_policy(policy).ok();
    match name {
        "fixed" => with(Policy::Fixed(Scale::saturating(8))),
        "backoff" => with(Policy::Backoff(Backoff { interval: 20, ..Backoff::GRAD_SCALER })),
        // At every visit, as the authors do.
        "normal" => with(Policy::Normal(NORMAL))?.with_period(1).ok(),
        "range" => with(Policy::Range(Range::new(FORMAT))),
        "amax" => with(Policy::Amax(Amax { window: 12, margin: 1 })),
        "measured" => Some(frequent),
        _ => None,
    }
}

/// `normal` as a host configures it for firmware: the quantiles of the model are numbers here, so
/// that no inverse error function is linked.
const NORMAL: Normal = Normal {
    gaussian_factor: GAUSSIAN,
    log_normal_factor: LOG_NORMAL,
    smallest: 6.103_515_6e-5,
    largest: 65504.0,
    layer_cap: 16.0,
    accumulated_cap: 1024.0,
};

/// `sqrt(2) erfinv(0.001)`.
const GAUSSIAN: f64 = 1.253_314_465_432_554_9e-3;
/// `sqrt(2) erfinv(0.002 - 1)`, the inverse rounded to f32 as in the authors' code.
const LOG_NORMAL: f64 = -3.090_232_220_927_857;

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn what_the_host_configured_is_what_the_library_computes() {
        let computed = Normal::paper(FORMAT);
        assert_eq!(NORMAL, computed);
    }

    #[test]
    fn every_policy_has_a_configuration_of_its_name() {
        for name in POLICIES {
            assert_eq!(config(name).unwrap().policy().name(), name);
        }
        assert_eq!(config("mesured"), None);
    }
}
