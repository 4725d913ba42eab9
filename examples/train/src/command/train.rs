//! One run, with checkpoints.

use std::path::PathBuf;

use adaloss_core::{
    format::Element, policy::Operands, scaler::Visit, statistics::Histogram, unscale::Verdict,
};
use adaloss_hal::Plain;
use adaloss_train::{
    checkpoint::Checkpoint,
    data::Dataset,
    layer::{Machine, Observer},
    method::Method,
    task::Task,
    trainer::{Settings, Trainer},
};
use anyhow::{Result, bail};
use clap::Args;

use super::{
    RunArgs,
    machine::{DeviceName, Job, dispatch},
};

/// What is trained.
#[derive(Args, Debug)]
pub(crate) struct TrainArgs {
    /// How scales are chosen.
    #[arg(long, default_value = "measured")]
    method: Method,
    /// Visits of a tensor from one decision to the next.
    #[arg(long, default_value_t = 10)]
    period: u32,
    /// The device: cpu, or portable, which is slow.
    #[arg(long, default_value_t)]
    device: DeviceName,
    /// Threads of the device; how many does not change a bit of the run.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Go on from this checkpoint.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Write a checkpoint here at the end.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Stop after this step, as if interrupted.
    #[arg(long, value_name = "STEP")]
    until: Option<u64>,
    /// Print every decision.
    #[arg(long)]
    decisions: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// Trains one network.
///
/// # Errors
///
/// Something asked for is impossible, a file cannot be read or written, or training cannot go on.
pub(crate) fn train(args: &TrainArgs) -> Result<()> {
    let task = args.run.task()?;
    let dataset = task.open(&args.run.data)?;
    let settings = args.run.settings(args.method, args.period);
    let job = OneRun { args, task: &task, dataset: &*dataset, settings };
    dispatch(args.device, args.threads, settings.format, job)
}

struct OneRun<'a> {
    args: &'a TrainArgs,
    task: &'a Task,
    dataset: &'a dyn Dataset,
    settings: Settings,
}

/// Prints decisions as they are made.
struct Narrator {
    step: u64,
    prints: bool,
}

impl Observer for Narrator {
    fn watches(&self) -> bool {
        self.prints
    }

    fn visited(&mut self, name: &str, visit: &Visit, _: &Histogram, _: Option<&Operands>) {
        if let Some(certificate) = visit.certificate {
            println!("step {:5}  {name:24} {certificate}", self.step);
        }
        if visit.replayed {
            println!("step {:5}  {name:24} overflowed, replayed at {}", self.step, visit.outgoing);
        }
    }
}

impl Job for OneRun<'_> {
    type Output = ();

    fn run<D, W, G>(self, device: D) -> Result<()>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G> + Machine<W, f32> + Clone,
    {
        let Self { args, task, dataset, settings } = self;
        let mut trainer = match &args.resume {
            Some(path) => {
                let run = Checkpoint::describe(task, &settings);
                let checkpoint = Checkpoint::read(path, &run)?;
                Trainer::<D, W, G>::resume(task, dataset, settings, device, checkpoint)?
            }
            None => Trainer::<D, W, G>::new(task, dataset, settings, device)?,
        };
        println!("{}: {}; {}", task.name, task.model, dataset.describe());
        let last = args.until.unwrap_or(u64::MAX).min(trainer.last_step());
        while trainer.step_count() < last {
            one_step(args.decisions, &mut trainer)?;
        }
        if let Some(path) = &args.save {
            trainer.checkpoint()?.write(path)?;
            println!("step {:5}  saved to {}", trainer.step_count(), path.display());
        }
        let totals = trainer.scaler().totals();
        println!(
            "{} steps, {} skipped, {} visits replayed, {} decisions",
            totals.steps, totals.skipped, totals.recovered, totals.decisions
        );
        Ok(())
    }
}

/// Does one step and says what is worth saying.
fn one_step<D, W, G>(decisions: bool, trainer: &mut Trainer<'_, D, W, G>) -> Result<()>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    let step = trainer.step_count();
    let stepped = trainer.train_step(&mut Narrator { step, prints: decisions })?;
    match stepped.verdict {
        Verdict::Apply => {}
        Verdict::Skip { layer, cause } => println!("step {step:5}  skipped: {cause} in {layer}"),
        Verdict::Stop { layer, cause, skipped } => bail!(
            "training cannot go on at step {step}: {cause} in {layer}, \
             {skipped} steps skipped in a row"
        ),
    }
    if trainer.step_count().is_multiple_of(trainer.steps_per_epoch()) {
        println!(
            "step {:5}  loss {:.4}, on the test samples {:.1} %",
            trainer.step_count(),
            stepped.loss,
            100.0 * trainer.evaluate()?
        );
    }
    Ok(())
}
