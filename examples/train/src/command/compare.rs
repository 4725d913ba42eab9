//! `compare` and `calibrate`: many runs side by side.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use adaloss_core::format::{Element, Format};
use adaloss_hal::Plain;
use adaloss_train::{
    console,
    data::{DataArgs, Dataset},
    layer::Machine,
    method::{FormatName, Method},
    report,
    results::{Results, RunReport, TaskReport},
    say,
    schedule::ScheduleArgs,
    task::Task,
    trainer::{Looks, Settings, Trainer},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use super::{
    interrupt::{Interrupt, Interrupted},
    machine::{DeviceName, Job, MOST_THREADS, dispatch},
    stored::Store,
};

/// Methods that are compared.
const METHODS: &str = "f32,none,fixed:4,fixed:12,fixed:20,backoff,amax,normal,measured";

/// The most seeds that can be asked for.
const MOST_SEEDS: u64 = 1000;

/// What is compared.
#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// Everything: all tasks in all formats by all methods with three seeds; hours.
    #[arg(long)]
    full: bool,
    /// Tasks with their gradient formats, for example digits-resnet:e4m3+binary16; separated by
    /// commas.  8-bit formats go forward in binary16.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "digits-resnet:binary16-flushing+e4m3,scenes-segnet:binary16-flushing+e5m2"
    )]
    tasks: Vec<Comparison>,
    /// Methods: f32, none, fixed:K (the scale 2^K), backoff, amax, normal, range, measured.
    #[arg(long, value_delimiter = ',', default_value = METHODS)]
    methods: Vec<Method>,
    /// Seeds of f32, none and measured: the same initial weights and batches for each of them.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Run every method with every seed, instead of the others with the first only.
    #[arg(long)]
    all_seeds: bool,
    /// Steps from one certificate of a tensor to the next, by default 100; of normal and range, visits
    /// from one decision to the next, by default 10.
    #[arg(long)]
    period: Option<u32>,
    /// Runs at a time; by default one per core.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// The folder that the report goes to, and each run when it ends: the same comparison goes on from there.
    #[arg(long, value_name = "DIR", default_value = "report")]
    out: PathBuf,
    /// Run everything, even what an earlier comparison has left there.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    schedule: ScheduleArgs,
    #[command(flatten)]
    data: DataArgs,
}

/// A task and the gradient formats that it is trained in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Comparison {
    task: Task,
    formats: Vec<FormatName>,
}

impl std::str::FromStr for Comparison {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (task, formats) = text.split_once(':').unwrap_or((text, "binary16"));
        let formats = formats.split('+').map(str::parse).collect::<Result<_>>()?;
        Ok(Self { task: task.parse()?, formats: once(formats) })
    }
}

/// Returns what was named, in this order, once each.
fn once<T: PartialEq>(named: Vec<T>) -> Vec<T> {
    let mut once = Vec::new();
    for value in named {
        if !once.contains(&value) {
            once.push(value);
        }
    }
    once
}

/// Returns tasks that were named, in this order, each once and with all of its formats.
fn merged(named: &[Comparison]) -> Vec<Comparison> {
    let mut merged: Vec<Comparison> = Vec::new();
    for Comparison { task, formats } in named.iter().cloned() {
        match merged.iter_mut().find(|of| of.task == task) {
            Some(of) => of.formats = once([&of.formats[..], &formats].concat()),
            None => merged.push(Comparison { task, formats }),
        }
    }
    merged
}

impl CompareArgs {
    /// Returns the tasks with their formats, and the changes to their schedules made.
    fn comparisons(&self) -> Result<Vec<Comparison>> {
        let mut comparisons = merged(&self.tasks);
        if self.full {
            let formats = "binary16,binary16-flushing,bfloat16,e5m2,e4m3";
            let formats: Vec<FormatName> =
                formats.split(',').map(str::parse).collect::<Result<_>>()?;
            comparisons = Task::NAMES
                .iter()
                .map(|name| Ok(Comparison { task: name.parse()?, formats: formats.clone() }))
                .collect::<Result<_>>()?;
            comparisons.iter_mut().for_each(|comparison| comparison.task.lengthen());
        }
        for comparison in &mut comparisons {
            comparison.task.schedule = self.schedule.apply(comparison.task.schedule);
        }
        Ok(comparisons)
    }
}

