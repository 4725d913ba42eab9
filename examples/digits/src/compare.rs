//! Several networks that learn side by side.

use std::{f64::consts::PI, process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    Batch, Gradients, Mode, Scaling,
    data::{Digits, STEPS_PER_EPOCH},
    report::{Report, Run},
};

/// The rate of learning in the beginning.
const LEARNING_RATE: f64 = 3.0e-3;

/// A network of a framework's, its optimizer, and its scaler if it has one.
pub trait Learner: Sized {
    /// Makes a network that learns in one of the ways; its weights are drawn from the seed.
    ///
    /// # Errors
    ///
    /// The framework fails.
    fn new(mode: Mode, seed: u64) -> Result<Self>;

    /// Learns from one batch; tells whether the weights were updated.
    ///
    /// # Errors
    ///
    /// The framework fails, or training cannot go on.
    fn step(&mut self, batch: &Batch, rate: f64) -> Result<bool>;

    /// Returns the share of right answers in per cent.
    ///
    /// # Errors
    ///
    /// The framework fails.
    fn score(&self, batch: &Batch) -> Result<f64>;

    /// Returns how often something was run again because it overflowed.
    fn replays(&self) -> u64;
}

/// Trains the same network in several ways at once, batch by batch, and compares.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The formats of gradients; the network computes in binary16.
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
    /// Returns the ways to be compared; what the framework does alone in binary16 comes first of
    /// those with 16 bits.
    fn modes(&self) -> Vec<Mode> {
        let scalings = [Scaling::None, Scaling::Fixed(self.fixed), Scaling::Adaptive];
        let low = self
            .gradients
            .iter()
            .flat_map(|&gradients| scalings.map(|scaling| Mode::Low { gradients, scaling }));
        std::iter::once(Mode::Exact).chain(low).collect()
    }
}

/// Trains as the command line says, and prints a table: the whole of a program.
pub fn compare<L: Learner>() -> ExitCode {
    match run::<L>(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run<L: Learner>(cli: &Cli) -> Result<()> {
    let digits = Digits::embedded()?;
    let steps = u64::from(cli.seeds) * u64::from(cli.epochs) * STEPS_PER_EPOCH as u64;
    let bar = ProgressBar::new(steps)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}")?);
    let mut report = Report::default();
    for seed in 0..cli.seeds {
        for run in train::<L>(cli, &digits, seed.into(), &bar)? {
            report.add(run);
        }
    }
    bar.finish_and_clear();
    println!("per cent of the test digits, {} epochs, {} seeds", cli.epochs, cli.seeds);
    println!("{}", report.table());
    Ok(())
}

/// Trains one network per mode, all on the same batches in turn.
fn train<L: Learner>(cli: &Cli, digits: &Digits, seed: u64, bar: &ProgressBar) -> Result<Vec<Run>> {
    let mut learners = Vec::new();
    for mode in cli.modes() {
        learners.push((L::new(mode, seed)?, Run::new(mode)));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let steps = f64::from(cli.epochs) * STEPS_PER_EPOCH as f64;
    let mut done = 0.0;
    for _ in 0..cli.epochs {
        for batch in digits.train(&mut rng) {
            // Along half a cosine to 0.
            let rate = LEARNING_RATE * 0.5 * (1.0 + (done / steps * PI).cos());
            for (learner, run) in &mut learners {
                let started = Instant::now();
                let is_used = learner.step(&batch, rate)?;
                run.record(started.elapsed(), is_used);
            }
            done += 1.0;
            bar.inc(1);
        }
    }
    let test = digits.test();
    for (learner, run) in &mut learners {
        run.score = learner.score(&test)?;
        run.replays = learner.replays();
    }
    Ok(learners.into_iter().map(|(_, run)| run).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what it is given.
    struct Counting {
        rates: Vec<f64>,
    }

    impl Learner for Counting {
        fn new(_: Mode, _: u64) -> Result<Self> {
            Ok(Self { rates: Vec::new() })
        }

        fn step(&mut self, batch: &Batch, rate: f64) -> Result<bool> {
            assert_eq!(batch.shape(), [50, 1, 8, 8]);
            self.rates.push(rate);
            Ok(true)
        }

        fn score(&self, batch: &Batch) -> Result<f64> {
            assert_eq!((self.rates[0], self.rates.len()), (LEARNING_RATE, 2 * STEPS_PER_EPOCH));
            assert!(self.rates.is_sorted_by(|a, b| a > b) && self.rates[55] < 1.0e-5);
            Ok(batch.labels.len() as f64)
        }

        fn replays(&self) -> u64 {
            7
        }
    }

    #[test]
    fn every_way_learns_every_batch() {
        let cli = Cli::parse_from(["digits", "--epochs", "2", "--gradients", "e5m2"]);
        let digits = Digits::embedded().unwrap();
        let runs = train::<Counting>(&cli, &digits, 0, &ProgressBar::hidden()).unwrap();
        assert_eq!(runs.len(), cli.modes().len());
        assert!(runs.iter().all(|run| (run.score, run.replays) == (397.0, 7)));
    }

    #[test]
    fn f32_and_binary16_need_no_scaler_but_an_adaptive_one() {
        let modes = Cli::parse_from(["digits"]).modes();
        let scalers = modes.iter().map(|mode| mode.config().unwrap().is_some());
        assert_eq!(scalers.collect::<Vec<_>>(), [false, false, false, true, true, true, true]);
        let names = modes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!((&names[0][..], &names[2][..]), ("f32", "binary16, fixed 2^8"));
        assert_eq!((modes[2].factor(), modes[0].factor()), (256.0, 1.0));
    }
}
