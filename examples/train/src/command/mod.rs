//! What the program does, with formats and devices that are known only at run time.

pub(crate) mod compare;
pub(crate) mod cost;
pub(crate) mod generate;
pub(crate) mod gradients;
pub(crate) mod inspect;
pub(crate) mod interrupt;
pub(crate) mod launch;
pub(crate) mod look;
pub(crate) mod machine;
mod places;
pub(crate) mod policies;
pub(crate) mod recipe;
mod runs;
mod stored;
pub(crate) mod sums;
pub(crate) mod train;

use adaloss_train::{
    data::{DataArgs, Dataset},
    method::{FormatName, Method},
    model::Model,
    say,
    schedule::ScheduleArgs,
    task::Task,
    trainer::Settings,
};
use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

/// Says how many samples were skipped because they cannot be read, and names the first.
fn say_left_out(dataset: &dyn Dataset) {
    let left_out = dataset.left_out();
    if let Some(first) = left_out.first() {
        let others = if left_out.len() > 1 { "; and others" } else { "" };
        let count = left_out.len();
        say!("samples that could not be read and were left out: {count}; {first}{others}");
    }
}

/// Returns a bar for so many steps, on which a message says what they are of.
fn steps_bar(steps: u64) -> Result<ProgressBar> {
    let bar = ProgressBar::new(steps);
    bar.set_style(ProgressStyle::with_template(
        "{msg} {bar:40} {pos}/{len} steps, {elapsed} of about {duration}",
    )?);
    Ok(bar)
}

/// One network, how it learns, and from what.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// What is learnt: digits-resnet, scenes-segnet, text-transformer, digits-mlp or objects-ssd; with a loss of another size:
    /// scenes-megapixel, text-growing; with two losses that are 2^N apart: digits-units-N, digits-towers-N, and with
    /// -normalised behind it each is divided by its value at the first batch, rounded to a power of two; digits-long-N for
    /// 20,160 steps; a quantity with a Pareto tail: customers-mlp; a field that is learnt from its equation, whose loss is 2^N times that at
    /// its boundary: helmholtz-N; a generator and its critic: digits-wgan.
    #[arg(long, default_value = "digits-resnet")]
    pub(crate) task: Task,
    /// Another network than the task's: mlp, resnetN and preresnetN (N = 6m + 2 for small images; 18, 34, 50, 101 or 152 for
    /// ImageNet), vggN (N = 11, 13, 16 or 19), segnet, ssd, ssd300, ssd512, transformer, pinn, wgan; with options behind colons, as in
    /// resnet56:zero:projected:width=32, preresnet164:bottleneck, resnet18:small, vgg16:normalised:small, ssd:width=8,
    /// segnet:widths=64-64-64-64:kernel=7, transformer:blocks=4:heads=8:width=128:dropout=0.1, pinn:hidden=32:depth=2 or
    /// wgan:critic=6:width=40:clip=0.01.
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<Model>,
    /// The gradient format; 8-bit ones go forward in binary16.
    #[arg(long, default_value = "binary16")]
    pub(crate) format: FormatName,
    /// Of the initial weights and of the order of samples.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// How it learns.
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    /// From what.
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

impl RunArgs {
    /// Returns the task with the changes asked for.
    ///
    /// # Errors
    ///
    /// The network is none for what the task learns from.
    pub(crate) fn task(&self) -> Result<Task> {
        let mut task = self.task.clone();
        if let Some(model) = self.network {
            task = task.with_model(model)?;
        }
        task.schedule = self.schedule.apply(task.schedule);
        Ok(task)
    }

    /// Returns the settings of a run.
    pub(crate) fn settings(&self, method: Method, period: u32) -> Settings {
        Settings { format: self.format, method, seed: self.seed, period }
    }
}
