//! What is run on a GPU: conformance, then benchmarks, into one JSON file.
//!
//! ```sh
//! adaloss-on-device results.json
//! ```
//!
//! Every part is a process of its own, with a limit for each of its rows and one for all of them; a part that hangs or
//! crashes is killed and goes on behind the row that it did not survive. What was found is in the file after each row.
//! The kernels are in this program, and so is the one for PyTorch: nothing is compiled, and nothing else is needed.

mod decisions;
mod lists;
mod network;
mod part;
mod peers;
mod plan;
mod products;
mod results;
mod rows;
mod setup;
mod streams;
mod suites;
mod supervise;
mod timing;
mod tools;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use part::Part;

#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// The file for the results
    #[arg(required = true)]
    results: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Inner>,
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Minutes after which no part goes on
    #[arg(long, default_value_t = 8.0, value_parser = minutes)]
    minutes: f64,
    /// Elements of the tensors that are streamed: more than any cache holds [default: 2^28, 1 GiB of f32]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    elements: Option<u64>,
    /// A trial of this program: small tensors, few checks, times that mean nothing
    #[arg(long)]
    trial: bool,
    /// Seconds after which a row is given up, instead of each part's own limit
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    row_seconds: Option<u64>,
    /// End when the program that started this one does
    #[arg(long, hide = true)]
    dies_with_parent: bool,
}

impl Options {
    /// Elements of the tensors that are streamed.
    fn elements(&self) -> usize {
        let default = if self.trial { 1000 } else { 1 << 28 };
        self.elements.and_then(|of| usize::try_from(of).ok()).unwrap_or(default)
    }
}

/// Reads a number of minutes that is one.
fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    let is_legal = minutes > 0.0 && minutes <= 10_000.0;
    if is_legal { Ok(minutes) } else { Err("it has to be above 0 and at most 10000".into()) }
}

/// What this program runs itself as.
#[derive(Debug, clap::Subcommand)]
enum Inner {
    /// One part, as this program runs it itself
    #[command(hide = true)]
    Part {
        /// The part.
        #[arg(value_enum)]
        part: Part,
        /// The file that rows are added to.
        rows: PathBuf,
        /// Rows to leave out.
        skip: usize,
        #[command(flatten)]
        options: Options,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.part, arguments.results) {
        (Some(Inner::Part { part, rows, skip, options }), _) => {
            part.run(&rows, skip, &options).map(|()| true)
        }
        (None, Some(results)) => run(&results, &arguments.options),
        (None, None) => Err(anyhow::anyhow!("a file for the results is missing")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "adaloss-on-device: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all parts; returns whether nothing was wrong in any.
fn run(path: &Path, options: &Options) -> anyhow::Result<bool> {
    for part in &options.only {
        anyhow::ensure!(Part::ALL.contains(part), "{} is no part of its own", part.name());
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends the program at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
            .context("cannot wait for signals")?;
    }
    let folder = tempfile::tempdir().context("cannot make a folder for what parts write")?;
    let mut supervisor = supervise::Supervisor {
        results: results::Results::begin(path, options.elements())?,
        folder: folder.path(),
        until: Instant::now() + Duration::from_secs_f64(60.0 * options.minutes),
        interrupted: &interrupted,
    };
    let plan = plan::Plan::new(&supervisor, path, options)?;
    for &part in Part::ALL {
        if options.only.is_empty() || options.only.contains(&part) {
            plan.run(&mut supervisor, part)?;
        }
    }
    let results = supervisor.results;
    let faults = results.faults();
    let mut text = plan::summary(&results);
    faults.iter().for_each(|fault| text += &format!("{fault}\n"));
    // The results are written, whether anybody reads this or not.
    let _ = writeln!(io::stdout(), "{text}The results are in {}", path.display());
    Ok(faults.is_empty())
}
