//! Configurations: plain structures in C, checked at every use.

use core::fmt;

use adaloss_core::policy::{
    Amax, Backoff, Config, Fraction, Measured, Normal, Policy, Preset, Range, Recovery,
};

use crate::{
    ADALOSS_ERROR_ENUM, ADALOSS_ERROR_POLICY, adaloss_code, adaloss_format, adaloss_narrowing,
    code::{Refused, code},
    memory::{Place, any_bytes, shared},
    scale,
};

/// Parameters of `backoff`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct adaloss_backoff {
    pub initial: f64,
    pub growth: f64,
    pub warm_up: f64,
    pub shrink: f64,
    pub floor: f64,
    pub cap: f64,
    pub interval: u32,
    pub reserved: u32,
}

/// Parameters of `normal`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct adaloss_normal {
    pub gaussian_factor: f64,
    pub log_normal_factor: f64,
    pub smallest: f32,
    pub largest: f32,
    pub layer_cap: f32,
    pub accumulated_cap: f32,
}

/// Parameters of `range`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct adaloss_range {
    pub smallest: f32,
    pub largest: f32,
}

/// Parameters of `amax`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_amax {
    pub window: u16,
    pub margin: u8,
    pub reserved: u8,
}

/// Parameters of `measured`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_measured {
    pub tolerance: u32,
    pub most_headroom: u8,
    pub reserved: [u8; 3],
}

/// The parameters of the configured policy.
#[derive(Clone, Copy)]
#[repr(C)]
pub union adaloss_parameters {
    pub fixed_log2: i32,
    pub backoff: adaloss_backoff,
    pub normal: adaloss_normal,
    pub range: adaloss_range,
    pub amax: adaloss_amax,
    pub measured: adaloss_measured,
}

/// Everything that decides which scales a run uses.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct adaloss_config {
    pub policy: u32,
    pub narrowing: adaloss_narrowing,
    pub period: u32,
    pub max_skips: u32,
    pub seed: u32,
    pub recovery: u32,
    pub parameters: adaloss_parameters,
}

any_bytes! {
    adaloss_backoff, adaloss_normal, adaloss_range, adaloss_amax, adaloss_measured, adaloss_config,
}

impl fmt::Debug for adaloss_parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters of the policy")
    }
}

impl adaloss_parameters {
    /// All bytes zero, before the parameters of one policy are put in.
    const NONE: Self = Self {
        backoff: adaloss_backoff {
            initial: 0.0,
            growth: 0.0,
            warm_up: 0.0,
            shrink: 0.0,
            floor: 0.0,
            cap: 0.0,
            interval: 0,
            reserved: 0,
        },
    };
}

impl From<Backoff> for adaloss_backoff {
    fn from(backoff: Backoff) -> Self {
        let Backoff { initial, growth, warm_up, shrink, floor, cap, interval } = backoff;
        Self { initial, growth, warm_up, shrink, floor, cap, interval, reserved: 0 }
    }
}

impl From<adaloss_backoff> for Backoff {
    fn from(backoff: adaloss_backoff) -> Self {
        let adaloss_backoff { initial, growth, warm_up, shrink, floor, cap, interval, .. } =
            backoff;
        Self { initial, growth, warm_up, shrink, floor, cap, interval }
    }
}

impl From<Normal> for adaloss_normal {
    fn from(normal: Normal) -> Self {
        Self {
            gaussian_factor: normal.gaussian_factor,
            log_normal_factor: normal.log_normal_factor,
            smallest: normal.smallest,
            largest: normal.largest,
            layer_cap: normal.layer_cap,
            accumulated_cap: normal.accumulated_cap,
        }
    }
}

impl From<adaloss_normal> for Normal {
    fn from(normal: adaloss_normal) -> Self {
        Self {
            gaussian_factor: normal.gaussian_factor,
            log_normal_factor: normal.log_normal_factor,
            smallest: normal.smallest,
            largest: normal.largest,
            layer_cap: normal.layer_cap,
            accumulated_cap: normal.accumulated_cap,
        }
    }
}

impl From<Range> for adaloss_range {
    fn from(range: Range) -> Self {
        Self { smallest: range.smallest, largest: range.largest }
    }
}

impl From<adaloss_range> for Range {
    fn from(range: adaloss_range) -> Self {
        Self { smallest: range.smallest, largest: range.largest }
    }
}

