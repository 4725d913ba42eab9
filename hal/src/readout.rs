//! What an operation leaves besides elements, read out.

use core::fmt;

use adaloss_core::{
    policy::{Cell, Certificate},
    scale::Scale,
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};

use crate::{loss_sum::LossSum, plain::Plain};

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
    /// `certify`.
    Certificate(&'a Certificate),
    /// `note`: the cell after it.
    Cell(&'a Cell),
    /// `finish`, of one cell or more: the least and the greatest scale of the next step.
    Scales([Scale; 2]),
    /// `softmax_cross_entropy`: what the rows add up to.
    Loss(&'a LossSum),
    /// `square_norm`: the sum of the squares.
    SquareNorm(&'a f64),
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
            Self::Certificate(certificate) => write!(f, ": {certificate}"),
            Self::Cell(cell) => {
                let (scale, age, trigger) = (cell.scale(), cell.age(), cell.trigger());
                write!(f, ": {scale}, age {age}, trigger {trigger:?}")
            }
            Self::Scales([least, greatest]) => write!(f, ": scales from {least} to {greatest}"),
            Self::Loss(LossSum { loss, weight, rows, correct }) => {
                write!(f, ": loss {loss} of weight {weight}, {correct} of {rows} rows right")
            }
            Self::SquareNorm(sum) => write!(f, ": {sum}"),
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

impl HasReadout for Certificate {
    fn readout(&self) -> Readout<'_> {
        Readout::Certificate(self)
    }
}

impl HasReadout for Cell {
    fn readout(&self) -> Readout<'_> {
        Readout::Cell(self)
    }
}

impl HasReadout for LossSum {
    fn readout(&self) -> Readout<'_> {
        Readout::Loss(self)
    }
}

impl HasReadout for f64 {
    fn readout(&self) -> Readout<'_> {
        Readout::SquareNorm(self)
    }
}
