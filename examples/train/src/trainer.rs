//! One training run, step by step.

use std::{marker::PhantomData, time::Instant};

use adaloss_core::{
    format::{E4M3, E5M2, Element, Encoding, Narrowing, bf16, f16},
    unscale::Verdict,
};
use adaloss_hal::Plain;
use anyhow::{Result, bail};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::{
    checkpoint::Checkpoint,
    dataset::{Dataset, Samples, Warp},
    linear::Sgd,
    loss::{correct, softmax_cross_entropy},
    method::{FormatName, Method},
    network::{Network, Observer, Scaler, Task},
    observe::{CellReport, Reports},
    schedule::Schedule,
};

/// What defines a run: with the same settings and data, the same bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The network.
    pub task: Task,
    /// The format of gradients.
    pub format: FormatName,
    /// How scales are chosen.
    pub method: Method,
    /// Of the initial weights and of the order of samples.
    pub seed: u64,
    /// Visits from one decision to the next.
    pub period: u32,
    /// The schedule.
    pub schedule: Schedule,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// The network and data set.
    pub task: String,
    /// The format of gradients.
    pub format: String,
    /// The format of weights and activations.
    pub forward_format: String,
    /// How scales were chosen.
    pub method: String,
    /// Of the initial weights and of the order of samples.
    pub seed: u64,
    /// Visits from one decision to the next.
    pub period: u32,
    /// The scaler's whole configuration.
    pub configuration: String,
    /// The share of test samples classified rightly at the end, from 0 to 1.
    pub accuracy: f64,
    /// The first step after which the test accuracy reached the target; evaluated once per epoch.
    pub steps_to_target: Option<u64>,
    /// All steps, skipped ones included.
    pub steps: u64,
    /// Steps that did not reach the weights.
    pub skipped_steps: u64,
    /// Visits that overflowed and were replayed at once.
    pub recovered_steps: u64,
    /// Visits that decided a scale.
    pub decisions: u64,
    /// Wall-clock time of the training steps, the counting for this report included.
    pub seconds: f64,
    /// Why the run ended before its last step.
    pub stopped: Option<String>,
    /// One per gradient tensor.
    pub cells: Vec<CellReport>,
}

/// A run under way, with weights and activations in `W` and gradients in `G`.
pub struct Trainer<'d, W, G> {
    settings: Settings,
    dataset: &'d Dataset,
    network: Network<W>,
    scaler: Scaler,
    /// The samples of this epoch, and how each is warped.
    order: Vec<(usize, Warp)>,
    step: u64,
    gradient: PhantomData<G>,
}

impl<'d, W: Element + Plain, G: Element + Plain> Trainer<'d, W, G> {
    /// Makes a new run.
    pub fn new(settings: Settings, dataset: &'d Dataset) -> Result<Self> {
        settings.schedule.check(dataset)?;
        dataset.check()?;
        let config = settings.method.config(settings.format.0, settings.period)?;
        let mut generator = ChaCha8Rng::seed_from_u64(settings.seed);
        let shape = (dataset.train.features(), settings.schedule.hidden, dataset.classes);
        let forward = Narrowing::to(settings.format.forward().0);
        let network = Network::new(settings.task, shape, forward, &mut generator)?;
        Ok(Self {
            settings,
            dataset,
            network,
            scaler: Scaler::new(config),
            order: Vec::new(),
            step: 0,
            gradient: PhantomData,
        })
    }

    /// Goes on from a checkpoint, bit for bit as the run that was saved would have.
    pub fn resume(settings: Settings, dataset: &'d Dataset, from: Checkpoint) -> Result<Self> {
        let mut trainer = Self::new(settings, dataset)?;
        let config = *trainer.scaler.config();
        trainer.scaler = Scaler::restore(config, &from.scaler)?;
        trainer.network.set_parameters(from.parameters)?;
        trainer.step = from.step;
        if !trainer.step.is_multiple_of(trainer.steps_per_epoch()) {
            trainer.shuffle();
        }
        Ok(trainer)
    }

