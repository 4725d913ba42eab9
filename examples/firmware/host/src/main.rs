//! Records layers, and prints what boards have to print of them.

use std::{fs, path::PathBuf};

use adaloss_firmware_host::{record, trained, walk};
use anyhow::{Context, Result};
use clap::Parser;

/// Records layers, and prints what boards have to print of them.
#[derive(Debug, Parser)]
#[command(version)]
enum Cli {
    /// Trains in f32 and writes the gradients of every layer.
    Record {
        /// The file to write.
        file: PathBuf,
        /// Steps of four samples; each visits five tensors.
        #[arg(long, default_value_t = 210)]
        steps: u32,
    },
    /// Walks recorded layers on the portable device.
    Walk {
        /// The recorded layers.
        file: PathBuf,
        /// fixed, backoff, normal, range, amax or measured.
        policy: String,
    },
    /// Trains in binary16 on the portable device.
    Train {
        /// How often all samples are seen.
        #[arg(long, default_value_t = 10)]
        epochs: u32,
    },
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Record { file, steps } => fs::write(&file, record(steps)?)
            .with_context(|| format!("{} cannot be written", file.display())),
        Cli::Walk { file, policy } => {
            let bytes =
                fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            let printed = walk(&bytes, &policy).with_context(|| file.display().to_string())?;
            print!("{printed}");
            Ok(())
        }
        Cli::Train { epochs } => {
            print!("{}", trained(epochs)?);
            Ok(())
        }
    }
}
