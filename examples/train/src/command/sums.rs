//! `sums`: the same training, with gradients summed over ranks in one format after another.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use adaloss_core::{format::Element, unscale::Verdict};
use adaloss_hal::Plain;
use adaloss_train::{
    data::Dataset,
    file::{check_file, csv_of, write_whole},
    layer::{Diverged, Machine, NoObserver},
    method::Method,
    ranks::{Counts, Reducer, Reduction, Team, share},
    report, say,
    task::Task,
    trainer::{Ranks, Settings, Trainer},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{
    RunArgs,
    interrupt::{Interrupt, Interrupted},
    launch::{Launch, is_launched},
    machine::{DeviceName, Job, dispatch},
    say_left_out, steps_bar,
};

/// What is usually compared: without a scale, as PyTorch's hook for binary16 does it, with one for all buckets and steps, and
/// with one that is found.
const REDUCTIONS: &str = "f32,binary16:fixed:0,binary16:fixed:12,binary16:agreed,binary16:measured,\
    bfloat16:fixed:0,e5m2:fixed:0,e5m2:fixed:12,e5m2:agreed,e5m2:measured,e4m3:agreed,e4m3:measured";

/// How long a rank waits for the others.
const DEADLINE: Duration = Duration::from_secs(600);

/// What is trained, on how many ranks, and with which sums.
#[derive(Args, Debug)]
pub(crate) struct SumsArgs {
    /// How many ranks, each a thread; separated by commas.  A step has as many micro-batches as the most of them, so that
    /// sums in f32 are the same on any number.
    #[arg(long, value_delimiter = ',', default_value = "2,4,16")]
    ranks: Vec<usize>,
    /// What gradients are summed in: see --reduce of train; separated by commas.
    #[arg(long, value_delimiter = ',', default_value = REDUCTIONS)]
    reduce: Vec<Reduction>,
    /// Seeds: the same initial weights and batches for each kind of sums.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// How scales of activation gradients are chosen.
    #[arg(long, default_value = "measured")]
    method: Method,
    /// Kibibytes of f32 gradients that are summed at once.
    #[arg(long, value_name = "KIB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    bucket: u64,
    /// Write every run here, as CSV.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
struct Row {
    task: String,
    ranks: usize,
    sums: String,
    seed: u64,
    /// Bytes that a rank sent for each value of a gradient.
    bytes_per_value: f64,
    /// The median over steps of the norm of the error over that of the sum in f32.
    error: f64,
    /// The same of the gradient that is furthest off in each step.
    worst_error: f64,
    /// Buckets that were summed again in f32, of a thousand.
    again_per_1000: f64,
    skipped: u64,
    /// Steps that were done.
    steps: u64,
    /// The task's metric at the end; none where training could not go on.
    metric: Option<f64>,
}

/// Trains with each kind of sums, prints a table, and writes the runs.
///
/// # Errors
///
/// Something asked for is impossible or cannot be written, or a run failed.
pub(crate) fn sums(args: &SumsArgs) -> Result<()> {
    if let Some(path) = &args.out {
        check_file(path)?;
    }
    let most = args.ranks.iter().copied().max().unwrap_or_default();
    ensure!(
        args.seeds > 0 && most > 0,
        "no run is planned: give at least one number of ranks and one seed"
    );
    let mut task = args.run.task()?;
    task.schedule.micro_batches = task.schedule.micro_batches.max(most);
    let dataset = task.open(&args.run.data)?;
    task.schedule.check(&*dataset)?;
    for &ranks in &args.ranks {
        ensure!(
            ranks > 1 && share(task.schedule.micro_batches, 0, ranks).is_ok(),
            "{} micro-batches, as many as the most ranks, cannot be shared by {ranks} ranks: give numbers above 1 \
             of which each is the greatest divided by 2, 4, 8 ...",
            task.schedule.micro_batches
        );
    }
    ensure!(!is_launched(), "sums has ranks that are threads: start it without mpirun");
    let interrupt = Interrupt::watch()?;
    let runs = args.ranks.len() * args.reduce.len();
    let bar = steps_bar(runs as u64 * args.seeds * task.schedule.steps(&*dataset))?;
    let mut rows = Vec::new();
    for &ranks in &args.ranks {
        for &reduction in &args.reduce {
            bar.set_message(format!("{ranks} ranks, {reduction}"));
            for seed in (0..args.seeds).map(|nth| args.run.seed.saturating_add(nth)) {
                let period = args.method.usual_period();
                let settings = Settings { seed, ..args.run.settings(args.method, period) };
                let launch = Launch::new(ranks, DEADLINE)?;
                let (task, dataset) = (&task, &*dataset);
                let plan = Plan {
                    args,
                    task,
                    dataset,
                    settings,
                    reduction,
                    interrupt: &interrupt,
                    bar: &bar,
                };
                let job = WholeRun { plan, ranks, launch };
                let row = dispatch(DeviceName::Cpu, 1, &settings, job);
                rows.push(row.with_context(|| format!("{ranks} ranks, {reduction}, seed {seed}"))?);
            }
        }
    }
    bar.finish_and_clear();
    say!("{}: {}; {}\n\n{}\n\n{LEGEND}", task.name, task.model, dataset.describe(), table(&rows));
    say_left_out(&*dataset);
    if let Some(path) = &args.out {
        write_whole(path, &csv_of(&rows)?)?;
    }
    Ok(())
}

/// What the columns mean.
const LEGEND: &str = "\
Bytes are those that a rank sends for each value of a gradient. Errors are the norm of the difference from the sum in f32 of the same
step over its norm, the median over the steps: of all gradients together, and of that which is furthest off. Of several seeds the
table has the median, and of the metric all.";

#[derive(Clone, Copy)]
struct Plan<'a> {
    args: &'a SumsArgs,
    task: &'a Task,
    dataset: &'a dyn Dataset,
    settings: Settings,
    reduction: Reduction,
    interrupt: &'a Interrupt,
    bar: &'a ProgressBar,
}

struct WholeRun<'a> {
    plan: Plan<'a>,
    ranks: usize,
    launch: Launch,
}

