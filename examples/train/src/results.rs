//! What runs leave behind: the contents of `results.json`, which pictures and tables are made from.

use serde::{Deserialize, Serialize};

pub use crate::data::quantity::QuantityReport;

/// Everything that `results.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The format of this file: [`VERSION`](Self::VERSION).
    pub version: u32,
    /// The version of this project.
    pub adaloss: String,
    /// Architecture and operating system.
    pub target: String,
    /// The command line.
    pub command: String,
    /// Threads that ran.
    pub threads: usize,
    /// Wall-clock time of everything, but for what was done before.
    pub seconds: f64,
    /// The number of runs that an earlier comparison had done.
    #[serde(default)]
    pub done_before: usize,
    /// The most memory the process held, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// One per task, in the order of the command line.
    pub tasks: Vec<TaskReport>,
    /// One per run.
    pub runs: Vec<RunReport>,
}

impl Results {
    /// The format of `results.json`.
    pub const VERSION: u32 = 3;

    /// The oldest format that can be read: there, a window left one or two binades free below overflow,
    /// scales moved within a step, and passes were not counted.
    pub const OLDEST: u32 = 2;
}

/// What is learnt, and how; the same for every method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The name that runs refer to.
    pub name: String,
    /// The network, in words.
    pub network: String,
    /// Its parameters that are learnt.
    pub parameters: u64,
    /// The data set, in words.
    pub data: String,
    /// What is measured on the test samples, from 0 to 1: "accuracy", "mean IoU" or "explained variance".
    pub metric: String,
    /// The metric that `steps_to_target` waits for.
    pub target: f64,
    /// The schedule, in words.
    pub schedule: String,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The task.
    pub task: String,
    /// The format of gradients.
    pub format: String,
    /// The format of weights and activations.
    pub forward_format: String,
    /// How scales were chosen.
    pub method: String,
    /// Of the initial weights and of the order of samples.
    pub seed: u64,
    /// Steps from one certificate to the next, or visits from one decision to the next.
    pub period: u32,
    /// The scaler's whole configuration.
    pub configuration: String,
    /// The task's metric on the test samples at the end, from 0 to 1.
    pub metric: f64,
    /// The first evaluated step at which the metric reached the target.
    pub steps_to_target: Option<u64>,
    /// All steps, skipped ones included.
    pub steps: u64,
    /// Steps that did not reach the weights.
    pub skipped_steps: u64,
    /// Visits that overflowed and were replayed at once.
    pub recovered_steps: u64,
    /// Visits that left a certificate; of `normal` and `range`, those that decided a scale.
    #[serde(alias = "decisions")]
    pub certificates: u64,
    /// Visits at which more underflowed than twice what the last certificate promised.
    #[serde(default)]
    pub broken_promises: u64,
    /// Visits of all gradient tensors at all steps, sampled or not; zero where they were not counted.
    #[serde(default)]
    pub visits: u64,
    /// Passes beyond one of each of these visits: for replays, for certificates, and for the first scale of all.
    #[serde(default)]
    pub extra_passes: u64,
    /// Wall-clock time of the training steps, the counting for this report included.
    pub seconds: f64,
    /// How well a quantity is predicted at the end, where the task has one: beside the classes, or alone.
    #[serde(default)]
    pub quantity: Option<QuantityReport>,
    /// Why the run ended before its last step.
    pub stopped: Option<String>,
    /// The way there.
    pub curve: Vec<Point>,
    /// The steps whose visits were counted; `CellReport::scales_log2` has one entry for each.
    pub sampled_steps: Vec<u64>,
    /// What of the gradients did not arrive at those of them that reached the weights; none where that is not known.
    #[serde(default)]
    pub gone: Option<Gone>,
    /// One per gradient tensor, in the order of the backward pass: the loss first.
    pub cells: Vec<CellReport>,
    /// The steps at which weight gradients were compared with those of f32.
    pub probed_steps: Vec<u64>,
    /// One per weight, in the order of the network: the input's layer first.
    pub weights: Vec<WeightReport>,
}

impl RunReport {
    /// Returns the mean share of the sum of magnitudes that did not arrive: of each step that reached the weights what
    /// underflowed or was clipped, and of each step that was skipped all of it.
    ///
    /// Skipped steps are counted over the whole run, the others at the sampled steps. None where what was lost is not
    /// known.
    pub fn gone_mass(&self) -> Option<f64> {
        self.with_skipped(self.gone.filter(|gone| gone.visits > 0).map(|gone| gone.mass()))
    }

    /// Returns the greatest over the gradient tensors of the mean share of a tensor's sum of magnitudes that did not
    /// arrive, as [`gone_mass`](Self::gone_mass) is the mean over all of them.
    pub fn most_gone_mass(&self) -> Option<f64> {
        self.with_skipped(
            self.cells.iter().filter_map(|cell| cell.gone_mass).max_by(f64::total_cmp),
        )
    }

