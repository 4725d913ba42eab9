//! The digits, learnt by burn in 16 bits: without scaling, with one fixed scale, and with a scale per layer
//! that nobody chose.

mod data;
mod learner;
mod model;
mod report;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use burn::tensor::Device;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    data::{Digits, STEPS_PER_EPOCH},
    learner::{Gradients, Learner, Mode, Scaling},
    report::{Report, Run},
};

/// Trains the same network in several ways at once, batch by batch, and compares.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The formats of gradients; burn computes in binary16.
    #[arg(long, value_enum, default_values_t = [Gradients::Binary16, Gradients::E4m3])]
    gradients: Vec<Gradients>,
    /// How many times each digit is seen.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// How often everything is repeated, with other initial weights and another order of digits.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// The base-2 logarithm of the fixed scale.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(-126..=126))]
    fixed: i32,
}

impl Cli {
    /// Returns the ways to be compared; what burn does alone in binary16 comes first of those with 16 bits.
    fn modes(&self) -> Vec<Mode> {
        let scalings = [Scaling::None, Scaling::Fixed(self.fixed), Scaling::Adaptive];
        let low = self
            .gradients
            .iter()
            .flat_map(|&gradients| scalings.map(|scaling| Mode::Low { gradients, scaling }));
        std::iter::once(Mode::Exact).chain(low).collect()
    }
}

fn main() -> ExitCode {
    match compare(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Trains, and prints a table.
fn compare(cli: &Cli) -> Result<()> {
    let digits = Digits::embedded()?;
    let steps = u64::from(cli.seeds) * u64::from(cli.epochs) * STEPS_PER_EPOCH as u64;
    let bar = ProgressBar::new(steps)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}")?);
    let mut report = Report::default();
    for seed in 0..cli.seeds {
        for run in train(cli, &digits, seed.into(), &bar)? {
            report.add(run);
        }
    }
    bar.finish_and_clear();
    println!("per cent of the test digits, {} epochs, {} seeds", cli.epochs, cli.seeds);
    println!("{}", report.table());
    Ok(())
}

/// Trains one network per mode, all on the same batches in turn.
fn train(cli: &Cli, digits: &Digits, seed: u64, bar: &ProgressBar) -> Result<Vec<Run>> {
    let mut learners = Vec::new();
    let device = Device::flex().autodiff();
    for mode in cli.modes() {
        learners.push((Learner::new(mode, seed, &device)?, Run::new(mode)));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let steps = f64::from(cli.epochs) * STEPS_PER_EPOCH as f64;
    let mut done = 0.0;
    for _ in 0..cli.epochs {
        for batch in digits.train(&mut rng, &device) {
            for (learner, run) in &mut learners {
                let started = Instant::now();
                let is_used = learner.step(&batch, done / steps)?;
                run.record(started.elapsed(), is_used);
            }
            done += 1.0;
            bar.inc(1);
        }
    }
    let test = digits.test(&Device::flex());
    for (learner, run) in &mut learners {
        run.score = learner.score(&test)?;
        run.replays = learner.replays();
    }
    Ok(learners.into_iter().map(|(_, run)| run).collect())
}
