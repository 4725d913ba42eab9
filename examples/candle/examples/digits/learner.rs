//! The network that learns.

use adaloss_candle::{Backward, Scaler};
use adaloss_digits::{Batch, Mode};
use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap, loss::cross_entropy};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::Net;

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

impl adaloss_digits::Learner for Learner {
    fn new(mode: Mode, seed: u64) -> Result<Self> {
        let scaler = match mode.config()? {
            Some(config) => Some(Scaler::new(config, Net::MARKS)?),
            None => None,
        };
        let masters = VarMap::new();
        let vb = VarBuilder::from_varmap(&masters, DType::F32, &Device::Cpu);
        let net = Net::new(scaler.clone(), &vb)?;
        draw(&masters, &mut ChaCha8Rng::seed_from_u64(seed))?;
        let weights = masters.all_vars();
        let optimizer = AdamW::new(weights.clone(), ParamsAdamW::default())?;
        let dtype = if mode == Mode::Exact { DType::F32 } else { DType::F16 };
        Ok(Self { mode, dtype, net, weights, optimizer, scaler, replays: 0 })
    }

    fn step(&mut self, batch: &Batch, rate: f64) -> Result<bool> {
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

    fn score(&self, batch: &Batch) -> Result<f64> {
        let (images, labels) = self.tensors(batch)?;
        let logits = self.net.forward(&images, false)?;
        let right = logits.argmax(1)?.eq(&labels)?.to_dtype(DType::F32)?.mean_all()?;
        Ok(100.0 * f64::from(right.to_scalar::<f32>()?))
    }

    fn replays(&self) -> u64 {
        self.replays
    }
}

impl Learner {
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
        let (images, labels) = self.tensors(batch)?;
        cross_entropy(&self.net.forward(&images, true)?, &labels)
    }

    /// Returns the images, in the type that the network computes in, and the labels.
    fn tensors(&self, batch: &Batch) -> candle_core::Result<(Tensor, Tensor)> {
        let images = Tensor::from_slice(&batch.images, &batch.shape(), &Device::Cpu)?;
        let labels = batch.labels.iter().map(|&label| u32::from(label));
        let labels = Tensor::from_iter(labels, &Device::Cpu)?;
        Ok((images.to_dtype(self.dtype)?, labels))
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
