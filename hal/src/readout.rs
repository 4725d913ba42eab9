//! What an operation leaves besides elements, read out.

use core::fmt;

use adaloss_core::{
    scaler::device::Line,
    statistics::{Histogram, Outcome, Statistics},
    unscale::{LossSum, Unscaled},
};

use crate::plain::Plain;

/// What an operation left behind besides elements, in the memory that the caller named.
///
/// Counts are added to, so they may be those of several operations.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Readout<'a> {
    /// Nothing that was read: the operation only writes elements or failed, or the record only
    /// traces.
    Unread,
    /// Of an operation that ends in an epilogue: its counts.
    Counts {
        /// What became of the results.
        outcome: &'a Outcome,
        /// The results themselves, where they were measured.
        histogram: Option<&'a Histogram>,
    },
    /// `statistics`.
    Statistics(&'a Statistics),
    /// `unscale`: the counts of elements and of non-finite ones.
    Unscaled(&'a Unscaled),
    /// `softmax_cross_entropy`: what the rows add up to.
    Loss(&'a LossSum),
    /// `square_norm`: the sum of the squares.
    SquareNorm(&'a f64),
    /// `advance`: whether the pass is to be made.
    Predicate(bool),
    /// `close`, `conclude`, `judge` of a loss, and what brings the end of a visit along: what was written down.
    Line(&'a Line),
}

impl fmt::Display for Readout<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread => Ok(()),
            Self::Counts { outcome, histogram } => {
                let Outcome { elements, nonfinite, underflow, overflow, .. } = outcome;
                write!(
                    f,
                    ": of {elements} narrowed {underflow} underflow, {overflow} overflow, \
                     {nonfinite} non-finite"
                )?;
                match histogram {
                    Some(histogram) => write!(f, "; {} measured", histogram.elements()),
                    None => Ok(()),
                }
            }
            Self::Statistics(Statistics { nonfinite, zero, moments, .. }) => {
                write!(f, ": {} finite, {nonfinite} non-finite, {zero} zero", moments.count())
            }
            Self::Unscaled(Unscaled { elements, nonfinite, tiny }) => {
                write!(f, ": of {elements} unscaled {nonfinite} non-finite, {tiny} tiny")
            }
            Self::Loss(LossSum { loss, weight, rows, correct }) => {
                write!(f, ": loss {loss} of weight {weight}, {correct} of {rows} rows right")
            }
            Self::SquareNorm(sum) => write!(f, ": {sum}"),
            Self::Predicate(true) => f.write_str(": to be made"),
            Self::Predicate(false) => f.write_str(": not to be made"),
            Self::Line(line) => write!(f, ": {line}"),
        }
    }
}

/// A value that operations leave behind.
pub trait HasReadout: Plain {
    /// Returns the value as what was left.
    fn readout(&self) -> Readout<'_>;
}

impl HasReadout for Statistics {
    fn readout(&self) -> Readout<'_> {
        Readout::Statistics(self)
    }
}

impl HasReadout for Unscaled {
    fn readout(&self) -> Readout<'_> {
        Readout::Unscaled(self)
    }
}

impl HasReadout for LossSum {
    fn readout(&self) -> Readout<'_> {
        Readout::Loss(self)
    }
}

impl HasReadout for u32 {
    fn readout(&self) -> Readout<'_> {
        Readout::Predicate(*self != 0)
    }
}

impl HasReadout for Line {
    fn readout(&self) -> Readout<'_> {
        Readout::Line(self)
    }
}

impl HasReadout for f64 {
    fn readout(&self) -> Readout<'_> {
        Readout::SquareNorm(self)
    }
}
