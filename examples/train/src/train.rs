//! One run, with checkpoints.

use std::path::PathBuf;

use adaloss_core::{
    format::Element, policy::Operands, scaler::Visit, statistics::Histogram, unscale::Verdict,
};
use adaloss_hal::Plain;
use anyhow::{Result, bail};
use clap::Args;

use crate::{
    NetworkArgs,
    checkpoint::Checkpoint,
    dataset::Dataset,
    method::Method,
    network::Observer,
    trainer::{Job, Trainer, dispatch},
};

/// What is trained.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// How scales are chosen.
    #[arg(long, default_value = "measured")]
    method: Method,
    /// Visits of a tensor from one decision to the next.
    #[arg(long, default_value_t = 10)]
    period: u32,
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
    network: NetworkArgs,
}

/// Trains one network.
pub fn train(args: &TrainArgs) -> Result<()> {
    let dataset = args.network.data.open()?;
    dispatch(args.network.format, OneRun { args, dataset: &dataset })
}

struct OneRun<'a> {
    args: &'a TrainArgs,
    dataset: &'a Dataset,
}

/// Prints decisions as they are made.
struct Narrator {
    step: u64,
    prints: bool,
}

impl Observer for Narrator {
    fn visited(
        &mut self,
        name: &str,
        visit: &Visit,
        _results: &Histogram,
        _operands: &dyn Fn() -> Option<Operands>,
    ) {
        if let (Some(certificate), true) = (visit.certificate, self.prints) {
            println!("step {:5}  {name:14} {certificate}", self.step);
        }
        if visit.replayed {
            println!("step {:5}  {name:14} overflowed, replayed at {}", self.step, visit.outgoing);
        }
    }
}

impl Job for OneRun<'_> {
    type Output = ();

    fn run<W: Element + Plain, G: Element + Plain>(self) -> Result<()> {
        let Self { args, dataset } = self;
        let settings = args.network.settings(args.method, args.period);
        let mut trainer = match &args.resume {
            Some(path) => {
                let checkpoint = Checkpoint::read(path, &settings)?;
                Trainer::<W, G>::resume(settings, dataset, checkpoint)?
            }
            None => Trainer::<W, G>::new(settings, dataset)?,
        };
        let last = args.until.unwrap_or(u64::MAX).min(trainer.last_step());
        while trainer.step_count() < last {
            let step = trainer.step_count();
            let mut narrator = Narrator { step, prints: args.decisions };
            match trainer.train_step(&mut narrator)? {
                Verdict::Apply => {}
                Verdict::Skip { layer, cause } => {
                    println!("step {step:5}  skipped: {cause} in {layer}");
                }
                Verdict::Stop { layer, cause, skipped } => bail!(
                    "training cannot go on at step {step}: {cause} in {layer}, \
                     {skipped} steps skipped in a row"
                ),
            }
            if trainer.step_count().is_multiple_of(trainer.steps_per_epoch()) {
                println!(
                    "step {:5}  test accuracy {:.1} %",
                    trainer.step_count(),
                    100.0 * trainer.accuracy()?
                );
            }
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
