//! `compare` and `calibrate`: many runs side by side.

use std::{path::PathBuf, time::Instant};

use adaloss_core::format::{Element, Format};
use adaloss_hal::Plain;
use adaloss_train::{
    data::{DataArgs, Dataset},
    layer::Machine,
    method::{FormatName, Method},
    report,
    results::{Results, RunReport, TaskReport},
    schedule::ScheduleArgs,
    task::Task,
    trainer::{Looks, Settings, Trainer},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use super::machine::{DeviceName, Job, dispatch};

/// Methods that are compared.
const METHODS: &str = "f32,none,fixed:4,fixed:12,fixed:20,backoff,amax,normal,measured";

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
    /// Visits of a tensor from one decision to the next.
    #[arg(long, default_value_t = 10)]
    period: u32,
    /// Runs at a time; by default one per core.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// The folder that the report goes to.
    #[arg(long, value_name = "DIR", default_value = "report")]
    out: PathBuf,
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
        Ok(Self { task: task.parse()?, formats })
    }
}

impl CompareArgs {
    /// Returns the tasks with their formats, and the changes to their schedules made.
    fn comparisons(&self) -> Result<Vec<Comparison>> {
        let mut comparisons = self.tasks.clone();
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
    report::check_folder(&args.out)?;
    let comparisons = args.comparisons()?;
    let datasets = open(&comparisons, &args.data)?;
    let mut plan = Vec::new();
    for (comparison, dataset) in comparisons.iter().zip(&datasets) {
        for &method in &args.methods {
            // The baseline has one format, whatever the others are compared in.
            let baseline = [FormatName(Format::BINARY32)];
            let formats = if method == Method::F32 { &baseline[..] } else { &comparison.formats };
            let paired = matches!(method, Method::F32 | Method::None | Method::Measured);
            let seeds = if paired || args.all_seeds || args.full { args.seeds } else { 1 };
            for &format in formats {
                plan.extend((0..seeds).map(|seed| Planned {
                    task: &comparison.task,
                    dataset: &**dataset,
                    settings: Settings { format, method, seed, period: args.period },
                }));
            }
        }
    }
    let looks = Looks { samples: 60, probes: 4, evaluations: if args.full { 20 } else { 12 } };
    let runs = run_all(&plan, looks, args.jobs)?;
    let tasks = describe(&comparisons, &datasets)?;
    let results =
        Results { seconds: start.elapsed().as_secs_f64(), tasks, runs, ..this_machine(args.jobs) };
    println!("{}", report::print(&results));
    report::write(&args.out, &results)?;
    println!("The report: {}", args.out.join("index.html").display());
    Ok(())
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
    /// Periods to compare.
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

/// Shows how often each method keeps the underflow it was asked for, at several periods.
///
/// # Errors
///
/// As [`compare`].
pub(crate) fn calibrate(args: &CalibrateArgs) -> Result<()> {
    let start = Instant::now();
    if let Some(out) = &args.out {
        report::check_folder(out)?;
    }
    let mut comparisons = args.tasks.clone();
    for comparison in &mut comparisons {
        comparison.task.schedule = args.schedule.apply(comparison.task.schedule);
    }
    let datasets = open(&comparisons, &args.data)?;
    let mut plan = Vec::new();
    for (comparison, dataset) in comparisons.iter().zip(&datasets) {
        for &format in &comparison.formats {
            for &method in &args.methods {
                plan.extend(args.periods.iter().map(|&period| Planned {
                    task: &comparison.task,
                    dataset: &**dataset,
                    settings: Settings { format, method, seed: 0, period },
                }));
            }
        }
    }
    // Every step counts, and no accuracy is asked for.
    let looks = Looks { samples: u64::MAX, probes: 0, evaluations: 1 };
    let runs = run_all(&plan, looks, args.jobs)?;
    let tasks = describe(&comparisons, &datasets)?;
    let results =
        Results { seconds: start.elapsed().as_secs_f64(), tasks, runs, ..this_machine(args.jobs) };
    println!("{}", report::print_windows(&results));
    match &args.out {
        Some(out) => report::write(out, &results),
        None => Ok(()),
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
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        threads: jobs.unwrap_or_else(rayon::current_num_threads),
        peak_memory_bytes: peak_memory(),
        ..Results::default()
    }
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

/// Runs on every core, one run each; the order of the reports is that of the plan.
fn run_all(plan: &[Planned<'_>], looks: Looks, jobs: Option<usize>) -> Result<Vec<RunReport>> {
    ensure!(!plan.is_empty(), "there is nothing to run");
    // Everything is checked before anything is run.
    for Planned { task, dataset, settings } in plan {
        task.schedule.check(*dataset)?;
        settings.method.config(settings.format.0, settings.period)?;
    }
    let steps = plan.iter().map(|run| run.task.schedule.steps(run.dataset)).sum();
    let bar = ProgressBar::new(steps);
    bar.set_style(ProgressStyle::with_template(
        "{msg} {bar:40} {pos}/{len} steps, {elapsed} of about {duration}",
    )?);
    bar.set_message(format!("{} runs", plan.len()));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs.unwrap_or(0)).build()?;
    let reports = pool.install(|| {
        let run = |planned: &Planned<'_>| {
            let Settings { format, method, seed, .. } = planned.settings;
            // Runs side by side have one thread each; a run is the same with any number.
            dispatch(DeviceName::Cpu, 1, format, WholeRun { planned, looks, bar: &bar })
                .with_context(|| {
                    format!("{} in {format} by {method}, seed {seed}", planned.task.name)
                })
        };
        // One by one, so that the longest ones do not gather at the end.
        plan.par_iter().with_max_len(1).map(run).collect()
    });
    bar.finish_and_clear();
    reports
}

struct WholeRun<'a> {
    planned: &'a Planned<'a>,
    looks: Looks,
    bar: &'a ProgressBar,
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
        trainer.run(self.looks, device, |steps| self.bar.inc(steps))
    }
}
