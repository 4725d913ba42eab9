//! `run`: an experiment as it was published, with the published figures beside those found.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use adaloss_train::{
    data::{Dataset, OnBroken, Source, source::Seen},
    file::{check_folder, write_whole},
    layer::Diverged,
    method::Method,
    ranks::Common,
    recipe::{Recipe, RecipeRun},
    say,
    task::Task,
    trainer::Settings,
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use super::{
    interrupt::Interrupt,
    train::{Ended, HowArgs, Keep, OneRun},
};

/// What is repeated.
#[derive(Args, Debug)]
pub(crate) struct RecipeArgs {
    /// The experiment: a file of examples/train/recipes, or one's own.
    #[arg(value_name = "RECIPE.toml")]
    recipe: PathBuf,
    /// The folder of the data set, in the form in which it is distributed.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What becomes of a file that is broken: stop, or skip, by which another sample takes its place.
    #[arg(long, default_value = "stop")]
    on_broken: OnBroken,
    /// Only the runs by these methods.
    #[arg(long, value_name = "METHODS", value_delimiter = ',')]
    methods: Vec<Method>,
    /// Begin with the weights of this file, of the format safetensors: see --weights of train.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// How often each run is done, with seeds from 0 on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Only so many steps of each run, to see that all is there.
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Samples in a step, instead of the recipe's, and in one part if they do not divide into its parts.  The learning rate stays.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Where checkpoints, results and the weights at the end are kept; the same command again goes on from there.
    #[arg(long, value_name = "DIR", default_value = "recipe-runs")]
    out: PathBuf,
    /// Write a checkpoint every so many steps.
    #[arg(long, value_name = "STEPS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    save_every: u64,
    #[command(flatten)]
    how: HowArgs,
}

/// What was found, by the names of runs.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Results {
    /// What the recipe was, as text: results are of one recipe.
    recipe: String,
    runs: BTreeMap<String, Found>,
}

/// What was found in a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    /// From 0 to 1; nothing of a run that could not go on.
    metric: Option<f64>,
    #[serde(flatten)]
    counts: Option<Counts>,
    stopped: Option<String>,
}

/// What was counted in a run that came to its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Counts {
    steps: u64,
    skipped: u64,
    replayed: u64,
}

/// Repeats an experiment, run after run, and prints what was found beside what was published.
///
/// # Errors
///
/// The recipe or the data cannot be read, a file cannot be written, or it was interrupted; what was done is kept.
pub(crate) fn run(args: &RecipeArgs) -> Result<()> {
    let launch = args.how.launch()?;
    let interrupt = Interrupt::watch()?;
    let prepared = launch.all_or_none(prepare(args))?;
    let Prepared { recipe, dataset, task, runs } = prepared;
    let mut results = launch.all_or_none(args.results(&recipe, launch.writes()))?;
    for (run, settings) in &runs {
        let name = name_of(settings);
        if results.runs.contains_key(&name) {
            continue;
        }
        if launch.writes() {
            say!("{name}: {}", recipe.title);
        }
        let checkpoint = args.out.join(format!("{name}.checkpoint"));
        let weights_out = args.out.join(format!("{name}.safetensors"));
        let resume = checkpoint.exists().then_some(&*checkpoint);
        let keep = Keep {
            resume,
            save: Some(&checkpoint),
            save_every: Some(args.save_every),
            weights: args.weights.as_deref(),
            weights_out: Some(&weights_out),
        };
        let one = OneRun {
            how: &args.how,
            until: None,
            prints: false,
            judges_end: true,
            keep,
            task: &task,
            dataset: &dataset,
            settings: *settings,
            interrupt: &interrupt,
        };
        let Some(found) = found(one.start(&launch)).with_context(|| name.clone())? else {
            continue;
        };
        if let Some(stopped) = &found.stopped {
            say!("{name}: {stopped}; published: {}", published(run));
        }
        results.runs.insert(name, found);
        write_whole(&args.results_file(), &serde_json::to_vec_pretty(&results)?)?;
        if checkpoint.exists() {
            // What was found is written, and the weights are.
            fs::remove_file(&checkpoint)
                .with_context(|| format!("{} cannot be removed", checkpoint.display()))?;
        }
    }
    if launch.writes() {
        let is_cut = args.steps.is_some() || args.batch.is_some();
        report(&recipe, (&task, &*dataset), &runs, &results, is_cut);
    }
    Ok(())
}

/// What a recipe's runs need.
struct Prepared {
    recipe: Recipe,
    dataset: Arc<dyn Dataset>,
    task: Task,
    runs: Vec<(RecipeRun, Settings)>,
}

fn prepare(args: &RecipeArgs) -> Result<Prepared> {
    let recipe = Recipe::read(&args.recipe)?;
    let is_wanted =
        |run: &&RecipeRun| args.methods.is_empty() || args.methods.contains(&run.method);
    let mut runs = Vec::new();
    for run in recipe.runs.iter().filter(is_wanted) {
        for seed in 0..args.seeds {
            let (format, method) = (run.format, run.method);
            let settings = Settings { format, method, seed, period: method.usual_period() };
            method.config(format.0, settings.period)?;
            args.how.check(&settings)?;
            runs.push((run.clone(), settings));
        }
    }
    ensure!(
        !runs.is_empty(),
        "the recipe has no run by such a method; it has {}",
        recipe.runs.iter().map(|run| run.method.to_string()).collect::<Vec<_>>().join(", ")
    );
    let seen = Seen { size: recipe.size(), on_broken: args.on_broken };
    let (folder, wanted) = (args.data.clone(), recipe.data.wanted());
    let dataset = Source::Folder { folder, wanted, seen }.open().with_context(|| {
        format!("--data {} is not what {} needs", args.data.display(), args.recipe.display())
    })?;
    let mut schedule = recipe.schedule(dataset.train_samples())?;
    schedule.batch = args.batch.unwrap_or(schedule.batch);
    if !schedule.batch.is_multiple_of(schedule.micro_batches) {
        schedule.micro_batches = 1;
    }
    schedule.steps = args.steps.or(schedule.steps);
    let stem = args.recipe.file_stem().unwrap_or_default().to_string_lossy();
    let task = Task::of_recipe(&stem, &recipe, schedule)?;
    task.schedule.check(&*dataset)?;
    Ok(Prepared { recipe, dataset: dataset.into(), task, runs })
}

