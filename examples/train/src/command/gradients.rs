//! `gradients`: what a comparison with another framework needs.

use std::path::PathBuf;

use adaloss_train::{file::check_file, model::Model, say, weights};
use anyhow::Result;
use clap::Args;

/// What is computed.
#[derive(Args, Debug)]
pub(crate) struct GradientsArgs {
    /// The network: see --network of train.
    network: Model,
    /// Its classes, by default those that it was published for.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    classes: Option<u32>,
    /// Its weights, of the format safetensors.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// `images` and the gradients of results, `gradients.0` and so on, likewise.
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// Where results, `results.0` and so on, and gradients go, likewise.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Computes results and gradients of a network in f32.
///
/// # Errors
///
/// A file cannot be read or written, or is not what the network needs.
pub(crate) fn run(args: &GradientsArgs) -> Result<()> {
    check_file(&args.out)?;
    let classes = args.classes.map_or(args.network.published().classes, |classes| classes as usize);
    weights::gradients(&args.network, classes, &args.weights, &args.inputs, &args.out)?;
    say!("{}: results and gradients of {}", args.out.display(), args.network);
    Ok(())
}