    /// Returns everything that the next steps depend on.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let mut scaler = vec![0; Scaler::CHECKPOINT_BYTES];
        self.scaler.save(&mut scaler)?;
        Ok(Checkpoint::new(&self.settings, self.step, self.network.parameters(), scaler))
    }

    /// Returns the scaler.
    pub fn scaler(&self) -> &Scaler {
        &self.scaler
    }

    /// Returns the steps done.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Returns the steps of the whole run.
    pub fn last_step(&self) -> u64 {
        self.settings.schedule.steps(self.dataset)
    }

    /// Returns the steps of one pass over the training samples.
    pub fn steps_per_epoch(&self) -> u64 {
        self.settings.schedule.steps_per_epoch(self.dataset)
    }

    /// Does one step.
    pub fn train_step(&mut self, observer: &mut dyn Observer) -> Result<Verdict> {
        if self.step.is_multiple_of(self.steps_per_epoch()) {
            self.shuffle();
        }
        let batch = self.settings.schedule.batch;
        let first = (self.step % self.steps_per_epoch()) as usize * batch;
        let chosen = &self.order[first..self.order.len().min(first + batch)];
        let (values, labels) = gather(&self.dataset.train, chosen);

        self.network.refresh()?;
        let trace = self.network.forward(&values)?;
        let loss = softmax_cross_entropy(&trace.logits, &labels);
        let mut step = self.scaler.begin();
        self.network.backward::<G>(&trace, &loss.gradient, &mut step, observer)?;
        let verdict = step.finish();
        if verdict == Verdict::Apply {
            let schedule = self.settings.schedule;
            let progress = self.step as f32 / self.last_step() as f32;
            let falling = 0.5 + 0.5 * (std::f32::consts::PI * progress).cos();
            self.network.update(Sgd {
                learning_rate: schedule.learning_rate * falling,
                momentum: schedule.momentum,
                weight_decay: schedule.weight_decay,
            });
        }
        self.step += 1;
        Ok(verdict)
    }

    /// Returns the share of test samples that are classified rightly.
    pub fn accuracy(&mut self) -> Result<f64> {
        self.network.refresh()?;
        let test = &self.dataset.test;
        let logits = self.network.forward(&test.values)?.logits;
        Ok(correct(&logits, &test.labels) as f64 / test.labels.len() as f64)
    }

    /// Draws the order of the coming epoch, which depends on nothing but seed and epoch.
    fn shuffle(&mut self) {
        let mut generator = ChaCha8Rng::seed_from_u64(self.settings.seed);
        generator.set_stream(1 + self.step / self.steps_per_epoch());
        let Schedule { shift, warp, .. } = self.settings.schedule;
        let mut within = |reach: f32| generator.random_range(-reach..=reach);
        let samples = 0..self.dataset.train.labels.len();
        self.order = samples
            .map(|index| {
                let matrix = [[(); 2]; 2].map(|row| row.map(|()| within(warp)));
                (index, Warp { matrix, shift: [(); 2].map(|()| within(shift)) })
            })
            .collect();
        self.order.shuffle(&mut generator);
    }

    /// Runs to the end, or until the scaler gives up; `progress` hears of every step.
    pub fn run(mut self, mut progress: impl FnMut(u64)) -> Result<RunReport> {
        let Settings { task, format, method, seed, period, schedule } = self.settings;
        let mut reports = Reports::new(format.0);
        let (mut steps_to_target, mut stopped, mut seconds) = (None, None, 0.0);
        let mut accuracy = 0.0;
        while self.step < self.last_step() && stopped.is_none() {
            let start = Instant::now();
            let verdict = self.train_step(&mut reports)?;
            seconds += start.elapsed().as_secs_f64();
            progress(1);
            if let Verdict::Stop { layer, cause, skipped } = verdict {
                let step = self.step;
                stopped = Some(format!(
                    "after {skipped} skipped steps in a row, at step {step}: {cause} in {layer}"
                ));
                progress(self.last_step() - self.step);
            }
            if self.step.is_multiple_of(self.steps_per_epoch()) || stopped.is_some() {
                accuracy = self.accuracy()?;
                if accuracy >= schedule.target && steps_to_target.is_none() {
                    steps_to_target = Some(self.step);
                }
            }
        }
        let totals = self.scaler.totals();
        Ok(RunReport {
            task: task.to_string(),
            format: format.to_string(),
            forward_format: format.forward().to_string(),
            method: method.to_string(),
            seed,
            period,
            configuration: format!("{:?}", self.scaler.config()),
            accuracy,
            steps_to_target,
            steps: totals.steps,
            skipped_steps: totals.skipped,
            recovered_steps: totals.recovered,
            decisions: totals.decisions,
            seconds,
            stopped,
            cells: reports.finish(),
        })
    }
}

fn gather(samples: &Samples, chosen: &[(usize, Warp)]) -> (Vec<f32>, Vec<u8>) {
    let mut values = Vec::with_capacity(chosen.len() * samples.features());
    chosen.iter().for_each(|(index, warp)| samples.append_warped(*index, warp, &mut values));
    (values, chosen.iter().map(|&(index, _)| samples.labels[index]).collect())
}

/// Something to do with a trainer whose formats are known only at run time.
pub trait Job {
    /// What it returns.
    type Output;

    /// Does it.
    fn run<W: Element + Plain, G: Element + Plain>(self) -> Result<Self::Output>;
}

/// Does a job with the element types that a gradient format and its forward format have.
pub fn dispatch<J: Job>(format: FormatName, job: J) -> Result<J::Output> {
    match (format.forward().0.encoding, format.0.encoding) {
        (Encoding::Binary16, Encoding::Binary16) => job.run::<f16, f16>(),
        (Encoding::Binary16, Encoding::E5M2) => job.run::<f16, E5M2>(),
        (Encoding::Binary16, Encoding::E4M3) => job.run::<f16, E4M3>(),
        (Encoding::BFloat16, Encoding::BFloat16) => job.run::<bf16, bf16>(),
        (Encoding::Binary32, Encoding::Binary32) => job.run::<f32, f32>(),
        (forward, gradient) => {
            bail!("no network computes {forward:?} forward and {gradient:?} back")
        }
    }
}