impl RecipeArgs {
    fn results_file(&self) -> PathBuf {
        self.out.join("results.json")
    }

    /// Reads the results of runs that were done before.
    fn results(&self, recipe: &Recipe, writes: bool) -> Result<Results> {
        let described = format!(
            "{recipe:?}, steps {:?}, batch {:?}, weights {:?}",
            self.steps, self.batch, self.weights
        );
        if writes {
            check_folder(&self.out, &["results.json"])?;
            fs::create_dir_all(&self.out)
                .with_context(|| format!("{} cannot be made", self.out.display()))?;
        }
        let path = self.results_file();
        if !path.exists() {
            return Ok(Results { recipe: described, ..Results::default() });
        }
        let read = || -> Result<Results> { Ok(serde_json::from_slice(&fs::read(&path)?)?) };
        let results = read().with_context(|| format!("{} cannot be read", path.display()))?;
        ensure!(
            results.recipe == described,
            "{} has results of another experiment: give --out another folder",
            path.display()
        );
        Ok(results)
    }
}

fn name_of(settings: &Settings) -> String {
    let method = settings.method.to_string().replace(':', "-");
    format!("{method}-{}-seed{}", settings.format, settings.seed)
}

/// Returns what was found; nothing where another process has the first rank.
fn found(ended: Result<Option<Ended>>) -> Result<Option<Found>> {
    Ok(match ended {
        Ok(None) => None,
        Ok(Some(Ended { metric, totals })) => Some(Found {
            metric,
            counts: Some(Counts {
                steps: totals.steps,
                skipped: totals.skipped,
                replayed: totals.recovered,
            }),
            stopped: None,
        }),
        // A network that is lost is a result.
        Err(error) if error.is::<Common>() || error.is::<Diverged>() => {
            Some(Found { metric: None, counts: None, stopped: Some(format!("{error:#}")) })
        }
        Err(error) => return Err(error),
    })
}

fn published(run: &RecipeRun) -> String {
    match &run.published[..] {
        [] => "-".into(),
        figures => {
            figures.iter().map(|x| format!("{:.2}", 100.0 * x)).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Prints what was found of each run beside what was published.
fn report(
    recipe: &Recipe,
    (task, dataset): (&Task, &dyn Dataset),
    runs: &[(RecipeRun, Settings)],
    results: &Results,
    is_cut: bool,
) {
    say!("\n{}\n{}; {}\n{}", recipe.title, task.model, dataset.describe(), task.schedule);
    say!("published by: {}", recipe.sources.join("; "));
    for note in &recipe.notes {
        say!("note: {note}");
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let metric = format!("{}, %", recipe.metric);
    table.set_header(["run", "format", "published", &metric, "steps", "skipped", "replayed", ""]);
    for column in table.column_iter_mut().skip(2).take(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut shown: Vec<&RecipeRun> = Vec::new();
    for (run, _) in runs {
        if shown.contains(&run) {
            continue;
        }
        shown.push(run);
        let of_run: Vec<&Found> = runs
            .iter()
            .filter(|(other, _)| other == run)
            .filter_map(|(_, settings)| results.runs.get(&name_of(settings)))
            .collect();
        let all = |value: &dyn Fn(&Found) -> String| {
            of_run.iter().map(|found| value(found)).collect::<Vec<_>>().join(" ")
        };
        let metric = |found: &Found| {
            found.metric.map_or("stopped".into(), |metric| format!("{:.2}", 100.0 * metric))
        };
        let count = |of: fn(Counts) -> u64| {
            all(&|found| found.counts.map_or("-".into(), |counts| of(counts).to_string()))
        };
        table.add_row([
            run.method.to_string(),
            run.format.to_string(),
            published(run),
            all(&metric),
            count(|counts| counts.steps),
            count(|counts| counts.skipped),
            count(|counts| counts.replayed),
            run.note.clone(),
        ]);
    }
    say!("\n{table}");
    if is_cut {
        say!("\nOnly a part of each run was asked for: the figures are not the experiment's.");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The recipes in the repository can be read, and each has runs by dynamic scaling with both intervals.
    #[test]
    fn all_recipes_are_recipes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let files = [&folder, &folder.join("short")].map(|folder| fs::read_dir(folder).unwrap());
        let paths = files.into_iter().flatten().map(|file| file.unwrap().path());
        let mut count = 0;
        for path in paths.filter(|path| path.extension().is_some()) {
            let recipe = Recipe::read(&path).unwrap();
            for interval in [10, 2000] {
                let has = |run: &RecipeRun| run.method == Method::Backoff(interval);
                assert!(recipe.runs.iter().any(has), "{}: no backoff:{interval}", recipe.title);
            }
            count += 1;
        }
        assert!(count >= 11, "{count} recipes");
    }
}