    /// Returns the mean share over all steps from that of the steps that reached the weights, if there were some.
    fn with_skipped(&self, used: Option<f64>) -> Option<f64> {
        self.gone.filter(|_| self.steps > 0)?;
        let skipped = self.skipped_steps as f64 / self.steps as f64;
        match used {
            Some(used) => Some(skipped + (1.0 - skipped) * used),
            None => (self.skipped_steps == self.steps).then_some(1.0),
        }
    }

    /// Returns the mean share of the nonzero elements that underflowed, at the sampled steps that reached the weights;
    /// none where it is not known, or there was no such step.
    pub fn underflow(&self) -> Option<f64> {
        self.gone.filter(|gone| gone.visits > 0).map(|gone| gone.underflow)
    }
}

/// What of all gradient tensors did not arrive, at sampled steps that reached the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gone {
    /// Visits at which some element was finite and not zero.
    pub visits: u64,
    /// The mean over these visits of the share of nonzero elements that underflowed.
    pub underflow: f64,
    /// The mean of an upper bound of the share of the sum of magnitudes that underflowed.
    pub lost_mass: f64,
    /// The mean of an upper bound of the share of the sum of magnitudes that lay above the format's largest number.
    pub clipped_mass: f64,
}

impl Gone {
    /// Returns the sum of two, each of which holds sums.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            visits: self.visits + other.visits,
            underflow: self.underflow + other.underflow,
            lost_mass: self.lost_mass + other.lost_mass,
            clipped_mass: self.clipped_mass + other.clipped_mass,
        }
    }

    /// Returns the means of sums; zero of none.
    pub(crate) fn mean(self) -> Self {
        let mean = |sum: f64| sum / self.visits.max(1) as f64;
        Self {
            visits: self.visits,
            underflow: mean(self.underflow),
            lost_mass: mean(self.lost_mass),
            clipped_mass: mean(self.clipped_mass),
        }
    }

    /// Returns an upper bound of the mean share of the sum of magnitudes that underflowed or was clipped.
    pub fn mass(&self) -> f64 {
        (self.lost_mass + self.clipped_mass).min(1.0)
    }
}

/// One evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps done.
    pub step: u64,
    /// The mean training loss since the evaluation before; none where it was not finite.
    pub loss: Option<f64>,
    /// The task's metric on the test samples.
    pub metric: f64,
}

/// What happened to one gradient tensor at the sampled steps.
///
/// A *window* exists at a visit where some scale keeps underflow within the tolerance and overflow at
/// zero; it is a property of the tensor, whatever the method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CellReport {
    /// The tensor, for example "stage2.block1.conv1".
    pub name: String,
    /// Visits at which some element was finite and not zero.
    pub visits: u64,
    /// Visits at which a window existed.
    pub windows: u64,
    /// Visits with a window at which underflow stayed within twice the tolerance.
    pub kept: u64,
    /// `windows / visits`.
    pub window_share: f64,
    /// `kept / windows`.
    pub share_kept: f64,
    /// The share of nonzero elements that was tolerated to underflow.
    pub underflow_asked: f64,
    /// The mean share that did underflow.
    pub underflow_real: f64,
    /// The mean of an upper bound of the share of the sum of magnitudes that underflowed.
    pub lost_mass: f64,
    /// The mean of an upper bound of the share of the sum of magnitudes that lay above the format's largest number: what
    /// saturating takes away. None where it was not counted.
    #[serde(default)]
    pub clipped_mass: Option<f64>,
    /// The mean of an upper bound of the share of the sum of magnitudes that underflowed or was clipped, at sampled steps that
    /// reached the weights; none where there was no such visit, or that was not counted.
    #[serde(default)]
    pub gone_mass: Option<f64>,
    /// The share of elements that became subnormal, mean.
    pub subnormal: f64,
    /// Visits that overflowed in spite of a replay, or saturated.
    pub overflows: u64,
    /// Passes beyond one a visit: for replays, for certificates, and for the first scale of all; and each visit for a
    /// second loss, of a layer that both share.
    #[serde(default)]
    pub extra_passes: u64,
    /// Visits that overflowed and were replayed.
    #[serde(default)]
    pub replays: u64,
    /// Passes that only measured, each for a certificate.
    #[serde(default)]
    pub measuring_passes: u64,
    /// The exponent of the scale at each sampled step; none where the tensor was not visited, or has no one scale.
    pub scales_log2: Vec<Option<i32>>,
}

/// How far one weight's gradient was from that of the same backward pass in f32.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightReport {
    /// The weight.
    pub name: String,
    /// The cosine of the angle between the two at each probed step; none where one of them is zero
    /// or not finite.
    pub cosine: Vec<Option<f64>>,
    /// The norm of the difference over that of f32 at each probed step; none where that is zero, or
    /// one is not finite.
    pub relative_l2: Vec<Option<f64>>,
}
