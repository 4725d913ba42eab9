//! Small networks trained in real mixed precision, with every loss-scaling method side by side.
//!
//! Weights and activations are kept in one low-precision format, gradients in another; masters,
//! sums and updates are f32.  Everything goes through the public interfaces of `adaloss-core` and
//! `adaloss-hal`, on the portable device.
//!
//! ```text
//! dataset -> network (linear layers) -> loss -> Step::loss, layer_with, join -> Verdict -> update
//!                                                    |
//!                                                 observe: asked against real, per tensor
//! ```

pub mod checkpoint;
pub mod compare;
pub mod dataset;
pub mod idx;
pub mod inspect;
pub mod linear;
pub mod loss;
pub mod method;
pub mod network;
pub mod observe;
pub mod report;
pub mod schedule;
pub mod train;
pub mod trainer;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    dataset::Dataset,
    method::{FormatName, Method},
    network::Task,
    schedule::ScheduleArgs,
    trainer::Settings,
};

/// Where samples come from.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// Images in IDX format, instead of the embedded digits.
    #[arg(long, value_name = "FILE", requires = "labels")]
    pub images: Option<PathBuf>,
    /// Labels in IDX format.
    #[arg(long, value_name = "FILE", requires = "images")]
    pub labels: Option<PathBuf>,
    /// Samples from the front that train; the rest tests.
    #[arg(long, value_name = "N", requires = "images")]
    pub train_samples: Option<usize>,
}

impl DataArgs {
    /// Opens the data set.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or the two are no data set; the error says what and where.
    pub fn open(&self) -> Result<Dataset> {
        match (&self.images, &self.labels) {
            (Some(images), Some(labels)) => Dataset::open(images, labels, self.train_samples),
            (None, None) => Dataset::embedded(),
            _ => bail!("images and labels go together"),
        }
    }
}

/// One network, how it learns, and from what.
#[derive(Args, Clone, Debug)]
pub struct NetworkArgs {
    /// The network.
    #[arg(long, default_value = "digits-residual")]
    pub task: Task,
    /// The gradient format; 8-bit ones go forward in binary16.
    #[arg(long, default_value = "binary16")]
    pub format: FormatName,
    /// Of the initial weights and of the order of samples.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How it learns.
    #[command(flatten)]
    pub schedule: ScheduleArgs,
    /// From what.
    #[command(flatten)]
    pub data: DataArgs,
}

impl NetworkArgs {
    /// Returns the settings of a run of this network.
    pub fn settings(&self, method: Method, period: u32) -> Settings {
        let &Self { task, format, seed, schedule, .. } = self;
        Settings { task, format, method, seed, period, schedule: schedule.into() }
    }
}

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
