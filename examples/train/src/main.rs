//! Adaptive loss scaling, watched at work on real handwritten digits.

use std::process::ExitCode;

use adaloss_train::{compare, inspect, train};
use clap::{Parser, Subcommand};

/// Adaptive loss scaling, watched at work on real handwritten digits.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train with every method in every format and print one table.
    Compare(compare::CompareArgs),
    /// Show how often each method keeps the underflow it was asked for, at several periods.
    Calibrate(compare::CalibrateArgs),
    /// Look at one training step: what each policy would choose per tensor, and what it would lose.
    Inspect(inspect::InspectArgs),
    /// Train one network, with checkpoints.
    Train(train::TrainArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Compare(args) => compare::compare(&args),
        Command::Calibrate(args) => compare::calibrate(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Train(args) => train::train(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
