//! The methods and formats that are compared, by the names that reports use.

use std::{fmt, str::FromStr};

use adaloss_core::{
    format::{Encoding, Format, Overflow, Subnormals},
    policy::{Amax, Backoff, Config, Policy, Recovery},
    scale::Scale,
};
use anyhow::{Context, Result, bail};

use crate::blocks::Blocks;

/// A way to choose loss scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Everything in f32: the baseline.
    F32,
    /// No loss scaling: every scale is 2^0.
    None,
    /// One scale 2^K for every tensor.
    Fixed(i32),
    /// Dynamic loss scaling with PyTorch's defaults, but for the steps between two growths.
    Backoff(u32),
    /// The same in 8 bits, skipping a step in which something overflowed, as PyTorch does, instead of saturating.
    BackoffSkipping,
    /// A scaler for each loss, as [`Backoff`](Self::Backoff), and a backward pass for each: where there is one loss, the
    /// same as that.
    BackoffPerLoss(u32),
    /// A shared scale in each block of 32 elements, as OCP Microscaling has it: see [`Blocks`].
    Mx,
    /// Delayed scaling, replaying what overflows.
    Amax {
        /// Steps that a maximum is remembered.
        window: u16,
        /// Binades left free.
        margin: u8,
    },
    /// Any other policy of the library, by its name, with the parameters that are usual: see [`Policy::named`].
    Usual(&'static str),
}

impl Method {
    /// Dynamic loss scaling with PyTorch's defaults: it grows after 2,000 clean steps.
    pub const BACKOFF: Self = Self::Backoff(Backoff::GRAD_SCALER.interval);
    /// The same for each loss.
    pub const BACKOFF_PER_LOSS: Self = Self::BackoffPerLoss(Backoff::GRAD_SCALER.interval);
    /// Delayed scaling with Transformer Engine's defaults: a window of 1,024 steps, no margin.
    pub const AMAX: Self = {
        let Amax { window, margin } = Amax::DELAYED_SCALING;
        Self::Amax { window, margin }
    };
    /// The paper's Gaussian model, without caps.
    pub const NORMAL: Self = Self::Usual("normal");
    /// The extremes of the products.
    pub const RANGE: Self = Self::Usual("range");
    /// The largest magnitudes of a tensor's last steps: ours.
    pub const MEASURED: Self = Self::Usual("measured");

    /// The methods that are more than a policy of the library by its name.
    const NAMES: [&str; 11] = [
        "f32",
        "none",
        "fixed:K",
        "backoff",
        "backoff:INTERVAL",
        "backoff-skip",
        "backoff-per-loss",
        "backoff-per-loss:INTERVAL",
        "mx",
        "amax",
        "amax:WINDOW:MARGIN",
    ];

    /// Returns the names of policies that need no parameters.
    fn usual() -> impl Iterator<Item = &'static str> {
        let has_parameters = |name| Policy::named(name, Format::BINARY16).is_some();
        Policy::NAMES.into_iter().filter(move |name| has_parameters(name))
    }

    /// Returns the period that is taken where none is asked for: a hundred steps from one certificate to
    /// the next, or ten visits from one decision to the next.
    pub fn usual_period(self) -> u32 {
        if self.decides_by_period() { 10 } else { 100 }
    }

    /// Tells whether a period lies between two decisions; it lies between two certificates of other
    /// methods that leave any, and moves no scale of theirs.
    pub fn decides_by_period(self) -> bool {
        match self {
            Self::Usual(name) => {
                Policy::named(name, Format::BINARY16).is_some_and(|policy| policy.wants_operands())
            }
            _ => false,
        }
    }

    /// Tells whether each loss has a scaler of its own.
    pub const fn is_per_loss(self) -> bool {
        matches!(self, Self::BackoffPerLoss(_))
    }

    /// Returns how gradients are rounded in blocks, by a method that does.
    ///
    /// # Errors
    ///
    /// There are no blocks of this format.
    pub fn blocks(self, format: Format) -> Result<Option<Blocks>> {
        if self == Self::Mx { Blocks::of(format).map(Some) } else { Ok(None) }
    }

    /// Tells whether the method is one for gradients in a format.
    pub fn is_for(self, format: FormatName) -> bool {
        let has_8_bits = format.0.encoding.bits() == 8;
        self.blocks(format.0).is_ok() && (has_8_bits || self != Self::BackoffSkipping)
    }

    /// Returns what gradients in a format are held in: f32 where blocks of it are simulated.
    pub const fn held(self, format: Format) -> Encoding {
        if matches!(self, Self::Mx) { Encoding::Binary32 } else { format.encoding }
    }

    /// Returns the configuration of this method for gradients in a format.
    ///
    /// # Errors
    ///
    /// The method has none for this format, or none with this period.
    pub fn config(self, format: Format, period: u32) -> Result<Config> {
        let format = match self.blocks(format)? {
            Some(_) => Format::BINARY32,
            None => format,
        };
        let config = Config::for_format(format).with_period(period)?;
        // Methods that were never meant to replay skip the step instead, and saturate in 8 bits.
        let mut plain = config.with_recovery(Recovery::Skip);
        if format.encoding.bits() == 8 && self != Self::BackoffSkipping {
            plain = plain.with_overflow(Overflow::Saturate);
        }
        // It gives up on no run, as PyTorch's does not.
        let backoff = |interval| {
            let policy = Policy::Backoff(Backoff { interval, ..Backoff::GRAD_SCALER });
            plain.with_policy(policy)?.with_max_skips(u32::MAX)
        };
        Ok(match self {
            Self::F32 | Self::None | Self::Mx => plain.with_policy(Policy::Fixed(Scale::ONE))?,
            Self::Fixed(log2) => plain.with_policy(Policy::Fixed(Scale::new(log2)?))?,
            Self::Backoff(interval) | Self::BackoffPerLoss(interval) => backoff(interval)?,
            Self::BackoffSkipping => backoff(Backoff::GRAD_SCALER.interval)?,
            Self::Amax { window, margin } => {
                config.with_policy(Policy::Amax(Amax { window, margin }))?
            }
            Self::Usual(name) => {
                let policy = Policy::named(name, format);
                config.with_policy(policy.with_context(|| format!("no policy \"{name}\""))?)?
            }
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::F32 => f.pad("f32"),
            Self::None => f.pad("none"),
            Self::Fixed(log2) => f.pad(&format!("fixed:{log2}")),
            Self::BACKOFF => f.pad("backoff"),
            Self::Backoff(interval) => f.pad(&format!("backoff:{interval}")),
            Self::BackoffSkipping => f.pad("backoff-skip"),
            Self::BACKOFF_PER_LOSS => f.pad("backoff-per-loss"),
            Self::BackoffPerLoss(interval) => f.pad(&format!("backoff-per-loss:{interval}")),
            Self::Mx => f.pad("mx"),
            Self::AMAX => f.pad("amax"),
            Self::Amax { window, margin } => f.pad(&format!("amax:{window}:{margin}")),
            Self::Usual(name) => f.pad(name),
        }
    }
}

