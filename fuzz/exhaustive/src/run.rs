//! A slice of every job, on all cores.

use std::{
    io::{self, Write},
    time::Instant,
};

use indicatif::ProgressBar;
use rayon::prelude::*;

use crate::{Job, Slice, Tally};

/// Runs a slice of every job, and writes a line per job and the first few mismatches of each.
///
/// # Errors
///
/// Writing fails.
pub fn run(
    jobs: &[Job<'_>],
    slice: Slice,
    progress: &ProgressBar,
    to: &mut impl Write,
) -> io::Result<Tally> {
    progress.set_length(jobs.iter().map(|job| slice.blocks(job.blocks()).len() as u64).sum());
    progress.suspend(|| writeln!(to, "slice {slice}"))?;
    let begun = Instant::now();
    let mut all = Tally::default();
    for job in jobs {
        progress.set_message(job.name().to_owned());
        let begun = Instant::now();
        let tally = run_job(job, slice, progress);
        progress.suspend(|| write(to, job.name(), &tally, begun))?;
        all = all.merge(tally);
    }
    progress.finish_and_clear();
    let sum = Tally { first: Vec::new(), ..all.clone() };
    write(to, "all", &sum, begun)?;
    Ok(all)
}

fn run_job(job: &Job<'_>, slice: Slice, progress: &ProgressBar) -> Tally {
    let blocks: Vec<u64> = slice.blocks(job.blocks()).collect();
    let check = |&block: &u64| {
        let tally = job.check(block);
        progress.inc(1);
        tally
    };
    blocks.par_iter().map(check).reduce(Tally::default, Tally::merge)
}

fn write(to: &mut impl Write, name: &str, tally: &Tally, begun: Instant) -> io::Result<()> {
    let Tally { cases, mismatches, first } = tally;
    let seconds = begun.elapsed().as_secs_f64();
    writeln!(to, "{name}: {cases} cases, {mismatches} mismatches, {seconds:.1} s")?;
    first.iter().try_for_each(|mismatch| writeln!(to, "    {mismatch}"))
}
