//! How long and how fast a run learns.

use std::{fmt, str::FromStr};

use anyhow::{Result, bail, ensure};

use crate::{
    data::Dataset,
    optimizer::{Optimizer, Update},
};

/// How long and how fast a run learns; the same for every method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Passes over the training samples.
    pub epochs: usize,
    /// Steps of the whole run, if it does not end with an epoch: then the epochs do not count.
    pub steps: Option<u64>,
    /// Samples in a step.
    pub batch: usize,
    /// Parts that a step's samples are taken in, one after the other.
    pub micro_batches: usize,
    /// The greatest step size.
    pub learning_rate: f32,
    /// Steps before it is reached.
    pub warm_up: u64,
    /// What it is in these.
    pub rise: Rise,
    /// How it falls.
    pub decay: Decay,
    /// What it is the step size of.
    pub optimizer: Optimizer,
    /// The greatest norm of all gradients together, if it is clipped.
    pub max_norm: Option<f32>,
    /// Whether running statistics are computed anew at the end, as means over all training samples with the last weights
    /// (Badrinarayanan et al. 2017).
    pub recomputes_statistics: bool,
    /// The metric that `steps_to_target` waits for, from 0 to 1.
    pub target: f64,
}

/// What a step size is before the greatest one is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Rise {
    /// It rises in equal parts, of which the first step has one.
    #[default]
    Equal,
    /// It rises from a share in equal parts.
    From(f32),
    /// It stays at a share.
    At(f32),
}

/// How a step size falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// To zero, along half a cosine.
    Cosine,
    /// To a tenth after half of the steps, and to a hundredth after three quarters of them.
    Steps,
    /// To a share of what it was, after each of some steps: those that are not `u64::MAX`, in rising order.
    Milestones {
        /// The steps.
        at: [u64; 4],
        /// The share.
        share: f32,
    },
}

impl Schedule {
    /// Returns the steps of one pass over the training samples; what fills no batch is left out.
    pub fn steps_per_epoch(&self, dataset: &dyn Dataset) -> u64 {
        (dataset.train_samples() / self.batch.max(1)) as u64
    }

    /// Returns the steps of a whole run.
    pub fn steps(&self, dataset: &dyn Dataset) -> u64 {
        if let Some(steps) = self.steps {
            return steps;
        }
        self.steps_per_epoch(dataset).saturating_mul(self.epochs as u64)
    }

    /// Returns what a step's update needs to know.
    pub fn update(&self, step: u64, steps: u64) -> Update {
        let rate = if step < self.warm_up {
            let risen = (step + 1) as f32 / self.warm_up as f32;
            match self.rise {
                Rise::Equal => risen,
                Rise::From(share) => share + (1.0 - share) * (step as f32 / self.warm_up as f32),
                Rise::At(share) => share,
            }
        } else {
            let rest = steps.saturating_sub(self.warm_up).max(1);
            let progress = (step - self.warm_up) as f32 / rest as f32;
            match self.decay {
                Decay::Constant => 1.0,
                Decay::Cosine => 0.5 + 0.5 * (std::f32::consts::PI * progress).cos(),
                Decay::Steps if progress < 0.5 => 1.0,
                Decay::Steps if progress < 0.75 => 0.1,
                Decay::Steps => 0.01,
                Decay::Milestones { at, share } => {
                    share.powi(at.iter().filter(|&&at| step >= at).count() as i32)
                }
            }
        };
        Update { learning_rate: self.learning_rate * rate, max_norm: self.max_norm }
    }