impl FromStr for Method {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "f32" => Self::F32,
            "none" => Self::None,
            "backoff" => Self::BACKOFF,
            "backoff-skip" => Self::BackoffSkipping,
            "backoff-per-loss" => Self::BACKOFF_PER_LOSS,
            "mx" => Self::Mx,
            "amax" => Self::AMAX,
            _ if let Some(name) = Self::usual().find(|&usual| usual == name) => Self::Usual(name),
            _ => {
                let number = |text: &str, what: &str| {
                    text.parse::<i32>()
                        .with_context(|| format!("the {what} of \"{name}\" is no whole number"))
                };
                let method = match *name.split(':').collect::<Vec<_>>() {
                    ["fixed", log2] => Self::Fixed(Scale::new(number(log2, "K")?)?.log2()),
                    ["backoff", interval] => {
                        Self::Backoff(number(interval, "interval")?.try_into().unwrap_or(0))
                    }
                    ["backoff-per-loss", interval] => {
                        Self::BackoffPerLoss(number(interval, "interval")?.try_into().unwrap_or(0))
                    }
                    ["amax", window, margin] => Self::Amax {
                        window: number(window, "window")?.try_into().unwrap_or(0),
                        margin: number(margin, "margin")?.try_into().unwrap_or(u8::MAX),
                    },
                    _ => {
                        let usual = Self::usual().filter(|name| !Self::NAMES.contains(name));
                        let names: Vec<_> = Self::NAMES.into_iter().chain(usual).collect();
                        bail!("unknown method \"{name}\": one of {}", names.join(", "))
                    }
                };
                method.config(Format::BINARY16, 1).with_context(|| format!("\"{name}\""))?;
                method
            }
        })
    }
}

/// A format by its name in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormatName(pub Format);

impl FormatName {
    /// Every format that has a name: each encoding, and those of 16 bits with flushing too.
    fn all() -> impl Iterator<Item = Self> {
        Encoding::ALL.into_iter().flat_map(|encoding| {
            let format = Format::from(encoding);
            let flushing = (encoding.bits() == 16).then(|| format.flushing());
            [Some(format), flushing].into_iter().flatten().map(Self)
        })
    }

    /// Returns the format of activations and weights that goes with a gradient format: its own for
    /// 16 and 32 bits, binary16 for 8.
    pub fn forward(self) -> Self {
        if self.0.encoding.bits() == 8 { Self(Format::BINARY16) } else { self }
    }
}

impl fmt::Display for FormatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoding = self.0.encoding;
        // binary32 is f32, as the method that is the baseline.
        let name = if encoding.bits() == 16 { encoding.name() } else { encoding.short_name() };
        match self.0.subnormals {
            Subnormals::Gradual => f.pad(name),
            Subnormals::Flush => f.pad(&format!("{name}-flushing")),
        }
    }
}

