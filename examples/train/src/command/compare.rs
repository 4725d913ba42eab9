//! `compare` and `calibrate`: many runs side by side.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use adaloss_core::format::Format;
use adaloss_train::{
    data::{DataArgs, Dataset},
    method::{FormatName, Method},
    report,
    results::{Results, RunReport},
    say,
    schedule::ScheduleArgs,
    trainer::{Measurements, Settings},
};
use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{
    interrupt::Interrupted,
    places::{Comparison, GALLERY, USUAL, describe, merged, once, open},
    runs::{Done, How, Planned, run_all, this_machine},
    say_left_out,
    stored::Store,
};

/// The methods that are usually compared.
const METHODS: &str = "f32,none,backoff,amax,measured";

/// The methods of the gallery.
const GALLERY_METHODS: &str = "f32,none,backoff,backoff-per-loss,amax,mx,measured";

/// The methods of the full comparison.
const ALL_METHODS: &str = "f32,none,fixed:12,backoff,backoff-per-loss,amax,mx,normal,measured";

/// The most seeds that can be asked for.
const MOST_SEEDS: u64 = 1000;

/// What is compared.
#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// The gallery: every place that makes it hard for one way to choose scales or another, with runs of some twenty
    /// seconds of one core at most and ten seeds; three quarters of an hour of two cores.
    #[arg(long, conflicts_with_all = ["full", "tasks"])]
    gallery: bool,
    /// Everything: the gallery, and all ordinary tasks in all formats by more methods; hours.
    #[arg(long, conflicts_with = "tasks")]
    full: bool,
    /// Tasks with their gradient formats, for example digits-resnet:e4m3+binary16, or with a number of epochs
    /// digits-resnet@10:e4m3; separated by commas.  8-bit formats go forward in binary16.  A file that ends in .toml is a recipe
    /// that counts in steps, and learns from --data: examples/train/recipes/short/camvid-segnet.toml:e4m3.
    #[arg(long, value_delimiter = ',', default_value = USUAL)]
    tasks: Vec<Comparison>,
    /// Methods: f32, none, fixed:K (the scale 2^K), backoff, backoff-skip, backoff-per-loss, mx, amax, normal, range,
    /// measured.  With none and a format of 16 bits goes bfloat16 without scaling.  backoff saturates in 8 bits, and backoff-skip
    /// skips the step, as PyTorch does; it is left out in other formats.  backoff-per-loss has a backward pass and a
    /// dynamic scale for each loss; it is backoff where there is one loss, and is left out there if backoff is compared as
    /// well.  mx has a scale for each block of 32 elements of 8 bits, and is left out in other formats.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = METHODS,
        default_value_ifs([("full", "true", ALL_METHODS), ("gallery", "true", GALLERY_METHODS)])
    )]
    methods: Vec<Method>,
    /// Seeds of every method: the same initial weights and batches for each of them.
    #[arg(
        long,
        default_value_t = 5,
        default_value_ifs([("full", "true", "3"), ("gallery", "true", "10")])
    )]
    seeds: u64,
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

impl CompareArgs {
    /// Returns the tasks with their formats, and the changes to their schedules made.
    fn comparisons(&self) -> Result<Vec<Comparison>> {
        let named = match self {
            Self { full: true, .. } => Comparison::full()?,
            Self { gallery: true, .. } => Comparison::list(&GALLERY.join(","))?,
            _ => self.tasks.clone(),
        };
        merged(&named, &self.schedule)
    }
}

/// Runs in the order in which they begin, and the tables that are complete when some of them have ended.
struct Plan<'a> {
    runs: Vec<Planned<'a>>,
    tables: Vec<PlannedTable<'a>>,
}

/// The table of a task in a format.
struct PlannedTable<'a> {
    task: &'a str,
    format: FormatName,
    /// Which runs are in it.
    runs: Vec<usize>,
}