impl From<Amax> for adaloss_amax {
    fn from(amax: Amax) -> Self {
        Self { window: amax.window, margin: amax.margin, reserved: 0 }
    }
}

impl From<adaloss_amax> for Amax {
    fn from(amax: adaloss_amax) -> Self {
        Self { window: amax.window, margin: amax.margin }
    }
}

impl From<Measured> for adaloss_measured {
    fn from(measured: Measured) -> Self {
        let Measured { tolerance, most_headroom } = measured;
        Self { tolerance: tolerance.bits(), most_headroom, reserved: [0; 3] }
    }
}

impl From<adaloss_measured> for Measured {
    fn from(measured: adaloss_measured) -> Self {
        let adaloss_measured { tolerance, most_headroom, .. } = measured;
        Self { tolerance: Fraction::from_bits(tolerance), most_headroom }
    }
}

impl adaloss_config {
    /// Reads a configuration; one that is impossible has no counterpart in core.
    pub(crate) fn parse(&self) -> Result<Config, Refused> {
        let narrowing = self.narrowing.parse()?;
        let recovery = match self.recovery {
            0 => Recovery::Skip,
            1 => Recovery::Replay,
            _ => return Err(Refused(ADALOSS_ERROR_ENUM)),
        };
        let config = Config::for_format(narrowing.format)
            .with_policy(self.policy()?)?
            .with_period(self.period)?
            .with_max_skips(self.max_skips)?
            .with_rounding(narrowing.rounding, self.seed)
            .with_overflow(narrowing.overflow)
            .with_recovery(recovery);
        Ok(config)
    }

    fn policy(&self) -> Result<Policy, Refused> {
        let parameters = &self.parameters;
        // SAFETY: any bytes are legal values of every field of the union, and the union is as large
        // as its largest.
        unsafe {
            Ok(match self.policy {
                0 => Policy::Fixed(scale::parse(parameters.fixed_log2)?),
                1 => Policy::Backoff(parameters.backoff.into()),
                2 => Policy::Normal(parameters.normal.into()),
                3 => Policy::Range(parameters.range.into()),
                4 => Policy::Amax(parameters.amax.into()),
                5 => Policy::Measured(parameters.measured.into()),
                _ => return Err(Refused(ADALOSS_ERROR_POLICY)),
            })
        }
    }
}

impl From<Config> for adaloss_config {
    fn from(config: Config) -> Self {
        let mut parameters = adaloss_parameters::NONE;
        match *config.policy() {
            Policy::Fixed(scale) => parameters.fixed_log2 = scale.log2(),
            Policy::Backoff(backoff) => parameters.backoff = backoff.into(),
            Policy::Normal(normal) => parameters.normal = normal.into(),
            Policy::Range(range) => parameters.range = range.into(),
            Policy::Amax(amax) => parameters.amax = amax.into(),
            Policy::Measured(measured) => parameters.measured = measured.into(),
        }
        Self {
            policy: config.policy().number().into(),
            narrowing: config.narrowing().into(),
            period: config.period(),
            max_skips: config.max_skips(),
            seed: config.seed(),
            recovery: config.recovery() as u32,
            parameters,
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_recommended(
    format: adaloss_format,
    config: *mut adaloss_config,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(config) }?;
        place.set(Config::for_format(format.parse()?).into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_paper(
    format: adaloss_format,
    config: *mut adaloss_config,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(config) }?;
        place.set(Config::preset(Preset::Paper, format.parse()?).into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_grad_scaler(backoff: *mut adaloss_backoff) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(backoff) }?;
        place.set(Backoff::GRAD_SCALER.into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_chainer(
    interval: u32,
    backoff: *mut adaloss_backoff,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(backoff) }?;
        place.set(Backoff::chainer(interval)?.into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_normal(
    format: adaloss_format,
    tolerance: f64,
    normal: *mut adaloss_normal,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(normal) }?;
        place.set(Normal::new(format.parse()?, tolerance)?.into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_range(
    format: adaloss_format,
    range: *mut adaloss_range,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(range) }?;
        place.set(Range::new(format.parse()?).into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_check(config: *const adaloss_config) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a configuration.
        unsafe { shared(config) }?.parse().map(drop)
    })
}
