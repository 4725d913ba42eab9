//! One run, with checkpoints.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use adaloss_core::{
    format::Element,
    policy::Operands,
    scale::Scale,
    scaler::{Totals, Visit},
    statistics::Histogram,
    unscale::Verdict,
};
use adaloss_hal::Plain;
use adaloss_train::{
    checkpoint::Checkpoint,
    data::{
        Dataset,
        loader::{self, Loader, Progress},
    },
    file::check_file,
    layer::{Machine, Observer},
    method::Method,
    ranks::{Common, Counts, Reducer, Reduction, Sent, Team},
    say,
    task::Task,
    trainer::{Ranks, Settings, Trainer},
    weights::Taken,
};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::{
    RunArgs,
    interrupt::{Interrupt, Interrupted},
    launch::Launch,
    machine::{DeviceName, Job, check, dispatch},
    say_left_out,
};

/// On what machine a network is trained.
#[derive(Args, Clone, Debug)]
pub(crate) struct HowArgs {
    /// The device: cpu; portable, which is slow; or cuda, or cuda:1, which a program with the feature `cuda` has.
    #[arg(long, default_value_t)]
    device: DeviceName,
    /// Threads of the device; how many does not change a bit of the run.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Share each step among so many ranks, each a thread that has its part of the batch.  Where mpirun starts the ranks, this is
    /// left out.
    #[arg(long, value_name = "N", default_value_t = 1)]
    ranks: usize,
    /// What gradients are summed over ranks in: f32, or another format, in which each has a scale that is agreed on first
    /// (e5m2:agreed, or e5m2), follows the steps before (e5m2:measured), or is always 2^K (e5m2:fixed:K).
    #[arg(long, value_name = "FORMAT", default_value_t)]
    reduce: Reduction,
    /// Kibibytes of f32 gradients that are summed over ranks at once.
    #[arg(long, value_name = "KIB", default_value_t = (Reducer::BUCKET / 256) as u64, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    bucket: u64,
    /// Over which samples a batch is normalised: each micro-batch by itself, so that the number of ranks does not matter (alone), or
    /// those that the ranks have at a time together, as SyncBatchNorm of PyTorch does (together).
    #[arg(long, default_value = "alone")]
    batch_norm: BatchNorm,
    /// Seconds that a rank waits for the others before it gives up.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    deadline: u64,
    /// Threads that read samples ahead of the step; how many does not change a bit of the run [default: as many as there are cores
    /// where samples are read from files, shared among the ranks of this process; none where they are in memory].
    #[arg(long, value_name = "N")]
    readers: Option<usize>,
    /// Micro-batches that they read ahead, and memory is needed for.
    #[arg(long, value_name = "N", default_value_t = 4)]
    ahead: usize,
}

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
    #[command(flatten)]
    how: HowArgs,
    /// Go on from this checkpoint.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Write a checkpoint here at the end, when the run is interrupted, and when it cannot go on.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Write it every so many steps, too.
    #[arg(long, value_name = "STEPS", requires = "save", value_parser = clap::value_parser!(u64).range(1..))]
    save_every: Option<u64>,
    /// Begin with the weights of this file, of the format safetensors, by torchvision's names where it has the network: those of VGG-16
    /// serve SSD as well.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    weights: Option<PathBuf>,
    /// Write the weights to this file at the end, likewise.
    #[arg(long, value_name = "FILE")]
    weights_out: Option<PathBuf>,
    /// Stop after this step, as if interrupted.
    #[arg(long, value_name = "STEP")]
    until: Option<u64>,
    /// Print every certificate, every replay, and every scale that is another one than before.
    #[arg(long)]
    decisions: bool,
    #[command(flatten)]
    run: RunArgs,
}

impl HowArgs {
    /// Finds out what ranks there are.
    ///
    /// # Errors
    ///
    /// As [`Launch::new`].
    pub(crate) fn launch(&self) -> Result<Launch> {
        Launch::new(self.ranks, Duration::from_secs(self.deadline))
    }

    /// Checks that a run is possible on this machine.
    ///
    /// # Errors
    ///
    /// The device cannot be had, or no network computes in these formats.
    pub(crate) fn check(&self, settings: &Settings) -> Result<()> {
        check(self.device, self.threads, settings)
    }

    /// Returns what reads samples ahead, if something is to.
    fn loader(&self, dataset: &Arc<dyn Dataset>) -> Result<Option<Loader>> {
        let usual = || match dataset.reads_files() {
            true => thread::available_parallelism().map_or(1, usize::from).div_ceil(self.ranks),
            false => 0,
        };
        let threads = self.readers.unwrap_or_else(usual);
        if threads == 0 {
            return Ok(None);
        }
        let options = loader::Options { threads, ahead: self.ahead };
        Loader::new(Arc::clone(dataset), options).map(Some)
    }
}