    /// Checks that something can be learnt.
    ///
    /// # Errors
    ///
    /// The first setting that makes no sense.
    pub fn check(&self, dataset: &dyn Dataset) -> Result<()> {
        ensure!(
            self.epochs > 0 && self.steps != Some(0),
            "at least one epoch, or one step, is needed"
        );
        ensure!(
            self.steps(dataset) <= u64::from(u32::MAX),
            "{} epochs are more steps than can be counted, which are {}",
            self.epochs,
            u32::MAX
        );
        if let Rise::From(share) | Rise::At(share) = self.rise {
            ensure!(
                (0.0..=1.0).contains(&share),
                "the share of the learning rate in a warm-up must be between 0 and 1"
            );
        }
        ensure!(
            (1..=dataset.train_samples()).contains(&self.batch),
            "a batch of {} cannot be drawn from {} training samples",
            self.batch,
            dataset.train_samples()
        );
        ensure!(
            self.micro_batches > 0 && self.batch.is_multiple_of(self.micro_batches),
            "a batch of {} cannot be taken in {} equal parts",
            self.batch,
            self.micro_batches
        );
        ensure!(
            self.learning_rate > 0.0 && self.learning_rate.is_finite(),
            "the learning rate must be positive and finite"
        );
        ensure!(
            self.max_norm.is_none_or(|norm| norm > 0.0 && norm.is_finite()),
            "the norm that gradients are clipped to must be positive and finite"
        );
        ensure!((0.0..=1.0).contains(&self.target), "the target must be between 0 and 1");
        Ok(())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epochs, batch, learning_rate, optimizer, .. } = self;
        match self.steps {
            Some(steps) => write!(f, "{steps} steps, batches of {batch}")?,
            None => write!(f, "{epochs} epochs, batches of {batch}")?,
        }
        if self.micro_batches > 1 {
            write!(f, " in {} parts", self.micro_batches)?;
        }
        write!(f, "; {optimizer}; learning rate {learning_rate}")?;
        if self.warm_up > 0 {
            write!(f, " after {} steps of warm-up", self.warm_up)?;
            match self.rise {
                Rise::Equal => {}
                Rise::From(share) => write!(f, " from {share} times it")?,
                Rise::At(share) => write!(f, " at {share} times it")?,
            }
        }
        match self.decay {
            Decay::Constant => write!(f, ", constant")?,
            Decay::Cosine => write!(f, ", falling to 0 along a cosine")?,
            Decay::Steps => write!(f, ", a tenth after 1/2 and a hundredth after 3/4")?,
            Decay::Milestones { at, share } => {
                let at = at.into_iter().filter(|at| *at < u64::MAX).map(|at| at.to_string());
                let at: Vec<_> = at.collect();
                write!(f, ", times {share} after steps {}", at.join(", "))?;
            }
        }
        if let Some(norm) = self.max_norm {
            write!(f, "; gradients clipped to norm {norm}")?;
        }
        match self.recomputes_statistics {
            true => write!(f, "; running statistics computed anew at the end"),
            false => Ok(()),
        }
    }
}

impl FromStr for Decay {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "constant" => Ok(Self::Constant),
            "cosine" => Ok(Self::Cosine),
            "steps" => Ok(Self::Steps),
            _ => bail!("unknown decay \"{name}\": one of constant, cosine, steps"),
        }
    }
}

/// Changes to a task's schedule, from the command line.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct ScheduleArgs {
    /// Passes over the training samples.
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Steps of the whole run, instead of epochs.
    #[arg(long, value_name = "STEPS", conflicts_with = "epochs")]
    pub total_steps: Option<u64>,
    /// Samples in a step.
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Parts that a step's samples are taken in, one after the other.
    #[arg(long, value_name = "N")]
    pub micro_batches: Option<usize>,
    /// The greatest step size.
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f32>,
    /// Steps in which the step size rises.
    #[arg(long, value_name = "STEPS")]
    pub warm_up: Option<u64>,
    /// How the step size falls: constant, cosine or steps.
    #[arg(long)]
    pub decay: Option<Decay>,
    /// sgd or adamw, with their usual constants.
    #[arg(long)]
    pub optimizer: Option<Optimizer>,
    /// Clip all gradients together to this norm.
    #[arg(long, value_name = "NORM")]
    pub clip: Option<f32>,
    /// The metric, from 0 to 1, that is waited for.
    #[arg(long, value_name = "SHARE")]
    pub target: Option<f64>,
}

impl ScheduleArgs {
    /// Returns a schedule with the changes made.
    pub fn apply(&self, schedule: Schedule) -> Schedule {
        Schedule {
            epochs: self.epochs.unwrap_or(schedule.epochs),
            batch: self.batch.unwrap_or(schedule.batch),
            micro_batches: self.micro_batches.unwrap_or(schedule.micro_batches),
            learning_rate: self.learning_rate.unwrap_or(schedule.learning_rate),
            steps: if self.epochs.is_some() { None } else { self.total_steps.or(schedule.steps) },
            warm_up: self.warm_up.unwrap_or(schedule.warm_up),
            rise: schedule.rise,
            decay: self.decay.unwrap_or(schedule.decay),
            optimizer: self.optimizer.unwrap_or(schedule.optimizer),
            max_norm: self.clip.or(schedule.max_norm),
            recomputes_statistics: schedule.recomputes_statistics,
            target: self.target.unwrap_or(schedule.target),
        }
    }
}
