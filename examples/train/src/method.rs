//! The methods and formats that are compared, by the names that reports use.

use std::{fmt, str::FromStr};

use adaloss_core::{
    format::Format,
    policy::{Amax, Backoff, Config, Normal, Policy, Range, Recovery},
    scale::Scale,
};
use anyhow::{Context, Result, bail};

/// A way to choose loss scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Everything in f32: the baseline.
    F32,
    /// No loss scaling: every scale is 2^0.
    None,
    /// One scale 2^K for every tensor.
    Fixed(i32),
    /// Dynamic loss scaling with PyTorch's defaults.
    Backoff,
    /// Delayed scaling with Transformer Engine's defaults and a margin of one binade.
    Amax,
    /// The paper's Gaussian model, without caps.
    Normal,
    /// The extremes of the products.
    Range,
    /// The exact histogram: ours.
    Measured,
}

impl Method {
    /// Returns the configuration of this method for gradients in a format.
    pub fn config(self, format: Format, period: u32) -> Result<Config> {
        let config = Config::for_format(format).with_period(period)?;
        // Methods that were never meant to replay skip the step instead.
        let plain = config.with_recovery(Recovery::Skip);
        Ok(match self {
            Self::F32 | Self::None => plain.with_policy(Policy::Fixed(Scale::ONE))?,
            Self::Fixed(log2) => plain.with_policy(Policy::Fixed(Scale::new(log2)?))?,
            Self::Backoff => plain.with_policy(Policy::Backoff(Backoff::GRAD_SCALER))?,
            Self::Amax => {
                config.with_policy(Policy::Amax(Amax { margin: 1, ..Amax::DELAYED_SCALING }))?
            }
            Self::Normal => config.with_policy(Policy::Normal(Normal::new(format, 1e-3)?))?,
            Self::Range => config.with_policy(Policy::Range(Range::new(format)))?,
            Self::Measured => config,
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.pad("f32"),
            Self::None => f.pad("none"),
            Self::Fixed(log2) => f.pad(&format!("fixed:{log2}")),
            Self::Backoff => f.pad("backoff"),
            Self::Amax => f.pad("amax"),
            Self::Normal => f.pad("normal"),
            Self::Range => f.pad("range"),
            Self::Measured => f.pad("measured"),
        }
    }
}

impl FromStr for Method {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "f32" => Self::F32,
            "none" => Self::None,
            "backoff" => Self::Backoff,
            "amax" => Self::Amax,
            "normal" => Self::Normal,
            "range" => Self::Range,
            "measured" => Self::Measured,
            _ => {
                let Some(log2) = name.strip_prefix("fixed:") else {
                    bail!(
                        "unknown method \"{name}\": one of f32, none, fixed:K, backoff, amax, \
                         normal, range, measured"
                    );
                };
                let log2 = log2
                    .parse()
                    .with_context(|| format!("the K of \"{name}\" is no whole number"))?;
                Scale::new(log2)?;
                Self::Fixed(log2)
            }
        })
    }
}

/// A format by its name in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormatName(pub Format);

impl FormatName {
    /// Every name, with its format.
    const TABLE: [(&'static str, Format); 7] = [
        ("binary16", Format::BINARY16),
        ("binary16-flushing", Format::BINARY16.flushing()),
        ("bfloat16", Format::BFLOAT16),
        ("bfloat16-flushing", Format::BFLOAT16.flushing()),
        ("e5m2", Format::E5M2),
        ("e4m3", Format::E4M3),
        ("f32", Format::BINARY32),
    ];

    /// Returns the format of activations and weights that goes with a gradient format: its own for
    /// 16 and 32 bits, binary16 for 8.
    pub fn forward(self) -> Self {
        if self.0.encoding.bits() == 8 { Self(Format::BINARY16) } else { self }
    }
}

impl fmt::Display for FormatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::TABLE.iter().find(|(_, format)| *format == self.0) {
            Some((name, _)) => f.pad(name),
            None => f.pad(&format!("{:?}", self.0)),
        }
    }
}

impl FromStr for FormatName {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::TABLE.iter().find(|(known, _)| *known == name);
        let (_, format) = found.with_context(|| {
            let names = Self::TABLE.map(|(name, _)| name).join(", ");
            format!("unknown format \"{name}\": one of {names}")
        })?;
        Ok(Self(*format))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let fixed = [-126, 0, 8, 126].map(Method::Fixed);
        let others = [Method::F32, Method::None, Method::Backoff, Method::Amax, Method::Normal];
        for method in fixed.into_iter().chain(others).chain([Method::Range, Method::Measured]) {
            assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
            assert!(method.config(Format::BINARY16, 10).is_ok());
        }
        for (name, format) in FormatName::TABLE {
            assert_eq!(name.parse::<FormatName>().unwrap().0, format);
            assert_eq!(FormatName(format).to_string(), name);
        }
    }

    #[test]
    fn impossible_configurations_are_errors() {
        for name in ["", "fixed", "fixed:", "fixed:x", "fixed:127", "fixed:-127", "Measured"] {
            assert!(name.parse::<Method>().is_err(), "{name} was taken for a method");
        }
        assert!("fp16".parse::<FormatName>().is_err());
        assert!(Method::Measured.config(Format::E4M3, 0).is_err());
    }
}
