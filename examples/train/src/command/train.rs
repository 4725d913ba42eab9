//! One run, with checkpoints.

use std::{collections::HashMap, path::PathBuf};

use adaloss_core::{
    format::Element, policy::Operands, scale::Scale, scaler::Visit, statistics::Histogram,
    unscale::Verdict,
};
use adaloss_hal::Plain;
use adaloss_train::{
    checkpoint::Checkpoint,
    data::Dataset,
    file::check_file,
    layer::{Machine, Observer},
    method::Method,
    say,
    task::Task,
    trainer::{Settings, Trainer},
};
use anyhow::{Context, Result, anyhow};
use clap::Args;

use super::{
    RunArgs,
    interrupt::Interrupt,
    machine::{DeviceName, Job, dispatch},
};

/// What is trained.
#[derive(Args, Debug)]
pub(crate) struct TrainArgs {
    /// How scales are chosen: see those of compare.  mx is for 8-bit formats.
    #[arg(long, default_value = "measured")]
    method: Method,
    /// Steps from one certificate of a tensor to the next, by default 100; of normal and range, visits
    /// from one decision to the next, by default 10.
    #[arg(long)]
    period: Option<u32>,
    /// The device: cpu, or portable, which is slow.
    #[arg(long, default_value_t)]
    device: DeviceName,
    /// Threads of the device; how many does not change a bit of the run.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Go on from this checkpoint.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Write a checkpoint here at the end, when the run is interrupted, and when it cannot go on.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Write it every so many steps, too.
    #[arg(long, value_name = "STEPS", requires = "save", value_parser = clap::value_parser!(u64).range(1..))]
    save_every: Option<u64>,
    /// Stop after this step, as if interrupted.
    #[arg(long, value_name = "STEP")]
    until: Option<u64>,
    /// Print every certificate, every replay, and every scale that is another one than before.
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
    if let Some(path) = &args.save {
        check_file(path)?;
    }
    let task = args.run.task()?;
    let dataset = task.open(&args.run.data)?;
    let period = args.period.unwrap_or(args.method.usual_period());
    let settings = args.run.settings(args.method, period);
    args.method.config(settings.format.0, period)?; // before anything is made for it
    let interrupt = Interrupt::watch()?;
    let job = OneRun { args, task: &task, dataset: &*dataset, settings, interrupt };
    dispatch(args.device, args.threads, &settings, job)
}

struct OneRun<'a> {
    args: &'a TrainArgs,
    task: &'a Task,
    dataset: &'a dyn Dataset,
    settings: Settings,
    interrupt: Interrupt,
}

/// Prints what becomes of scales.
struct Narrator {
    step: u64,
    prints: bool,
    /// The scale that each tensor left with when it was visited last.
    scales: HashMap<String, Scale>,
}

impl Observer for Narrator {
    fn watches(&self) -> bool {
        self.prints
    }

    fn visited(&mut self, name: &str, visit: &Visit, _: &Histogram, _: Option<&Operands>) {
        let (step, scale) = (self.step, visit.outgoing);
        let before = self.scales.insert(name.to_owned(), scale);
        if visit.replayed {
            say!("step {step:5}  {name:24} overflowed, replayed at {scale}");
        } else if before.is_some_and(|before| before != scale) {
            say!("step {step:5}  {name:24} leaves at {scale}");
        }
        if let Some(certificate) = visit.certificate {
            say!("step {step:5}  {name:24} {certificate}");
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
        let Self { args, task, dataset, settings, interrupt } = self;
        let mut trainer = match &args.resume {
            Some(path) => {
                let run = Checkpoint::describe(task, &settings);
                let checkpoint = Checkpoint::read(path, &run)?;
                Trainer::<D, W, G>::resume(task, dataset, settings, device, checkpoint)?
            }
            None => Trainer::<D, W, G>::new(task, dataset, settings, device)?,
        };
        say!("{}: {}; {}", task.name, task.model, dataset.describe());
        let mut narrator = Narrator { step: 0, prints: args.decisions, scales: HashMap::new() };
        let last = args.until.unwrap_or(u64::MAX).min(trainer.last_step());
        let mut ended = Ok(());
        while trainer.step_count() < last && ended.is_ok() {
            ended = one_step(&mut narrator, &mut trainer)?;
            if ended.is_ok() && trainer.step_count() < last {
                ended =
                    interrupt.check().with_context(|| format!("at step {}", trainer.step_count()));
            }
            let is_due = |every| trainer.step_count().is_multiple_of(every);
            if args.save_every.is_some_and(is_due) && trainer.step_count() < last && ended.is_ok() {
                save(args, &mut trainer)?;
            }
        }
        let saved = save(args, &mut trainer);
        match (ended, saved) {
            (Ok(()), saved) => saved?,
            (ended, Ok(())) => ended?,
            (ended, Err(error)) => {
                ended.with_context(|| format!("the last checkpoint is lost ({error:#})"))?;
            }
        }
        let totals = trainer.totals();
        say!(
            "{} steps, {} skipped, {} visits replayed, {} certificates, {} promises broken",
            totals.steps,
            totals.skipped,
            totals.recovered,
            totals.certificates,
            totals.broken
        );
        Ok(())
    }
}

/// Writes a checkpoint, if one is wanted.
fn save<D, W, G>(args: &TrainArgs, trainer: &mut Trainer<'_, D, W, G>) -> Result<()>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    if let Some(path) = &args.save {
        trainer.checkpoint()?.write(path)?;
        say!("step {:5}  saved to {}", trainer.step_count(), path.display());
    }
    Ok(())
}

/// Does one step and says what is worth saying; returns why training cannot go on, if it cannot.
fn one_step<D, W, G>(
    narrator: &mut Narrator,
    trainer: &mut Trainer<'_, D, W, G>,
) -> Result<Result<()>>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    let step = trainer.step_count();
    narrator.step = step;
    let stepped = trainer.train_step(narrator)?;
    match stepped.verdict {
        Verdict::Apply => {}
        Verdict::Skip { layer, cause } => say!("step {step:5}  skipped: {cause} in {layer}"),
        verdict @ Verdict::Stop { .. } => return Ok(Err(anyhow!("at step {step}: {verdict}"))),
    }
    if trainer.step_count().is_multiple_of(trainer.steps_per_epoch()) {
        say!(
            "step {:5}  loss {:.4}, on the test samples {:.1} %",
            trainer.step_count(),
            stepped.loss,
            100.0 * trainer.evaluate()?
        );
    }
    Ok(Ok(()))
}