/// Over which samples a batch is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BatchNorm {
    /// Those of a micro-batch.
    Alone,
    /// Those of the micro-batches that the ranks have at a time.
    Together,
}

/// Trains one network.
///
/// # Errors
///
/// Something asked for is impossible, a file cannot be read or written, or training cannot go on.
pub(crate) fn train(args: &TrainArgs) -> Result<()> {
    let TrainArgs { how, until, decisions, resume, save, save_every, weights, weights_out, .. } =
        args;
    let launch = how.launch()?;
    let prepared = launch.all_or_none(prepare(args, launch.writes()))?;
    let Prepared { task, dataset, settings, interrupt } = prepared;
    let keep = Keep {
        resume: resume.as_deref(),
        save: save.as_deref(),
        save_every: *save_every,
        weights: weights.as_deref(),
        weights_out: weights_out.as_deref(),
    };
    let one = OneRun {
        how,
        until: *until,
        prints: *decisions,
        judges_end: false,
        keep,
        task: &task,
        dataset: &dataset,
        settings,
        interrupt: &interrupt,
    };
    one.start(&launch).map(|_| ())
}

/// What a run begins with.
struct Prepared {
    task: Task,
    dataset: Arc<dyn Dataset>,
    settings: Settings,
    interrupt: Interrupt,
}

/// Finds out what can be known to be impossible before anything is trained.
fn prepare(args: &TrainArgs, writes: bool) -> Result<Prepared> {
    for path in [&args.save, &args.weights_out].into_iter().flatten().filter(|_| writes) {
        check_file(path)?;
    }
    let task = args.run.task()?;
    let dataset = task.open(&args.run.data)?.into();
    let period = args.period.unwrap_or(args.method.usual_period());
    let settings = args.run.settings(args.method, period);
    args.method.config(settings.format.0, period)?;
    args.how.check(&settings)?;
    Ok(Prepared { task, dataset, settings, interrupt: Interrupt::watch()? })
}

/// What is kept of a run in files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keep<'a> {
    /// The checkpoint to go on from.
    pub(crate) resume: Option<&'a Path>,
    /// Where one is written at the end, and when the run cannot go on.
    pub(crate) save: Option<&'a Path>,
    /// In how many steps one is written as well.
    pub(crate) save_every: Option<u64>,
    /// The weights to begin with, where there is no checkpoint.
    pub(crate) weights: Option<&'a Path>,
    /// Where they are written at the end.
    pub(crate) weights_out: Option<&'a Path>,
}

/// A run of one network.
pub(crate) struct OneRun<'a> {
    /// On what machine.
    pub(crate) how: &'a HowArgs,
    /// The step after which it stops, as if interrupted.
    pub(crate) until: Option<u64>,
    /// Whether decisions are printed.
    pub(crate) prints: bool,
    /// Whether it is judged at its end, wherever that is; each epoch's end is judged anyway.
    pub(crate) judges_end: bool,
    /// What is kept of it.
    pub(crate) keep: Keep<'a>,
    /// What is learnt.
    pub(crate) task: &'a Task,
    /// From what.
    pub(crate) dataset: &'a Arc<dyn Dataset>,
    /// How scales are chosen.
    pub(crate) settings: Settings,
    /// What ends it.
    pub(crate) interrupt: &'a Interrupt,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ended {
    /// The task's metric on the test samples at the end, from 0 to 1, if it was judged there.
    pub(crate) metric: Option<f64>,
    /// What the scaler counted.
    pub(crate) totals: Totals,
}

impl OneRun<'_> {
    /// Does the run, or goes on with it; returns how it ended, where this process has the first rank.
    ///
    /// # Errors
    ///
    /// A checkpoint cannot be read or written, training cannot go on, or it was interrupted.
    pub(crate) fn start(&self, launch: &Launch) -> Result<Option<Ended>> {
        dispatch(self.how.device, self.how.threads, &self.settings, Start { run: self, launch })
    }

    /// Returns what ranks have to have in common beside the run itself.
    fn plan(&self) -> String {
        let Self { how: HowArgs { bucket, .. }, until, keep, .. } = self;
        let Keep { save, resume, save_every, weights, .. } = keep;
        let [saves, resumes, begins] = [save, resume, weights].map(Option::is_some);
        format!(
            "sums of {bucket} KiB, ends at step {until:?}, saves {saves}, every {save_every:?} steps, \
             resumes {resumes}, has weights {begins}"
        )
    }
}

/// A run, and the ranks that have it.
struct Start<'a> {
    run: &'a OneRun<'a>,
    launch: &'a Launch,
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

