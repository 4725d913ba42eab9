//! The ways that are compared.

use std::fmt;

use adaloss_core::{
    format::{Format, Overflow},
    policy::{Config, Policy},
    scale::Scale,
};
use anyhow::Result;
use clap::ValueEnum;

/// One of the ways that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The whole network in f32: what is aimed at.
    Exact,
    /// The network in binary16.
    Low {
        /// What gradients are kept in.
        gradients: Gradients,
        /// How they are scaled.
        scaling: Scaling,
    },
}

/// The format of gradients between two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Gradients {
    /// What a network in binary16 keeps them in by itself.
    Binary16,
    /// Simulated: every number of it is one of binary16.
    E5m2,
    /// Simulated: every number of it is one of binary16.
    E4m3,
}

/// How gradients are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// None.
    None,
    /// One power of two.
    Fixed(i32),
    /// A scale per layer.
    Adaptive,
}

impl Gradients {
    const fn format(self) -> Format {
        match self {
            Self::Binary16 => Format::BINARY16,
            Self::E5m2 => Format::E5M2,
            Self::E4m3 => Format::E4M3,
        }
    }
}

impl Scaling {
    /// Returns the base-2 logarithm of the one scale.
    const fn log2(self) -> Option<i32> {
        match self {
            Self::None => Some(0),
            Self::Fixed(log2) => Some(log2),
            Self::Adaptive => None,
        }
    }
}

impl Mode {
    /// Returns how the scaler is set up; there is none where the framework alone does what is asked
    /// for.
    ///
    /// # Errors
    ///
    /// The fixed scale is out of range.
    pub fn config(self) -> Result<Option<Config>> {
        let Self::Low { gradients, scaling } = self else { return Ok(None) };
        let config = Config::for_format(gradients.format());
        match scaling.log2() {
            None => Ok(Some(config)),
            Some(_) if gradients == Gradients::Binary16 => Ok(None),
            Some(log2) => {
                // What does not adapt is not replayed either: it saturates.
                let config = config.with_overflow(Overflow::Saturate);
                Ok(Some(config.with_policy(Policy::Fixed(Scale::new(log2)?))?))
            }
        }
    }

    /// Returns the factor of the loss where the framework goes backward alone.
    pub fn factor(self) -> f64 {
        match self {
            Self::Low { scaling, .. } => 2.0_f64.powi(scaling.log2().unwrap_or(0)),
            Self::Exact => 1.0,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Low { gradients, scaling } = self else { return f.write_str("f32") };
        match gradients {
            Gradients::Binary16 => f.write_str("binary16, ")?,
            Gradients::E5m2 => f.write_str("E5M2, ")?,
            Gradients::E4m3 => f.write_str("E4M3, ")?,
        }
        match scaling {
            Scaling::None => f.write_str("no scaling"),
            Scaling::Fixed(log2) => write!(f, "fixed 2^{log2}"),
            Scaling::Adaptive => f.write_str("adaptive"),
        }
    }
}