/// One run to be done.
struct Planned<'a> {
    task: &'a Task,
    dataset: &'a dyn Dataset,
    settings: Settings,
}

/// Trains with every method in every format, prints tables and writes the report.
///
/// # Errors
///
/// Something asked for is impossible, which is found before anything is run; or a run failed.
pub(crate) fn compare(args: &CompareArgs) -> Result<()> {
    let start = Instant::now();
    ensure!(args.seeds > 0, "at least one seed is needed");
    ensure!(args.seeds <= MOST_SEEDS, "{} seeds are more than {MOST_SEEDS}", args.seeds);
    report::check_folder(&args.out)?;
    let store = Store::beside(&args.out, &args.data)?;
    let comparisons = args.comparisons()?;
    let datasets = open(&comparisons, &args.data)?;
    let mut plan = Vec::new();
    for (comparison, dataset) in comparisons.iter().zip(&datasets) {
        for method in once(args.methods.clone()) {
            // The baseline has one format, whatever the others are compared in.
            let baseline = [FormatName(Format::BINARY32)];
            let formats = if method == Method::F32 { &baseline[..] } else { &comparison.formats };
            let paired = matches!(method, Method::F32 | Method::None | Method::Measured);
            let seeds = if paired || args.all_seeds || args.full { args.seeds } else { 1 };
            for &format in formats {
                let period = args.period.unwrap_or(method.usual_period());
                plan.extend((0..seeds).map(|seed| Planned {
                    task: &comparison.task,
                    dataset: &**dataset,
                    settings: Settings { format, method, seed, period },
                }));
            }
        }
    }
    let looks = Looks { samples: 60, probes: 4, evaluations: if args.full { 20 } else { 12 } };
    let (runs, done_before) =
        run_all(&plan, looks, args.jobs, store.as_ref().map(|store| (store, args.again)))?;
    let tasks = describe(&comparisons, &datasets)?;
    let seconds = start.elapsed().as_secs_f64();
    let results = Results { seconds, tasks, runs, done_before, ..this_machine(args.jobs) };
    say!("{}", report::print(&results));
    let ended = write_report(&args.out, &results, plan.len());
    if store.is_none() {
        ended
    } else if args.again {
        ended.context("the same command without --again goes on from here")
    } else {
        ended.context("the same command goes on from here")
    }
}

/// Writes a report; one that an interrupt has ended takes the place of no other that knows more.
///
/// # Errors
///
/// The report cannot be written, or has not all runs that were planned.
fn write_report(out: &Path, results: &Results, planned: usize) -> Result<()> {
    let done = results.runs.len();
    if done < planned && knows_more(out, results) {
        return Err(Interrupted).with_context(|| {
            format!(
                "{done} of {planned} runs are done, and the earlier report stays in {}",
                out.display()
            )
        });
    }
    report::write(out, results)?;
    say!("The report: {}", out.join("index.html").display());
    if done == planned {
        return Ok(());
    }
    Err(Interrupted).with_context(|| format!("the report has {done} of {planned} runs"))
}

/// Tells whether the report in a folder has runs that these results do not have, or cannot be read.
fn knows_more(out: &Path, results: &Results) -> bool {
    let path = out.join("results.json");
    let name = |run: &RunReport| {
        (run.task.clone(), run.format.clone(), run.method.clone(), run.seed, run.period)
    };
    let known: Vec<_> = results.runs.iter().map(name).collect();
    path.exists()
        && report::read(&path)
            .map_or(true, |earlier| earlier.runs.iter().any(|run| !known.contains(&name(run))))
}