impl Job for WholeRun<'_> {
    type Output = Row;

    fn run<D, W, G>(self, device: D) -> Result<Row>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G> + Machine<W, f32> + Clone + Send + Sync,
    {
        let Self { plan, ranks, launch } = self;
        let found = Mutex::new(None);
        launch.run(|team| {
            let team = team.context("sums over ranks take two ranks or more")?;
            let row = plan.run::<D, W, G>(device.clone(), team)?;
            if team.is_first() {
                found.lock().unwrap_or_else(PoisonError::into_inner).replace(row);
            }
            Ok(())
        })?;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.map(|row| Row { ranks, ..row }).context("the first rank has ended without a result")
    }
}

impl Plan<'_> {
    fn run<D, W, G>(self, device: D, team: &Team) -> Result<Row>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let Self { args, task, dataset, settings, reduction, interrupt, bar } = self;
        let mut trainer = Trainer::<D, W, G>::new(task, dataset, settings, device)?;
        let reducer = Reducer::new(reduction, 256 * args.bucket as usize).comparing();
        trainer.share(Ranks { team, reducer, normalises_together: false })?;
        let (mut is_stopped, last) = (false, trainer.last_step());
        while trainer.step_count() < last && !is_stopped {
            if interrupt.is_set() {
                trainer.ask_to_end();
            }
            let stepped = match trainer.train_step(&mut NoObserver) {
                Ok(stepped) => stepped,
                Err(error) if error.is::<Diverged>() => {
                    is_stopped = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            is_stopped = matches!(stepped.verdict, Verdict::Stop { .. });
            if team.is_first() {
                bar.inc(1);
            }
            ensure!(!stepped.ends, Interrupted);
        }
        if team.is_first() {
            bar.inc(last - trainer.step_count());
        }
        let metric = match trainer.evaluate() {
            _ if is_stopped => None,
            Err(error) if error.is::<Diverged>() => None,
            evaluated => Some(evaluated?),
        };
        let totals = trainer.totals();
        let ranks = trainer.ranks().context("the ranks of a run that has them")?;
        let Counts { buckets, again, bytes, .. } = ranks.reducer.counts();
        let errors = ranks.reducer.errors();
        let values = (task.parameters(dataset)? * totals.steps).max(1) as f64;
        Ok(Row {
            task: task.name.clone(),
            ranks: team.size(),
            sums: reduction.to_string(),
            seed: settings.seed,
            bytes_per_value: bytes as f64 / values,
            error: median(errors.iter().map(|error| error.all)),
            worst_error: median(errors.iter().map(|error| error.worst)),
            again_per_1000: 1000.0 * again as f64 / buckets.max(1) as f64,
            skipped: totals.skipped,
            steps: totals.steps,
            metric,
        })
    }
}

/// Returns the median; what is no number is greater than all others, and nothing has none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    report::median(values.collect()).unwrap_or(f64::NAN)
}

/// Returns a row for all seeds of a kind of sums.
fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "ranks",
        "sums",
        "bytes",
        "error",
        "worst error",
        "again /1000",
        "skipped",
        "metric, %",
    ]);
    for column in [0, 2, 3, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for rows in rows.chunk_by(|one, other| (one.ranks, &one.sums) == (other.ranks, &other.sums)) {
        let of = |value: fn(&Row) -> f64| median(rows.iter().map(value));
        let metrics = rows.iter().map(|row| match row.metric {
            Some(metric) => format!("{:.1}", 100.0 * metric),
            None => format!("stopped at step {}", row.steps),
        });
        table.add_row([
            rows[0].ranks.to_string(),
            rows[0].sums.clone(),
            format!("{:.2}", of(|row| row.bytes_per_value)),
            error(of(|row| row.error)),
            error(of(|row| row.worst_error)),
            format!("{:.1}", of(|row| row.again_per_1000)),
            format!("{}", of(|row| row.skipped as f64)),
            metrics.collect::<Vec<_>>().join(" "),
        ]);
    }
    table
}

fn error(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        _ if value.is_finite() => format!("{value:.1e}"),
        _ => "overflow".into(),
    }
}
