//! One network that learns, in one of the ways that are compared.

use std::fmt;

use adaloss_burn::{Backward, Scaler};
use adaloss_core::{
    format::Format,
    policy::{Config, Policy},
    scale::Scale,
};
use anyhow::{Result, bail};
use burn::{
    module::{Module, ModuleVisitor, Param},
    nn::loss::CrossEntropyLossConfig,
    optim::{AdamWConfig, GradientsParams, ModuleOptimizer},
    tensor::{DType, Device, Tensor},
};
use clap::ValueEnum;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{data::Batch, model::Net};

/// One of the ways that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
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
pub(crate) enum Gradients {
    /// What burn itself keeps them in.
    Binary16,
    /// Simulated: every number of it is one of binary16.
    E5m2,
    /// Simulated: every number of it is one of binary16.
    E4m3,
}

/// How gradients are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scaling {
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
    /// Returns how the scaler is set up; there is none where burn alone does what is asked for.
    fn config(self) -> Result<Option<Config>> {
        let Self::Low { gradients, scaling } = self else { return Ok(None) };
        let config = Config::for_format(gradients.format());
        match scaling.log2() {
            None => Ok(Some(config)),
            Some(_) if gradients == Gradients::Binary16 => Ok(None),
            Some(log2) => Ok(Some(config.with_policy(Policy::Fixed(Scale::new(log2)?))?)),
        }
    }

    /// Returns the factor of the loss where burn goes backward alone.
    fn factor(self) -> f64 {
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

const LEARNING_RATE: f64 = 3.0e-3;

/// A network, its optimizer, and its scaler if it has one.
pub(crate) struct Learner {
    mode: Mode,
    dtype: DType,
    net: Net,
    optimizer: ModuleOptimizer,
    scaler: Option<Scaler>,
    replays: u64,
}

impl Learner {
    pub(crate) fn new(mode: Mode, seed: u64, device: &Device) -> Result<Self> {
        let scaler = match mode.config()? {
            Some(config) => Some(Scaler::new(config, Net::MARKS)?),
            None => None,
        };
        let net = Net::new(scaler.clone(), &mut ChaCha8Rng::seed_from_u64(seed), device);
        let optimizer = AdamWConfig::new().init();
        let dtype = if mode == Mode::Exact { DType::F32 } else { DType::F16 };
        Ok(Self { mode, dtype, net, optimizer, scaler, replays: 0 })
    }

    /// Learns from one batch; tells whether the weights were updated.
    ///
    /// `progress` runs from 0 to 1, and the learning rate along half a cosine to 0.
    pub(crate) fn step(&mut self, batch: &Batch, progress: f64) -> Result<bool> {
        let rate = LEARNING_RATE * 0.5 * (1.0 + (progress * std::f64::consts::PI).cos());
        let gradients = match self.scaler.clone() {
            Some(scaler) => self.scaled(&scaler, batch)?,
            None => self.by_burn(batch),
        };
        let is_used = gradients.is_some();
        if let Some(gradients) = gradients {
            self.net = self.optimizer.step(rate, self.net.clone(), gradients);
        }
        Ok(is_used)
    }

    /// Goes backward as burn alone does, from a loss that was multiplied; `None` where something overflowed.
    fn by_burn(&self, batch: &Batch) -> Option<GradientsParams> {
        let scale = self.mode.factor();
        let gradients = (self.loss(batch) * scale).backward();
        let gradients = GradientsParams::from_grads(gradients, &self.net);
        let mut divide = Divide { gradients, scale, is_finite: true };
        self.net.visit(&mut divide);
        divide.is_finite.then_some(divide.gradients)
    }

    fn scaled(&mut self, scaler: &Scaler, batch: &Batch) -> Result<Option<GradientsParams>> {
        let gradients = match scaler.step(&self.net, || self.loss(batch))? {
            Backward::Apply(gradients) => Some(gradients),
            Backward::Skip { .. } => None,
            Backward::Stop { layer, cause, skipped } => {
                bail!("{cause} in {layer}, {skipped} steps skipped in a row")
            }
        };
        self.replays += scaler.replays();
        Ok(gradients)
    }

    fn loss(&self, batch: &Batch) -> Tensor<1> {
        let logits = self.net.forward(batch.images.clone().cast(self.dtype));
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        loss.forward(logits, batch.labels.clone())
    }

    /// Returns the share of right answers in per cent.
    pub(crate) fn score(&self, batch: &Batch) -> Result<f64> {
        let logits = self.net.valid().forward(batch.images.clone().cast(self.dtype));
        let right = logits.argmax(1).squeeze_dim::<1>(1).equal(batch.labels.clone());
        Ok(100.0 * f64::from(right.float().mean().try_into_scalar::<f32>()?))
    }

    /// Returns how often a step was run again.
    pub(crate) fn replays(&self) -> u64 {
        self.replays
    }
}

/// Undoes the one scale, and looks for what is not finite.
struct Divide {
    gradients: GradientsParams,
    scale: f64,
    is_finite: bool,
}

impl ModuleVisitor for Divide {
    fn visit_float<const D: usize>(&mut self, weight: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.remove::<D>(weight.id) else { return };
        let sum = gradient.clone().abs().sum().into_scalar::<f32>();
        self.is_finite &= sum.is_finite();
        self.gradients.register(weight.id, gradient / self.scale);
    }
}