/// What is calibrated.
#[derive(Args, Debug)]
pub(crate) struct CalibrateArgs {
    /// Tasks with their gradient formats; separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "digits-resnet:binary16+binary16-flushing+e5m2+e4m3"
    )]
    tasks: Vec<Comparison>,
    /// Methods to compare.
    #[arg(long, value_delimiter = ',', default_value = "normal,measured")]
    methods: Vec<Method>,
    /// Periods of normal and range, which decide once in one; other methods move their scales at every
    /// step, and run once.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100")]
    periods: Vec<u32>,
    /// Runs at a time; by default one per core.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// The folder that the figures go to, if any.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    schedule: ScheduleArgs,
    #[command(flatten)]
    data: DataArgs,
}

/// Shows how often each method keeps the underflow it was asked for, at several periods where a period
/// lies between two decisions.
///
/// # Errors
///
/// As [`compare`].
pub(crate) fn calibrate(args: &CalibrateArgs) -> Result<()> {
    let start = Instant::now();
    if let Some(out) = &args.out {
        report::check_folder(out)?;
    }
    let mut comparisons = merged(&args.tasks);
    for comparison in &mut comparisons {
        comparison.task.schedule = args.schedule.apply(comparison.task.schedule);
    }
    let datasets = open(&comparisons, &args.data)?;
    let mut plan = Vec::new();
    for (comparison, dataset) in comparisons.iter().zip(&datasets) {
        for &format in &comparison.formats {
            for method in once(args.methods.clone()) {
                let periods = match method.decides_by_period() {
                    true => once(args.periods.clone()),
                    false => vec![method.usual_period()],
                };
                plan.extend(periods.into_iter().map(|period| Planned {
                    task: &comparison.task,
                    dataset: &**dataset,
                    settings: Settings { format, method, seed: 0, period },
                }));
            }
        }
    }
    // Every step counts, and no accuracy is asked for.
    let looks = Looks { samples: u64::MAX, probes: 0, evaluations: 1 };
    let (runs, done_before) = run_all(&plan, looks, args.jobs, None)?;
    let tasks = describe(&comparisons, &datasets)?;
    let seconds = start.elapsed().as_secs_f64();
    let results = Results { seconds, tasks, runs, done_before, ..this_machine(args.jobs) };
    say!("{}", report::print_windows(&results));
    match &args.out {
        Some(out) => write_report(out, &results, plan.len()),
        None if results.runs.len() == plan.len() => Ok(()),
        None => Err(Interrupted.into()),
    }
}

/// Opens each task's data set.
fn open(comparisons: &[Comparison], data: &DataArgs) -> Result<Vec<Box<dyn Dataset>>> {
    comparisons.iter().map(|comparison| comparison.task.open(data)).collect()
}

/// Returns what does not depend on the runs; the memory is the most so far.
fn this_machine(jobs: Option<usize>) -> Results {
    Results {
        version: Results::VERSION,
        adaloss: env!("CARGO_PKG_VERSION").into(),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        command: command_line(),
        threads: jobs.unwrap_or_else(rayon::current_num_threads),
        peak_memory_bytes: peak_memory(),
        ..Results::default()
    }
}

/// Returns the arguments as far as they are text.
fn command_line() -> String {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    arguments.join(" ")
}

/// Returns the peak resident memory from Linux's process file system.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Describes the tasks for the report.
fn describe(comparisons: &[Comparison], datasets: &[Box<dyn Dataset>]) -> Result<Vec<TaskReport>> {
    let tasks = comparisons.iter().zip(datasets);
    tasks.map(|(comparison, dataset)| comparison.task.describe(&**dataset)).collect()
}

