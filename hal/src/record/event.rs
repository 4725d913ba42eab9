//! One line of a record.

use core::fmt;

use adaloss_core::{
    policy::{Cell, Certificate},
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};

use crate::{ErrorKind, Operation, Product};

/// One operation that a device was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event<'a> {
    /// The operation.
    pub operation: Operation,
    /// The elements of its result; those it looked at for `statistics`, 1 for `decide` and `note`.
    pub elements: usize,
    /// The shape of a matrix product.
    pub product: Option<Product>,
    /// The kind of the error, if it returned one.
    pub failed: Option<ErrorKind>,
    /// What it left behind.
    pub left: Left<'a>,
}

/// What an operation left behind, in the memory that the caller named.
///
/// Counts are added to, so they may be those of several operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Left<'a> {
    /// Nothing that was read: the operation copies or failed, or the record only traces.
    Unread,
    /// `apply`, `propagate`, `matmul`: the counts of the epilogue.
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
    /// `decide`.
    Certificate(&'a Certificate),
    /// `note`: the cell after it.
    Cell(&'a Cell),
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, elements, product, failed, left } = self;
        write!(f, "{operation} of {elements}")?;
        if let Some(product) = product {
            write!(f, ", {product}")?;
        }
        match failed {
            Some(kind) => write!(f, ": {kind}"),
            None => left.fmt(f),
        }
    }
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
                write!(f, ": {scale}, {age} visits old, trigger {trigger:?}")
            }
        }
    }
}
