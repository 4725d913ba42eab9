//! Many runs side by side.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::{
    DataArgs,
    dataset::Dataset,
    method::{FormatName, Method},
    network::Task,
    report,
    schedule::ScheduleArgs,
    trainer::{Job, RunReport, Settings, Trainer, dispatch},
};

const TASKS: &str = "digits-mlp,digits-residual";
const FORMATS: &str = "binary16,binary16-flushing,e5m2,e4m3";
const METHODS: &str = "f32,none,fixed:4,fixed:12,fixed:20,backoff,amax,normal,measured";

/// What is compared.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Networks, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = TASKS)]
    tasks: Vec<Task>,
    /// Gradient formats; 8-bit ones go forward in binary16.
    #[arg(long, value_delimiter = ',', default_value = FORMATS)]
    formats: Vec<FormatName>,
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
    /// Where the figures go.
    #[arg(long, value_name = "FILE", default_value = "results.json")]
    out: PathBuf,
    #[command(flatten)]
    schedule: ScheduleArgs,
    #[command(flatten)]
    data: DataArgs,
}

/// What is calibrated.
#[derive(Args, Debug)]
pub struct CalibrateArgs {
    /// Networks, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = TASKS)]
    tasks: Vec<Task>,
    /// Gradient formats; 8-bit ones go forward in binary16.
    #[arg(long, value_delimiter = ',', default_value = FORMATS)]
    formats: Vec<FormatName>,
    /// Methods to compare.
    #[arg(long, value_delimiter = ',', default_value = "normal,measured")]
    methods: Vec<Method>,
    /// Periods to compare.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100")]
    periods: Vec<u32>,
    /// Where the figures go, if anywhere.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    schedule: ScheduleArgs,
    #[command(flatten)]
    data: DataArgs,
}

/// Trains with every method in every format and prints one table.
pub fn compare(args: &CompareArgs) -> Result<()> {
    ensure!(args.seeds > 0, "at least one seed is needed");
    check_folder(&args.out)?;
    let dataset = args.data.open()?;
    let mut runs = Vec::new();
    for &task in &args.tasks {
        for &method in &args.methods {
            // The baseline has one format, whatever the others are compared in.
            let baseline = [FormatName(adaloss_core::format::Format::BINARY32)];
            let formats = if method == Method::F32 { &baseline[..] } else { &args.formats };
            let paired = matches!(method, Method::F32 | Method::None | Method::Measured);
            let seeds = if paired || args.all_seeds { args.seeds } else { 1 };
            for &format in formats {
                runs.extend((0..seeds).map(|seed| Settings {
                    task,
                    format,
                    method,
                    seed,
                    period: args.period,
                    schedule: args.schedule.into(),
                }));
            }
        }
    }
    let reports = run_all(&runs, &dataset)?;
    report::print_comparison(&reports);
    report::write(&args.out, &args.schedule.into(), &reports)
}

/// Shows how often each method keeps the underflow it was asked for, at several periods.
pub fn calibrate(args: &CalibrateArgs) -> Result<()> {
    if let Some(out) = &args.out {
        check_folder(out)?;
    }
    let dataset = args.data.open()?;
    let mut runs = Vec::new();
    for &task in &args.tasks {
        for &format in &args.formats {
            for &method in &args.methods {
                runs.extend(args.periods.iter().map(|&period| Settings {
                    task,
                    format,
                    method,
                    seed: 0,
                    period,
                    schedule: args.schedule.into(),
                }));
            }
        }
    }
    let reports = run_all(&runs, &dataset)?;
    report::print_calibration(&reports);
    match &args.out {
        Some(out) => report::write(out, &args.schedule.into(), &reports),
        None => Ok(()),
    }
}

/// Refuses a file that could not be written before minutes are spent on its contents.
fn check_folder(out: &std::path::Path) -> Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    ensure!(
        folder.is_none_or(std::path::Path::is_dir) && !out.is_dir(),
        "{} cannot be written: it is a folder, or is in none that exists",
        out.display()
    );
    Ok(())
}

/// Runs on every core, one run each; the order of the reports is that of the settings.
fn run_all(runs: &[Settings], dataset: &Dataset) -> Result<Vec<RunReport>> {
    ensure!(!runs.is_empty(), "there is nothing to run");
    // Everything is checked before anything is run.
    for settings in runs {
        settings.schedule.check(dataset)?;
        settings.method.config(settings.format.0, settings.period)?;
    }
    let bar = ProgressBar::new(runs.iter().map(|run| run.schedule.steps(dataset)).sum());
    bar.set_style(ProgressStyle::with_template(
        "{msg} {bar:40} {pos}/{len} steps, {elapsed} of about {duration}",
    )?);
    bar.set_message(format!("{} runs", runs.len()));
    let reports = runs
        .par_iter()
        .map(|&settings| {
            let job = WholeRun { settings, dataset, bar: &bar };
            dispatch(settings.format, job).with_context(|| {
                let Settings { task, format, method, seed, .. } = settings;
                format!("{task} in {format} by {method}, seed {seed}")
            })
        })
        .collect();
    bar.finish_and_clear();
    reports
}

struct WholeRun<'a> {
    settings: Settings,
    dataset: &'a Dataset,
    bar: &'a ProgressBar,
}

impl Job for WholeRun<'_> {
    type Output = RunReport;

    fn run<W, G>(self) -> Result<RunReport>
    where
        W: adaloss_core::format::Element + adaloss_hal::Plain,
        G: adaloss_core::format::Element + adaloss_hal::Plain,
    {
        Trainer::<W, G>::new(self.settings, self.dataset)?.run(|steps| self.bar.inc(steps))
    }
}
