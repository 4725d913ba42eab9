//! Checks conversions with every value there is, or with a slice of them.

use std::{io, process::ExitCode};

use adaloss_exhaustive::{Core, Job, References, Slice, jobs, run};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Checks conversions with every value there is, against APFloat and exact arithmetic.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Check the I-th of N slices of every job.
    #[arg(long, value_name = "I/N", default_value_t)]
    slice: Slice,
    /// Run the jobs whose names contain one of these, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    jobs: Vec<String>,
    /// Print the names of the jobs and run none.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let references = References::new();
    let mut jobs = jobs(&Core, &references);
    let is_named = |job: &Job<'_>, part: &String| job.name().contains(part);
    if let Some(part) = cli.jobs.iter().find(|part| !jobs.iter().any(|job| is_named(job, part))) {
        eprintln!("error: no job has \"{part}\" in its name; --list prints the names");
        return ExitCode::from(2);
    }
    jobs.retain(|job| cli.jobs.is_empty() || cli.jobs.iter().any(|part| is_named(job, part)));
    if cli.list {
        jobs.iter().for_each(|job| println!("{}", job.name()));
        return ExitCode::SUCCESS;
    }
    let progress = ProgressBar::no_length().with_style(style());
    match run(&jobs, cli.slice, &progress, &mut io::stdout().lock()) {
        Ok(tally) if tally.mismatches == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {percent}% {eta} left, {msg}")
        .expect("a template that indicatif knows")
}
