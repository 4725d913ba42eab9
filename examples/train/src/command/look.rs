//! `look`: samples as a picture, before anything is learnt from them.

use std::path::PathBuf;

use adaloss_train::{
    data::{DataArgs, View, picture::Sheet},
    file::{check_file, write_whole},
    say,
    task::Task,
};
use anyhow::{Result, ensure};
use clap::Args;

use super::say_left_out;

/// What is looked at.
#[derive(Args, Debug)]
pub(crate) struct LookArgs {
    /// The task whose samples are wanted; one that learns from images.
    #[arg(long, default_value = "scenes-segnet")]
    task: Task,
    /// How many of the training samples, as they are seen in the first epoch.
    #[arg(long, value_name = "N", default_value_t = 24)]
    samples: usize,
    /// Samples side by side.
    #[arg(long, value_name = "N", default_value_t = 8)]
    columns: usize,
    /// The picture, a PNG file.
    #[arg(long, value_name = "FILE", default_value = "samples.png")]
    out: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

/// Writes samples and their labels as one picture.
///
/// # Errors
///
/// The task does not learn from images, there are not as many samples, or the file cannot be written.
pub(crate) fn look(args: &LookArgs) -> Result<()> {
    check_file(&args.out)?;
    let dataset = args.task.open(&args.data)?;
    let there_are = dataset.train_samples();
    ensure!(
        (1..=there_are).contains(&args.samples) && args.columns > 0,
        "{} of {there_are} training samples cannot be shown {} side by side",
        args.samples,
        args.columns
    );
    let chosen: Vec<usize> = (0..args.samples).collect();
    let batch = dataset.train(&chosen, View { seed: 0, epoch: 0 })?;
    write_whole(&args.out, &Sheet::of(&*dataset, &batch, args.columns)?.png()?)?;
    say!("{}: {}", args.out.display(), dataset.describe());
    say_left_out(&*dataset);
    Ok(())
}
