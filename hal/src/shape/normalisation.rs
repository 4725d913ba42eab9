//! The shape of a normalisation.

use core::fmt;

use super::elements;

/// The axis that a normalisation takes its means over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Over the rows, one mean per column: batch normalisation (Ioffe and Szegedy 2015).
    Rows,
    /// Over the columns, one mean per row: layer normalisation (Ba et al. 2016), and where it is not centred the root mean square
    /// (Zhang and Sennrich 2019).
    Columns,
}

/// The shape of a normalisation of a (rows, columns) matrix.
///
/// An element is normalised to `x̂ = (x - mean) / sqrt(variance + epsilon)` and leaves as
/// `gain x̂ + offset`, with a gain and an offset per column.  The variance is the biased one: the
/// mean of the squared distances from the mean.
///
/// Where it is not centred, distances are taken from 0: moments are means of 0 and the means of the squares, and an element is
/// divided by its root mean square.  With a gain of `g / sqrt(columns)` and no offset, that is the L2 normalisation `g x / ||x||` over the
/// channels of a pixel (Liu et al. 2016, SSD).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// Rows: all pixels of a batch, or all tokens.
    pub rows: usize,
    /// Columns: channels or features.
    pub columns: usize,
    /// What means are taken over.
    pub axis: Axis,
    /// Whether distances are taken from the mean; otherwise from 0.
    pub centred: bool,
    /// Added to variances.
    pub epsilon: f32,
}

impl Normalisation {
    /// Returns the elements of the matrix.
    pub const fn elements(self) -> usize {
        elements([self.rows, self.columns])
    }

    /// Returns the number of means.
    pub const fn groups(self) -> usize {
        match self.axis {
            Axis::Rows => self.columns,
            Axis::Columns => self.rows,
        }
    }

    /// Returns the elements of the moments: the means, then the variances.
    pub const fn moments(self) -> usize {
        elements([2, self.groups()])
    }

    /// Returns the elements of the affine parameters: the gains, then the offsets.
    pub const fn affine(self) -> usize {
        elements([2, self.columns])
    }
}

impl fmt::Display for Normalisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, columns, axis, centred, .. } = self;
        let axis = match axis {
            Axis::Rows => "rows",
            Axis::Columns => "columns",
        };
        let around = if *centred { "" } else { ", not centred" };
        write!(f, "{rows} x {columns} over the {axis}{around}")
    }
}
