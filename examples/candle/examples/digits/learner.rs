//! One network that learns, in one of the ways that are compared.

use std::fmt;

use adaloss_candle::{Backward, Scaler};
use adaloss_core::{
    format::Format,
    policy::{Config, Policy},
    scale::Scale,
};
use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use candle_nn::{AdamW, Optimizer, VarBuilder, VarMap, loss::cross_entropy};
use clap::ValueEnum;
use rand::{Rng, RngExt, SeedableRng};
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
    /// What candle itself keeps them in.
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
    /// Returns how the scaler is set up; there is none where candle alone does what is asked for.
    fn config(self) -> Result<Option<Config>> {
        let Self::Low { gradients, scaling } = self else { return Ok(None) };
        let config = Config::for_format(gradients.format());
        match scaling.log2() {
            None => Ok(Some(config)),
            Some(_) if gradients == Gradients::Binary16 => Ok(None),
            Some(log2) => Ok(Some(config.with_policy(Policy::Fixed(Scale::new(log2)?))?)),
        }
    }

    /// Returns the factor of the loss where candle goes backward alone.
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
    weights: Vec<Var>,
    optimizer: AdamW,
    scaler: Option<Scaler>,
    replays: u64,
}

impl Learner {
    pub(crate) fn new(mode: Mode, seed: u64) -> Result<Self> {
        let scaler = match mode.config()? {
            Some(config) => Some(Scaler::new(config, Net::MARKS)?),
            None => None,
        };
        let masters = VarMap::new();
        let vb = VarBuilder::from_varmap(&masters, DType::F32, &Device::Cpu);
        let net = Net::new(scaler.clone(), &vb)?;
        draw(&masters, &mut ChaCha8Rng::seed_from_u64(seed))?;
        let weights = masters.all_vars();
        let optimizer = AdamW::new_lr(weights.clone(), LEARNING_RATE)?;
        let dtype = if mode == Mode::Exact { DType::F32 } else { DType::F16 };
        Ok(Self { mode, dtype, net, weights, optimizer, scaler, replays: 0 })
    }

    /// Learns from one batch; tells whether the weights were updated.
    ///
    /// `progress` runs from 0 to 1, and the learning rate along half a cosine to 0.
    pub(crate) fn step(&mut self, batch: &Batch, progress: f64) -> Result<bool> {
        let rate = LEARNING_RATE * 0.5 * (1.0 + (progress * std::f64::consts::PI).cos());
        self.optimizer.set_learning_rate(rate);
        let gradients = match self.scaler.clone() {
            Some(scaler) => self.scaled(&scaler, batch)?,
            None => self.by_candle(batch)?,
        };
        if let Some(gradients) = &gradients {
            self.optimizer.step(gradients)?;
        }
        Ok(gradients.is_some())
    }

    /// Goes backward as candle alone does, from a loss that was multiplied; `None` where something overflowed.
    fn by_candle(&self, batch: &Batch) -> Result<Option<GradStore>> {
        let scale = self.mode.factor();
        let mut gradients = (self.loss(batch)? * scale)?.backward()?;
        let mut is_finite = true;
        for weight in &self.weights {
            if let Some(gradient) = gradients.remove(weight) {
                let sum = gradient.abs()?.sum_all()?.to_scalar::<f32>()?;
                is_finite &= sum.is_finite();
                gradients.insert(weight, (gradient / scale)?);
            }
        }
        Ok(is_finite.then_some(gradients))
    }

    fn scaled(&mut self, scaler: &Scaler, batch: &Batch) -> Result<Option<GradStore>> {
        let step = scaler.begin()?;
        let gradients = match step.backward(&self.loss(batch)?)? {
            Backward::Apply(gradients) => Some(gradients),
            Backward::Skip { .. } => None,
            Backward::Stop { layer, cause, skipped } => {
                bail!("{cause} in {layer}, {skipped} steps skipped in a row")
            }
        };
        self.replays += scaler.replays();
        Ok(gradients)
    }

    fn loss(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let logits = self.net.forward(&batch.images.to_dtype(self.dtype)?, true)?;
        cross_entropy(&logits, &batch.labels)
    }

    /// Returns the share of right answers in per cent.
    pub(crate) fn score(&self, batch: &Batch) -> Result<f64> {
        let logits = self.net.forward(&batch.images.to_dtype(self.dtype)?, false)?;
        let right = logits.argmax(1)?.eq(&batch.labels)?.to_dtype(DType::F32)?.mean_all()?;
        Ok(100.0 * f64::from(right.to_scalar::<f32>()?))
    }

    /// Returns how many segments were run again.
    pub(crate) fn replays(&self) -> u64 {
        self.replays
    }
}

/// Draws the weights of convolutions and products, with a variance that keeps that of activations (He et
/// al. 2015), in the order of their names.
fn draw(masters: &VarMap, rng: &mut impl Rng) -> Result<()> {
    let masters = masters.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut weights = masters.iter().filter(|(_, weight)| weight.rank() > 1).collect::<Vec<_>>();
    weights.sort_by_key(|(name, _)| *name);
    for (_, weight) in weights {
        let fan_in = match *weight.dims() {
            [_, channels, height, width] => channels * height * width,
            [rows, ..] => rows,
            [] => continue,
        };
        let bound = (6.0 / fan_in as f32).sqrt();
        let values = (0..weight.elem_count()).map(|_| rng.random_range(-bound..bound)).collect();
        weight.set(&Tensor::from_vec(values, weight.shape(), weight.device())?)?;
    }
    Ok(())
}
