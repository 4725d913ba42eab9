//! What an operation writes, in memory that the caller named.

use core::fmt;

use adaloss_core::{
    format::Encoding,
    policy::{Cell, Certificate},
    scale::Scale,
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};

use crate::{Device, Plain, network::LossSum};

/// What an operation writes: elements, counts, both, or nothing that anybody but the caller looks at.
///
/// The elements are those of all tensors that it writes, one tensor after the other.
pub trait Results<D: Device> {
    /// Returns how many elements the operation writes.
    fn elements(&mut self) -> usize {
        0
    }

    /// Returns the encoding of an element, if there is such a one.
    fn encoding(&mut self, _index: usize) -> Option<Encoding> {
        None
    }

    /// Reads the bits of an element, and so waits for the device; 0 if there is no such element.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn bits(&mut self, _device: &mut D, _index: usize) -> Result<u32, D::Error> {
        Ok(0)
    }

    /// Writes the bits of an element, if there is such a one.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn set_bits(&mut self, _device: &mut D, _index: usize, _bits: u32) -> Result<(), D::Error> {
        Ok(())
    }

    /// Reads what the operation left besides elements, and so waits for the device; shows it once.
    ///
    /// # Errors
    ///
    /// The device failed; nothing was shown.
    fn left(&mut self, _device: &mut D, show: &mut dyn FnMut(Left<'_>)) -> Result<(), D::Error> {
        show(Left::Unread);
        Ok(())
    }
}

/// What an operation left behind besides elements, in the memory that the caller named.
///
/// Counts are added to, so they may be those of several operations.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Left<'a> {
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
    /// `unscale`: what was met.
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

impl fmt::Display for Left<'_> {
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
pub trait Leaves: Plain {
    /// Returns the value as what was left.
    fn as_left(&self) -> Left<'_>;
}

impl Leaves for Statistics {
    fn as_left(&self) -> Left<'_> {
        Left::Statistics(self)
    }
}

impl Leaves for Unscaled {
    fn as_left(&self) -> Left<'_> {
        Left::Unscaled(self)
    }
}

impl Leaves for Certificate {
    fn as_left(&self) -> Left<'_> {
        Left::Certificate(self)
    }
}

impl Leaves for Cell {
    fn as_left(&self) -> Left<'_> {
        Left::Cell(self)
    }
}

impl Leaves for LossSum {
    fn as_left(&self) -> Left<'_> {
        Left::Loss(self)
    }
}

impl Leaves for f64 {
    fn as_left(&self) -> Left<'_> {
        Left::SquareNorm(self)
    }
}

impl<D: Device> Results<D> for () {}
