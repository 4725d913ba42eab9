//! The subcommand that makes a report anew.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{check_folder, read, write};
use crate::say;

/// Which results, and where their report goes.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The results.json of a comparison.
    #[arg(value_name = "FILE")]
    results: PathBuf,
    /// The folder of the page and its tables; made if it does not exist.
    #[arg(long, value_name = "DIR", default_value = "report")]
    out: PathBuf,
}

/// Makes the page and the tables of a results.json anew.
pub fn report(args: &ReportArgs) -> Result<()> {
    check_folder(&args.out)?;
    let results = read(&args.results)?;
    write(&args.out, &results)?;
    say!("{}", args.out.join("index.html").display());
    Ok(())
}
