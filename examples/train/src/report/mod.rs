//! The report of a comparison: one page with pictures, tables for programs, tables for a terminal.
//!
//! ```text
//! results.json -> group (seeds), verdict -> overview, outcome, curves, layers, scales, tables -> document
//!                      |                         dots, lines, heatmap, strip, svg
//!                      +-> sheets (CSV), terminal
//! ```
//!
//! `index.html` needs no network, no script and no other file, and follows the reader's dark mode.
//!
//! Of the pictures, the libraries do what is not ours: `plotters` places values and ticks on axes,
//! `colorous` has the colour maps, `statrs` Student's distribution, and `maud` writes and escapes
//! the markup.  The marks themselves are written here, with `maud`, since no plotting crate at hand
//! gives what this page needs: the SVG of `plotters` has neither classes, nor tooltips, nor dashes,
//! only colours; that of `kuva` has no view box, and its heat maps have no logarithmic colours and
//! no way to show that a value is missing.

mod alone;
mod asked;
mod axis;
mod command;
mod curves;
mod decades;
mod document;
mod dots;
mod further;
mod gap;
mod group;
mod heatmap;
mod layers;
mod lines;
mod lost;
mod number;
mod outcome;
mod overview;
mod palette;
mod price;
mod scales;
mod scatter;
mod sheets;
mod stored;
mod strip;
mod summary;
mod svg;
mod tables;
mod terminal;
#[cfg(test)]
mod tests;
mod verdict;

pub(crate) use decades::Decades;
pub(crate) use svg::px;

pub use command::{ReportArgs, report};
pub use group::median;
pub use stored::read;
pub use terminal::{print_place, print_summary, print_windows};

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::{
    file::{self, write_whole},
    results::Results,
};

/// The files of a report.
const FILES: [&str; 8] = [
    "results.json",
    "runs.csv",
    "cells.csv",
    "curves.csv",
    "weights.csv",
    "index.html",
    "lost.svg",
    "price.svg",
];

/// Refuses a folder that could not be written to before minutes are spent on its contents.
///
/// # Errors
///
/// There is something else of that name, the folder that it would be made in does not exist, or one of the report's
/// files could not be written.
pub fn check_folder(folder: &Path) -> Result<()> {
    file::check_folder(folder, &FILES)
}

/// Writes `results.json`, `runs.csv`, `cells.csv`, `curves.csv`, `weights.csv` and `index.html`
/// into a folder, each of them whole or not at all; `lost.svg`, the picture of what it costs to lose a part of the
/// gradients, and `price.svg`, that of what each method loses over the passes that it takes, where that is known; and a
/// picture for each family of tasks that differ in a number only.
///
/// # Errors
///
/// The folder or a file cannot be written, or a number in the results is not finite; then
/// everything is written, but `results.json` cannot be read again.
pub fn write(folder: &Path, results: &Results) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let json = stored::to_json(results)?;
    write_whole(&folder.join("results.json"), &json)?;
    for (name, sheet) in sheets::all(results)? {
        write_whole(&folder.join(name), &sheet)?;
    }
    write_whole(&folder.join("index.html"), document::page(results).into_string().as_bytes())?;
    let comparisons = group::Comparison::all(results);
    let pictures =
        [("lost.svg", lost::alone(&comparisons)), ("price.svg", price::alone(&comparisons))];
    for (name, picture) in pictures {
        if let Some(picture) = picture {
            write_whole(&folder.join(name), picture.as_bytes())?;
        }
    }
    for (name, picture) in gap::alone(&comparisons) {
        write_whole(&folder.join(format!("{name}.svg")), picture.as_bytes())?;
    }
    ensure!(
        stored::parse(&json).is_ok_and(|again| again == *results),
        "{} holds a number that is not finite, and cannot be read again",
        folder.join("results.json").display()
    );
    Ok(())
}
