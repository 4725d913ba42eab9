//! The network that learns.

use adaloss_burn::{Backward, Scaler};
use adaloss_digits::{Batch, Mode};
use anyhow::{Result, bail};
use burn::{
    module::{Module, ModuleVisitor, Param},
    nn::loss::CrossEntropyLossConfig,
    optim::{AdamWConfig, GradientsParams, ModuleOptimizer},
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::model::Net;

/// A network, its optimizer, and its scaler if it has one.
pub(crate) struct Learner {
    mode: Mode,
    dtype: DType,
    net: Net,
    optimizer: ModuleOptimizer,
    scaler: Option<Scaler>,
    replays: u64,
}

impl adaloss_digits::Learner for Learner {
    fn new(mode: Mode, seed: u64) -> Result<Self> {
        let scaler = match mode.config()? {
            Some(config) => Some(Scaler::new(config, Net::MARKS)?),
            None => None,
        };
        let net = Net::new(scaler.clone(), &mut ChaCha8Rng::seed_from_u64(seed), &device());
        let optimizer = AdamWConfig::new().init();
        let dtype = if mode == Mode::Exact { DType::F32 } else { DType::F16 };
        Ok(Self { mode, dtype, net, optimizer, scaler, replays: 0 })
    }

    fn step(&mut self, batch: &Batch, rate: f64) -> Result<bool> {
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

    fn score(&self, batch: &Batch) -> Result<f64> {
        let (images, labels) = self.tensors(batch, &Device::flex());
        let logits = self.net.valid().forward(images);
        let right = logits.argmax(1).squeeze_dim::<1>(1).equal(labels);
        Ok(100.0 * f64::from(right.float().mean().try_into_scalar::<f32>()?))
    }

    fn replays(&self) -> u64 {
        self.replays
    }
}

impl Learner {
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
        let (images, labels) = self.tensors(batch, &device());
        let logits = self.net.forward(images);
        CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, labels)
    }

    /// Returns the images, in the type that the network computes in, and the labels.
    fn tensors(&self, batch: &Batch, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
        let images = TensorData::new(batch.images.clone(), batch.shape());
        let labels = batch.labels.iter().map(|&label| i32::from(label)).collect::<Vec<_>>();
        let labels = TensorData::new(labels, [batch.labels.len()]);
        let images = Tensor::<4>::from_data(images, device);
        (images.cast(self.dtype), Tensor::from_data(labels, device))
    }
}

/// Returns where networks learn.
fn device() -> Device {
    Device::flex().autodiff()
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