impl Job for Start<'_> {
    type Output = Option<Ended>;

    fn run<D, W, G>(self, device: D) -> Result<Option<Ended>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G> + Machine<W, f32> + Clone + Send + Sync,
    {
        let Self { run, launch } = self;
        let ended = Mutex::new(None);
        launch.run(|team| {
            let is_first = team.is_none_or(Team::is_first);
            let trainer = begin::<D, W, G>(run, device.clone(), team)?;
            let of_rank = OneRank { run, trainer, is_first, judged: None }.run()?;
            if is_first {
                *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(of_rank);
            }
            Ok(())
        })?;
        Ok(ended.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Begins a run, or goes on from a checkpoint that the first rank reads.
fn begin<'a, D, W, G>(
    run: &'a OneRun<'_>,
    device: D,
    team: Option<&'a Team>,
) -> Result<Trainer<'a, D, W, G>>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    if let Some(team) = team {
        // What the ranks ask of each other, and when, follows from these.
        team.same("plan", &run.plan())?;
    }
    let &OneRun { how, keep, task, dataset, settings, .. } = run;
    let together = team.is_some() && how.batch_norm == BatchNorm::Together;
    let described = Checkpoint::describe(task, &settings, together);
    let resumed = match (keep.resume, team) {
        (None, _) => None,
        (Some(path), None) => Some((path, Checkpoint::read_bytes(path)?)),
        (Some(path), Some(team)) => {
            let read = if team.is_first() { Checkpoint::read_bytes(path) } else { Ok(Vec::new()) };
            Some((path, team.from_first(team.all_or_none(read)?)?))
        }
    };
    let begin = || match &resumed {
        Some((path, bytes)) => {
            let checkpoint = Checkpoint::of_bytes(bytes, path, &described)?;
            Trainer::<D, W, G>::resume(task, &**dataset, settings, device, checkpoint)
        }
        None => {
            let mut trainer = Trainer::<D, W, G>::new(task, &**dataset, settings, device)?;
            if let Some(path) = keep.weights {
                let Taken { taken, left } = trainer.take_weights(path)?;
                if team.is_none_or(Team::is_first) {
                    say_taken(path, taken, &left);
                }
            }
            Ok(trainer)
        }
    };
    let mut trainer = match team {
        Some(team) => team.all_or_none(begin())?,
        None => begin()?,
    };
    if let Some(team) = team {
        let reducer = Reducer::new(how.reduce, 256 * how.bucket as usize);
        let normalises_together = how.batch_norm == BatchNorm::Together;
        trainer.share(Ranks { team, reducer, normalises_together })?;
    }
    let loader = how.loader(dataset);
    let loader = match team {
        Some(team) => team.all_or_none(loader)?,
        None => loader?,
    };
    if let Some(loader) = loader {
        trainer.read_ahead(loader);
    }
    if team.is_none() && how.reduce != Reduction::default() {
        say!("there is one rank: nothing is summed over ranks, and --reduce has no effect");
    }
    if team.is_none_or(Team::is_first) {
        say!("{}: {}; {}", task.name, task.model, dataset.describe());
    }
    Ok(trainer)
}

/// Says which tensors were taken from a file of weights.
fn say_taken(path: &Path, taken: usize, left: &[String]) {
    say!("{taken} tensors are from {}", path.display());
    if !left.is_empty() {
        say!("random: {}", left.join(", "));
    }
}

/// A rank of a run; the first one prints, and writes files.
struct OneRank<'a, D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    run: &'a OneRun<'a>,
    trainer: Trainer<'a, D, W, G>,
    is_first: bool,
    /// The metric, and behind which step it was found.
    judged: Option<(u64, f64)>,
}

