//! How long and how fast a run learns.

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::dataset::Dataset;

/// How long and how fast a run learns; the same for every method.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Schedule {
    /// Passes over the training samples.
    pub epochs: usize,
    /// Samples in a step.
    pub batch: usize,
    /// Units of the hidden layers.
    pub hidden: usize,
    /// Pixels by which training samples are moved at random, at most, each way.
    pub shift: f32,
    /// Entries of the matrix by which training samples are warped at random, at most.
    pub warp: f32,
    /// At the first step; falls to zero along half a cosine.
    pub learning_rate: f32,
    /// Of SGD.
    pub momentum: f32,
    /// Of SGD, on weights.
    pub weight_decay: f32,
    /// The test accuracy that `steps_to_target` waits for.
    pub target: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            epochs: 30,
            batch: 64,
            hidden: 128,
            shift: 1.0,
            warp: 0.2,
            learning_rate: 0.1,
            momentum: 0.9,
            weight_decay: 1e-3,
            target: 0.9,
        }
    }
}

impl Schedule {
    /// Returns the steps of one pass over the training samples.
    pub fn steps_per_epoch(&self, dataset: &Dataset) -> u64 {
        dataset.train.labels.len().div_ceil(self.batch) as u64
    }

    /// Returns the steps of a whole run.
    pub fn steps(&self, dataset: &Dataset) -> u64 {
        self.steps_per_epoch(dataset) * self.epochs as u64
    }

    /// Checks that something can be learnt.
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        ensure!(self.epochs > 0, "at least one epoch is needed");
        ensure!(
            self.shift >= 0.0 && self.shift.is_finite() && (0.0..1.0).contains(&self.warp),
            "samples can be moved by 0 pixels or more and warped by 0 or more and less than 1"
        );
        ensure!(self.hidden > 0, "hidden layers need at least one unit");
        ensure!(
            (1..=dataset.train.labels.len()).contains(&self.batch),
            "a batch of {} cannot be drawn from {} training samples",
            self.batch,
            dataset.train.labels.len()
        );
        ensure!(
            self.learning_rate > 0.0 && self.learning_rate.is_finite(),
            "the learning rate must be positive and finite"
        );
        ensure!((0.0..=1.0).contains(&self.target), "the target must be between 0 and 1");
        Ok(())
    }
}

/// How networks learn; the same for every method.
#[derive(Args, Clone, Copy, Debug)]
pub struct ScheduleArgs {
    /// Passes over the training samples.
    #[arg(long, default_value_t = Schedule::default().epochs)]
    epochs: usize,
    /// Samples in a step.
    #[arg(long, default_value_t = Schedule::default().batch)]
    batch: usize,
    /// Units of the hidden layers.
    #[arg(long, default_value_t = Schedule::default().hidden)]
    hidden: usize,
    /// Pixels by which training samples are moved at random, at most, each way.
    #[arg(long, default_value_t = Schedule::default().shift)]
    shift: f32,
    /// How much training samples are warped at random, at most: 0.1 is 10 % of their size.
    #[arg(long, default_value_t = Schedule::default().warp)]
    warp: f32,
    /// Step size of the first step.
    #[arg(long, default_value_t = Schedule::default().learning_rate)]
    learning_rate: f32,
    /// Test accuracy, from 0 to 1, that the steps to target are counted to.
    #[arg(long, default_value_t = Schedule::default().target)]
    target: f64,
}

impl From<ScheduleArgs> for Schedule {
    fn from(args: ScheduleArgs) -> Self {
        let ScheduleArgs { epochs, batch, hidden, shift, warp, learning_rate, target } = args;
        Self { epochs, batch, hidden, shift, warp, learning_rate, target, ..Self::default() }
    }
}