/// Runs on every core, one run each; the order of the reports is that of the plan, from which those are missing that an
/// interrupt has ended.  The number is of those that were done before.
///
/// Runs are stored when they end; those that are stored are not done again, unless that is asked for.
fn run_all(
    plan: &[Planned<'_>],
    looks: Looks,
    jobs: Option<usize>,
    store: Option<(&Store, bool)>,
) -> Result<(Vec<RunReport>, usize)> {
    ensure!(!plan.is_empty(), "there is nothing to run");
    ensure!(
        jobs.is_none_or(|jobs| (1..=MOST_THREADS).contains(&jobs)),
        "runs at a time have to be 1 to {MOST_THREADS}"
    );
    // Everything is checked before anything is run.
    for Planned { task, dataset, settings } in plan {
        task.schedule.check(*dataset)?;
        settings.method.config(settings.format.0, settings.period)?;
    }
    let interrupt = Interrupt::watch()?;
    let steps = plan.iter().map(|run| run.task.schedule.steps(run.dataset)).sum();
    let bar = ProgressBar::new(steps);
    bar.set_style(ProgressStyle::with_template(
        "{msg} {bar:40} {pos}/{len} steps, {elapsed} of about {duration}",
    )?);
    bar.set_message(format!("{} runs", plan.len()));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs.unwrap_or(0)).build()?;
    let (done, done_before) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let reports = pool.install(|| {
        let run = |planned: &Planned<'_>| -> Result<Option<RunReport>> {
            let &Planned { task, dataset, settings } = planned;
            let Settings { format, method, seed, .. } = settings;
            let name = || format!("{} in {format} by {method}, seed {seed}", task.name);
            let key = store
                .map(|(store, again)| (store, again, store.key(task, dataset, settings, looks)));
            let before = key
                .as_ref()
                .filter(|(_, again, _)| !again)
                .and_then(|(store, _, key)| store.get(key));
            let is_new = before.is_none();
            let run = match before {
                Some(run) => {
                    bar.inc(task.schedule.steps(dataset));
                    run
                }
                None if interrupt.is_set() => return Ok(None),
                None => {
                    // Runs side by side have one thread each; a run is the same with any number.
                    let job = WholeRun { planned, looks, bar: &bar, interrupt: &interrupt };
                    match dispatch(DeviceName::Cpu, 1, format, job) {
                        Err(error) if error.is::<Interrupted>() => return Ok(None),
                        other => other.with_context(name)?,
                    }
                }
            };
            if let (true, Some((store, _, key))) = (is_new, &key) {
                store.put(key, &run);
            }
            let nth = 1 + done.fetch_add(1, Relaxed);
            done_before.fetch_add(usize::from(!is_new), Relaxed);
            if bar.is_hidden() {
                let (percent, before) =
                    (100.0 * run.metric, if is_new { "" } else { ", done before" });
                console::note(format_args!(
                    "{nth} of {}: {}: {percent:.1} %{before}",
                    plan.len(),
                    name()
                ));
            }
            Ok(Some(run))
        };
        // One by one, so that the longest ones do not gather at the end.
        plan.par_iter().with_max_len(1).map(run).collect::<Result<Vec<_>>>()
    });
    bar.finish_and_clear();
    let reports: Vec<_> = reports?.into_iter().flatten().collect();
    if reports.is_empty() {
        return Err(Interrupted).context("no run has ended");
    }
    Ok((reports, done_before.into_inner()))
}

struct WholeRun<'a> {
    planned: &'a Planned<'a>,
    looks: Looks,
    bar: &'a ProgressBar,
    interrupt: &'a Interrupt,
}

impl Job for WholeRun<'_> {
    type Output = RunReport;

    fn run<D, W, G>(self, device: D) -> Result<RunReport>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G> + Machine<W, f32> + Clone,
    {
        let &Planned { task, dataset, settings } = self.planned;
        let trainer = Trainer::<D, W, G>::new(task, dataset, settings, device.clone())?;
        let mut shown = 0;
        let mut show = |done| {
            self.bar.inc(done - shown);
            shown = done;
        };
        let report = trainer.run(self.looks, device, |done| {
            show(done);
            self.interrupt.check()
        })?;
        show(task.schedule.steps(dataset));
        Ok(report)
    }
}
