//! `generate`: small data sets in the formats of published ones.

use std::path::PathBuf;

use adaloss_train::{
    data::{
        generate::{Format, generate as write},
        scenes::Plan,
    },
    say,
};
use anyhow::Result;
use clap::Args;

/// What is generated.
#[derive(Args, Debug)]
pub(crate) struct GenerateArgs {
    /// The format: cifar-10, imagenet, voc, coco or camvid.
    format: Format,
    /// A new folder, or an empty one.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Images that train.
    #[arg(long, value_name = "N", default_value_t = 96)]
    train: usize,
    /// Images that test.
    #[arg(long, value_name = "N", default_value_t = 32)]
    test: usize,
    /// Pixels of the longer side of an image.
    #[arg(long, value_name = "PIXELS", default_value_t = 128)]
    size: usize,
    /// Of everything that is drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Writes a small data set, from which `--data` reads.
///
/// # Errors
///
/// The folder has something in it, a file cannot be written, or there cannot be so many images of this size.
pub(crate) fn generate(args: &GenerateArgs) -> Result<()> {
    let GenerateArgs { format, folder, train, test, size, seed } = args;
    let plan = Plan { size: *size, train: *train, test: *test, seed: *seed };
    write(*format, folder, plan)?;
    say!("{}: generated images in the format {format}", folder.display());
    Ok(())
}