impl<D, W, G> OneRank<'_, D, W, G>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    fn run(mut self) -> Result<Ended> {
        let prints = self.run.prints && self.is_first;
        let mut narrator = Narrator { step: 0, prints, scales: HashMap::new() };
        let last = self.run.until.unwrap_or(u64::MAX).min(self.trainer.last_step());
        let mut ended = Ok(());
        while self.trainer.step_count() < last && ended.is_ok() {
            ended = self.one_step(&mut narrator, last)?;
            let step = self.trainer.step_count();
            let is_due = |every| step.is_multiple_of(every);
            if self.run.keep.save_every.is_some_and(is_due) && step < last && ended.is_ok() {
                self.save()?;
            }
        }
        let saved = self.save();
        match (ended, saved) {
            (Ok(()), saved) => saved?,
            (ended, Ok(())) => ended?,
            // Why others are left alone is what they have to be told.
            (Err(ended), Err(error)) if self.trainer.ranks().is_some() => {
                return Err(error.context(format!(
                    "the last checkpoint is lost; it was to be made since {ended:#}"
                )));
            }
            (ended, Err(error)) => {
                ended.with_context(|| format!("the last checkpoint is lost ({error:#})"))?;
            }
        }
        if self.run.judges_end {
            self.judge(None)?;
        }
        if let (Some(path), true) = (self.run.keep.weights_out, self.is_first) {
            self.trainer.write_weights(path)?;
        }
        let done = self.trainer.step_count();
        let metric = self.judged.filter(|(step, _)| *step == done).map(|(_, metric)| metric);
        Ok(Ended { metric, totals: self.say_totals()? })
    }

    /// Judges the network behind the last step, unless it was, and says what was found.
    fn judge(&mut self, loss: Option<f64>) -> Result<()> {
        let done = self.trainer.step_count();
        if self.judged.is_some_and(|(step, _)| step == done) {
            return Ok(());
        }
        let metric = self.trainer.evaluate()?;
        self.judged = Some((done, metric));
        let percent = 100.0 * metric;
        match loss {
            Some(loss) => self.say(format_args!(
                "step {done:5}  loss {loss:.4}, on the test samples {percent:.1} %"
            )),
            None => self.say(format_args!("step {done:5}  on the test samples {percent:.1} %")),
        }
        Ok(())
    }

    /// Does one step and says what is worth saying; returns why training does not go on, if it does not.
    fn one_step(&mut self, narrator: &mut Narrator, last: u64) -> Result<Result<()>> {
        let Self { trainer, run, .. } = self;
        let interrupt = run.interrupt;
        let step = trainer.step_count();
        narrator.step = step;
        // Alone, an interrupt is looked for behind the step; other ranks have to be told before it.
        let is_alone = trainer.ranks().is_none();
        if !is_alone && interrupt.is_set() {
            trainer.ask_to_end();
        }
        let stepped = trainer.train_step(narrator)?;
        match stepped.verdict {
            Verdict::Apply => {}
            Verdict::Skip { layer, cause } => {
                self.say(format_args!("step {step:5}  skipped: {cause} in {layer}"));
            }
            verdict @ Verdict::Stop { .. } => {
                return Ok(Err(Common(format!("at step {step}: {verdict}")).into()));
            }
        }
        let done = self.trainer.step_count();
        if done.is_multiple_of(self.trainer.steps_per_epoch()) {
            self.judge(Some(stepped.loss))?;
        }
        let is_asked = if is_alone { interrupt.is_set() } else { stepped.ends };
        let is_ended = is_asked && done < last;
        let ended = if is_ended { Err(Interrupted) } else { Ok(()) };
        Ok(ended.with_context(|| format!("at step {done}")))
    }

    /// Writes a checkpoint, if one is wanted.
    fn save(&mut self) -> Result<()> {
        let Some(path) = self.run.keep.save else { return Ok(()) };
        let checkpoint = self.trainer.checkpoint()?;
        let saved = if self.is_first { checkpoint.write(path) } else { Ok(()) };
        match self.trainer.ranks() {
            Some(Ranks { team, .. }) => team.all_or_none(saved)?,
            None => saved?,
        }
        let step = self.trainer.step_count();
        self.say(format_args!("step {step:5}  saved to {}", path.display()));
        Ok(())
    }

    fn say_totals(&self) -> Result<Totals> {
        let totals = self.trainer.totals_of_all()?;
        self.say(format_args!(
            "{} steps, {} skipped, {} visits replayed, {} certificates, {} promises broken",
            totals.steps, totals.skipped, totals.recovered, totals.certificates, totals.broken
        ));
        self.say_reading();
        let Some(Ranks { team, reducer, .. }) = self.trainer.ranks() else { return Ok(totals) };
        let Sent { operations, bytes } = team.sent()?;
        let Counts { buckets, again, took, waited, .. } = reducer.counts();
        self.say(format_args!(
            "{} ranks; sums in {}, {buckets} of them, {again} again in f32; each rank sent {:.1} MB in \
             {operations} operations",
            team.size(),
            reducer.reduction(),
            bytes as f64 / 1.0e6,
        ));
        self.say(format_args!(
            "sums took {:.2} s; behind the backward pass {:.2} s were waited for them",
            took.as_secs_f64(),
            waited.as_secs_f64(),
        ));
        Ok(totals)
    }

    /// Says how samples were read, and which were not.
    fn say_reading(&self) {
        if let Some(loader) = self.trainer.loader() {
            let Progress { samples, waited, .. } = loader.progress();
            self.say(format_args!(
                "{samples} samples were read by {} threads; {:.2} s were waited for them",
                loader.options().threads,
                waited.as_secs_f64()
            ));
        }
        if self.is_first {
            say_left_out(&**self.run.dataset);
        }
    }

    /// Says something, if this is the first rank.
    fn say(&self, text: fmt::Arguments<'_>) {
        if self.is_first {
            say!("{text}");
        }
    }
}
