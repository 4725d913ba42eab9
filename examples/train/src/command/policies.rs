//! `policies`: one training in f32, and every policy deciding from what it showed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use adaloss_cpu::Cpu;
use adaloss_train::{
    data::DataArgs,
    file::{check_folder, write_whole},
    recording::{Place, csv, draw, print, record},
    say,
    schedule::ScheduleArgs,
};
use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{
    interrupt::Interrupt, machine::MOST_THREADS, places::Comparison, say_left_out, steps_bar,
};

/// What is recorded, and for which formats.
#[derive(Args, Debug)]
pub(crate) struct PoliciesArgs {
    /// Tasks with the gradient formats that policies decide for, for example digits-resnet:e4m3+e5m2; separated by
    /// commas.  Each task is trained once, in f32.
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = recorded,
        default_value = "digits-resnet:e4m3+e5m2+binary16-flushing"
    )]
    tasks: Vec<Comparison>,
    /// Of the initial weights and of the order of samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; how many does not change a bit.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The folder that tables and plots go to, if any.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    schedule: ScheduleArgs,
    #[command(flatten)]
    data: DataArgs,
}

/// Reads a task with the formats that it is recorded for.
fn recorded(text: &str) -> Result<Comparison> {
    Comparison::read(text, "e4m3")
}

/// The rows of all tables, and the tables as they are printed.
const TABLES: [&str; 2] = ["policies.csv", "policies.md"];

fn plot(task: &str, format: &str) -> String {
    format!("{task}-{format}.svg")
}

/// Trains each task once, lets every policy decide from what that showed, prints tables and draws plots.
///
/// # Errors
///
/// Something asked for is impossible or cannot be written, which is found before anything is trained; or training
/// cannot go on.
pub(crate) fn policies(args: &PoliciesArgs) -> Result<()> {
    ensure!(args.threads <= MOST_THREADS, "{} threads are more than {MOST_THREADS}", args.threads);
    for (nth, recorded) in args.tasks.iter().enumerate() {
        let is_new = args.tasks[..nth].iter().all(|other| other.task.name != recorded.task.name);
        ensure!(is_new, "{} is asked for twice; formats are joined by +", recorded.task.name);
    }
    if let Some(out) = &args.out {
        let plots = args.tasks.iter().flat_map(|recorded| {
            recorded.formats.iter().map(|format| plot(&recorded.task.name, &format.to_string()))
        });
        let plots: Vec<String> = plots.collect();
        let files: Vec<&str> = TABLES.into_iter().chain(plots.iter().map(String::as_str)).collect();
        check_folder(out, &files)?;
    }
    let interrupt = Interrupt::watch()?;
    let mut opened = Vec::new();
    for Comparison { task, formats } in args.tasks.clone() {
        let mut task = task;
        task.schedule = args.schedule.apply(task.schedule);
        let dataset = task.open(&args.data)?;
        task.schedule.check(&*dataset)?;
        opened.push((task, formats, dataset));
    }
    let steps = opened.iter().map(|(task, _, dataset)| task.schedule.steps(&**dataset)).sum();
    let bar = steps_bar(steps)?;
    let mut places = Vec::new();
    for (task, formats, dataset) in &opened {
        bar.set_message(task.name.clone());
        let device = Cpu::new(args.threads)?;
        let recordings = record(task, &**dataset, args.seed, device, formats, |_| {
            bar.inc(1);
            interrupt.check()
        });
        for recording in recordings.with_context(|| task.name.clone())? {
            places.push(Place::of(&task.name, &recording)?);
        }
    }
    bar.finish_and_clear();
    let printed = print(&places);
    say!("{printed}");
    opened.iter().for_each(|(.., dataset)| say_left_out(&**dataset));
    if let Some(out) = &args.out {
        write(out, &places, &printed)?;
        say!("\nTables and plots: {}", out.display());
    }
    Ok(())
}

/// Writes tables and plots, each of them whole or not at all.
fn write(out: &Path, places: &[Place], printed: &str) -> Result<()> {
    fs::create_dir_all(out)
        .with_context(|| format!("the folder {} cannot be made", out.display()))?;
    let [rows, tables] = TABLES;
    write_whole(&out.join(rows), &csv(places)?)?;
    write_whole(&out.join(tables), format!("{printed}\n").as_bytes())?;
    for place in places {
        let name = plot(&place.task, &place.format);
        write_whole(&out.join(name), draw(place).as_bytes())?;
    }
    Ok(())
}