impl FromStr for FormatName {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::all().find(|known| known.to_string() == name).with_context(|| {
            let names: Vec<_> = Self::all().map(|known| known.to_string()).collect();
            format!("unknown format \"{name}\": one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let fixed = [-126, 0, 8, 126].map(Method::Fixed);
        let others = [Method::F32, Method::None, Method::BACKOFF, Method::AMAX, Method::NORMAL];
        let given = [
            Method::Backoff(10),
            Method::BackoffSkipping,
            Method::BACKOFF_PER_LOSS,
            Method::BackoffPerLoss(10),
            Method::Amax { window: 16, margin: 1 },
            Method::RANGE,
            Method::MEASURED,
        ];
        for method in fixed.into_iter().chain(others).chain(given) {
            assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
            assert!(method.config(Format::BINARY16, 10).is_ok());
        }
        let names = [
            ("binary16", Format::BINARY16),
            ("binary16-flushing", Format::BINARY16.flushing()),
            ("bfloat16", Format::BFLOAT16),
            ("bfloat16-flushing", Format::BFLOAT16.flushing()),
            ("e5m2", Format::E5M2),
            ("e4m3", Format::E4M3),
            ("f32", Format::BINARY32),
        ];
        for (name, format) in names {
            assert_eq!(name.parse::<FormatName>().unwrap().0, format);
            assert_eq!(FormatName(format).to_string(), name);
        }
        assert!("e4m3-flushing".parse::<FormatName>().is_err());
    }

    /// A policy of the library is a method without a word here; who asks for one that is none is told of them all.
    #[test]
    fn every_policy_is_a_method() {
        let unknown = "no-such".parse::<Method>().unwrap_err().to_string();
        for name in Policy::NAMES {
            let spelled = if name == "fixed" { "fixed:0" } else { name };
            let config = spelled.parse::<Method>().unwrap().config(Format::E5M2, 10).unwrap();
            assert_eq!(config.policy().name(), name);
            assert!(unknown.contains(&format!(" {name}")), "{unknown}");
        }
        assert!(Method::Usual("fixed").config(Format::E5M2, 10).is_err());
    }

    #[test]
    fn what_overflows_saturates_in_8_bits_or_is_replayed() {
        let (decide, others) = (
            [Method::NORMAL, Method::RANGE, Method::AMAX, Method::MEASURED],
            [Method::None, Method::Fixed(8), Method::BACKOFF, Method::BACKOFF_PER_LOSS],
        );
        for name in FormatName::all() {
            let format = name.0;
            for method in decide {
                assert!(method.config(format, 1).unwrap().replays(), "{method} in {name}");
            }
            for method in others {
                let overflow = method.config(format, 1).unwrap().narrowing().overflow;
                let expected = match format.encoding.bits() {
                    8 => Overflow::Saturate,
                    _ => Overflow::Infinity,
                };
                assert_eq!(overflow, expected, "{method} in {name}");
            }
            let skipping = Method::BackoffSkipping.config(format, 1).unwrap();
            assert_eq!(skipping.narrowing().overflow, Overflow::Infinity, "{name}");
            assert_eq!(Method::BackoffSkipping.is_for(name), format.encoding.bits() == 8);
        }
    }

    #[test]
    fn methods_that_decide_by_the_period_have_a_short_one() {
        let periods = [Method::NORMAL, Method::RANGE, Method::MEASURED, Method::AMAX]
            .map(Method::usual_period);
        assert_eq!(periods, [10, 10, 100, 100]);
        let recommended = Config::for_format(Format::BINARY16);
        assert_eq!(Method::MEASURED.config(Format::BINARY16, 100).unwrap(), recommended);
    }

    /// Blocks are simulated in f32, where nothing is scaled and an infinity stays visible.
    #[test]
    fn mx_is_for_elements_of_8_bits() {
        assert_eq!("mx".parse::<Method>().unwrap(), Method::Mx);
        assert_eq!(Method::Mx.to_string(), "mx");
        for name in FormatName::all() {
            let format = name.0;
            let has_blocks = format == Format::E5M2 || format == Format::E4M3;
            assert_eq!(Method::Mx.config(format, 1).is_ok(), has_blocks, "{name}");
            assert_eq!(Method::Mx.blocks(format).is_ok(), has_blocks, "{name}");
            assert_eq!(Method::MEASURED.held(format), format.encoding);
        }
        let config = Method::Mx.config(Format::E4M3, 1).unwrap();
        assert_eq!(config, Method::F32.config(Format::BINARY32, 1).unwrap());
        assert_eq!(Method::Mx.held(Format::E4M3), Encoding::Binary32);
    }

    #[test]
    fn impossible_configurations_are_errors() {
        for name in [
            "",
            "fixed",
            "fixed:",
            "fixed:x",
            "fixed:127",
            "fixed:-127",
            "Measured",
            "backoff:0",
            "backoff:-1",
            "backoff-per-loss:0",
            "backoff-per-loss:1:1",
            "mx:32",
            "amax:0:0",
            "amax:16",
            "amax:16:17",
            "amax:70000:0",
            "amax:16:1:1",
        ] {
            assert!(name.parse::<Method>().is_err(), "{name} was taken for a method");
        }
        assert!("fp16".parse::<FormatName>().is_err());
        assert!(Method::MEASURED.config(Format::E4M3, 0).is_err());
    }
}
