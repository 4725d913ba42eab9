//! Adaptive loss scaling, watched at work.

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what cannot be said must not end a run: say!"
)]

mod command;

use std::process::ExitCode;

use adaloss_train::{console, ranks::Elsewhere, report};
use clap::{Parser, Subcommand};

use crate::command::{
    compare, cost, generate, gradients, inspect,
    interrupt::{Interrupted, STATUS},
    launch, look, policies, recipe, sums, train,
};

/// Adaptive loss scaling, watched at work.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train with every method in several formats, print tables and write a report to look at.
    Compare(Box<compare::CompareArgs>),
    /// Show how often each method keeps the underflow it was asked for; those that decide by a period, at
    /// several.
    Calibrate(Box<compare::CalibrateArgs>),
    /// Show what networks cost: parameters, multiply-adds and memory, found without either.
    Cost(Box<cost::CostArgs>),
    /// Write a small data set in the format of a published one, to try --data with.
    Generate(generate::GenerateArgs),
    /// Compute results and gradients of a network in f32 from files, for a comparison with another framework.
    Gradients(Box<gradients::GradientsArgs>),
    /// Look at one training step: what each policy would choose per tensor, and what it would lose.
    Inspect(Box<inspect::InspectArgs>),
    /// Write samples and their labels as a picture.
    Look(Box<look::LookArgs>),
    /// Train once in f32, and let every policy decide from what that showed: information lost against passes.
    Policies(Box<policies::PoliciesArgs>),
    /// Train one network, with checkpoints.
    Train(Box<train::TrainArgs>),
    /// Repeat a published experiment from its recipe, and set the published figures beside those found.
    Run(Box<recipe::RecipeArgs>),
    /// Sum gradients over ranks in several formats: how far off the sums are, what is sent, and what is learnt.
    Sums(Box<sums::SumsArgs>),
    /// Make the report anew from the results.json of an earlier comparison.
    Report(report::ReportArgs),
}

fn main() -> ExitCode {
    let parsed = match Cli::try_parse() {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error),
    };
    let result = match parsed.command {
        Command::Compare(args) => compare::compare(&args),
        Command::Calibrate(args) => compare::calibrate(&args),
        Command::Cost(args) => cost::run(&args),
        Command::Generate(args) => generate::generate(&args),
        Command::Gradients(args) => gradients::run(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Look(args) => look::look(&args),
        Command::Policies(args) => policies::policies(&args),
        Command::Train(args) => train::train(&args),
        Command::Run(args) => recipe::run(&args),
        Command::Sums(args) => sums::sums(&args),
        Command::Report(args) => report::report(&args),
    };
    match result.and_then(|()| console::finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Of several ranks, the one that it is of has said it.
            if !error.is::<Elsewhere>() {
                console::note(format_args!("error: {error:#}"));
            }
            if error.is::<Interrupted>() { ExitCode::from(STATUS) } else { ExitCode::FAILURE }
        }
    }
}

/// Says what is wrong with the arguments, or what was asked to be said.
fn refuse(error: &clap::Error) -> ExitCode {
    let trains =
        std::env::args_os().nth(1).is_some_and(|command| command == "train" || command == "run");
    launch::say_once(trains && error.use_stderr(), |rank| match rank {
        0 => {
            let _ = error.print();
        }
        _ => {
            let text = error.to_string();
            console::note(format_args!("rank {rank}: {}", text.lines().next().unwrap_or_default()));
        }
    });
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}
