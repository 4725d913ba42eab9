//! One training in f32, and all policies deciding from the tensors that it showed.
//!
//! A policy that trains changes what the next one would have seen, and runs differ by more than policies do.  So the
//! network is trained once, without any rounding of gradients, and of every visit of a cell is kept what becomes of its
//! tensor at every scale.  Then each policy decides in turn, and its scales are judged, exactly.
//!
//! ```text
//! trainer in f32 -> device, watched: Tally per visit and format -> Recording
//!                                                                     |
//!               Rule (core's note and finish, and others) -> walk -> Row per policy -> Place: hull, tables, plot
//! ```
//!
//! What this leaves out: a tensor's values are those of f32, whatever its policy lost further up; sums in f32 that
//! overflow at a great scale are not looked for; and nothing says what a loss means for what is learnt.

mod hull;
mod place;
mod plot;
mod rule;
mod tables;
mod tally;
#[cfg(test)]
mod tests;
mod walk;
mod watch;

pub use hull::{height, lower_left};
pub use place::{Measure, Place, Standing};
pub use plot::draw;
pub use rule::{Chooser, Decided, Kind, Rule};
pub use tables::{csv, print};
pub use tally::Tally;
pub use walk::{Row, walk};
pub use watch::record;

use crate::method::FormatName;

/// What the cells of a network showed in one format, step by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// The format of gradients.
    pub format: FormatName,
    /// The number of cells.
    pub cells: usize,
    /// The visits of each step that could be used, in their order.
    pub steps: Vec<Vec<Visited>>,
}

/// One visit of a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Visited {
    /// The cell, by its number.
    pub cell: usize,
    /// What its tensor showed.
    pub tally: Tally,
}