impl<'a> Plan<'a> {
    fn of(
        args: &CompareArgs,
        comparisons: &'a [Comparison],
        datasets: &'a [Box<dyn Dataset>],
    ) -> Self {
        let mut plan = Self { runs: Vec::new(), tables: Vec::new() };
        let methods = once(args.methods.clone());
        for (comparison, dataset) in comparisons.iter().zip(datasets) {
            let mut add = |method: Method, format| {
                let period = args.period.unwrap_or(method.usual_period());
                let first = plan.runs.len();
                plan.runs.extend((0..args.seeds).map(|seed| Planned {
                    task: &comparison.task,
                    dataset: &**dataset,
                    settings: Settings { format, method, seed, period },
                }));
                first..plan.runs.len()
            };
            // These have one format, whatever the others are compared in.
            let mut shared = Vec::new();
            if methods.contains(&Method::F32) {
                shared.extend(add(Method::F32, FormatName(Format::BINARY32)));
            }
            if let Some(format) = comparison.unscaled(&methods) {
                shared.extend(add(Method::None, format));
            }
            for &format in &comparison.formats {
                let mut runs = shared.clone();
                let rivals = methods.iter().filter(|&&method| method != Method::F32);
                for &method in rivals.filter(|method| method.is_for(format)) {
                    if !is_another(method, comparison, &methods) {
                        runs.extend(add(method, format));
                    }
                }
                plan.tables.push(PlannedTable { task: &comparison.task.name, format, runs });
            }
        }
        plan
    }
}

/// Tells whether a method is the same on a task as another one that is asked for.
fn is_another(method: Method, comparison: &Comparison, methods: &[Method]) -> bool {
    match method {
        Method::BackoffPerLoss(interval) => {
            !comparison.task.model.has_two_losses() && methods.contains(&Method::Backoff(interval))
        }
        _ => false,
    }
}

/// Trains with every method in every format, prints tables and writes the report.
///
/// # Errors
///
/// Something asked for is impossible, which is found before anything is run; or a run failed.
pub(crate) fn compare(args: &CompareArgs) -> Result<()> {
    let start = Instant::now();
    ensure!(args.seeds > 0, "at least one seed is needed: --seeds 1 or more");
    ensure!(args.seeds <= MOST_SEEDS, "{} seeds are more than {MOST_SEEDS}", args.seeds);
    report::check_folder(&args.out)?;
    let store = Store::beside(&args.out, &args.data)?;
    let comparisons = args.comparisons()?;
    for &method in &args.methods {
        let mut formats = comparisons.iter().flat_map(|comparison| &comparison.formats);
        ensure!(
            formats.any(|&format| method.is_for(format)),
            "{method} is for 8-bit formats, and none of those asked for is one"
        );
    }
    let datasets = open(&comparisons, &args.data)?;
    let plan = Plan::of(args, &comparisons, &datasets);
    let measurements =
        Measurements { samples: 60, probes: 4, evaluations: if args.full { 20 } else { 12 } };
    let how = How { measurements, jobs: args.jobs, store: store.as_ref(), again: args.again };
    let tasks = describe(&comparisons, &datasets)?;
    let mut said = 0;
    let Done { runs, before } = run_all(&plan.runs, &how, |runs| {
        let mut tables = Vec::new();
        while let Some(table) = plan.tables.get(said)
            && table.runs.iter().all(|&run| runs[run].is_some())
        {
            let runs = table.runs.iter().filter_map(|&run| runs[run].clone()).collect();
            let results = Results { tasks: tasks.clone(), runs, ..Results::default() };
            tables.push(report::print_place(&results, table.task, &table.format.to_string()));
            said += 1;
        }
        (!tables.is_empty()).then(|| tables.join("\n"))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let results = Results { seconds, tasks, runs, done_before: before, ..this_machine(args.jobs) };
    // Those that an interrupt has kept from being complete.
    for PlannedTable { task, format, .. } in &plan.tables[said..] {
        let table = report::print_place(&results, task, &format.to_string());
        if !table.is_empty() {
            say!("{table}");
        }
    }
    say!("{}", report::print_summary(&results));
    datasets.iter().for_each(|dataset| say_left_out(&**dataset));
    let ended = write_report(&args.out, &results, plan.runs.len());
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
    let comparisons = merged(&args.tasks, &args.schedule)?;
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
    let measurements = Measurements { samples: u64::MAX, probes: 0, evaluations: 1 };
    let how = How { measurements, jobs: args.jobs, store: None, again: false };
    let Done { runs, before } = run_all(&plan, &how, |_| None)?;
    let tasks = describe(&comparisons, &datasets)?;
    let seconds = start.elapsed().as_secs_f64();
    let results = Results { seconds, tasks, runs, done_before: before, ..this_machine(args.jobs) };
    say!("{}", report::print_windows(&results));
    datasets.iter().for_each(|dataset| say_left_out(&**dataset));
    match &args.out {
        Some(out) => write_report(out, &results, plan.len()),
        None if results.runs.len() == plan.len() => Ok(()),
        None => Err(Interrupted.into()),
    }
}
