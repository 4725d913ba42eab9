//! Batch and layer normalisation.

use core::fmt;

use adaloss_core::format::Element;

use super::elements;
use crate::{Epilogue, Mut, Narrow, Plain, Ref};

/// The axis that a normalisation takes its means over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Over the rows, one mean per column: batch normalisation (Ioffe and Szegedy 2015).
    Rows,
    /// Over the columns, one mean per row: layer normalisation (Ba et al. 2016).
    Columns,
}

/// The shape of a normalisation of a (rows, columns) matrix.
///
/// An element is normalised to `x̂ = (x - mean) / sqrt(variance + epsilon)` and leaves as
/// `gain x̂ + offset`, with a gain and an offset per column.  The variance is the biased one: the
/// mean of the squared distances from the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// Rows: all pixels of a batch, or all tokens.
    pub rows: usize,
    /// Columns: channels or features.
    pub columns: usize,
    /// What means are taken over.
    pub axis: Axis,
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
        let Self { rows, columns, axis, .. } = self;
        let axis = match axis {
            Axis::Rows => "rows",
            Axis::Columns => "columns",
        };
        write!(f, "{rows} x {columns} over the {axis}")
    }
}

/// The operands of a normalisation's gradient, as the device names memory.
#[derive(Clone, Copy, Debug)]
pub struct Normalised<I, R> {
    /// The input of the forward pass.
    pub input: I,
    /// Its moments.
    pub moments: R,
    /// Gains, then offsets.
    pub affine: R,
    /// What [`Normalise::normalise_sums`] returned.
    pub sums: R,
}

/// The operands of a normalisation's gradient on the device `D`.
pub type NormalisedOn<'a, D, W> = Normalised<Ref<'a, D, W>, Ref<'a, D, f32>>;

/// A device that normalises activations in `W` and takes gradients in `G` back through it.
pub trait Normalise<W: Element + Plain, G: Element + Plain>: Narrow<W> + Narrow<G> {
    /// Computes the means, then the biased variances, of the columns or rows.
    ///
    /// Sums are taken about a value near the mean or in two passes, so that the variance of a column
    /// far from zero keeps its digits.  Without elements both are 0.
    ///
    /// # Errors
    ///
    /// `input` or `to` does not have the elements of the shape.
    fn moments(
        &mut self,
        shape: Normalisation,
        input: Ref<'_, Self, W>,
        to: Mut<'_, Self, f32>,
    ) -> Result<(), Self::Error>;

    /// Normalises with given moments: those of the input, or running ones.
    ///
    /// # Errors
    ///
    /// An operand or `to` does not have the elements of the shape, a part of the epilogue is not one
    /// element, or its narrowing is not for `W`.
    fn normalise(
        &mut self,
        shape: Normalisation,
        input: Ref<'_, Self, W>,
        moments: Ref<'_, Self, f32>,
        affine: Ref<'_, Self, f32>,
        to: Mut<'_, Self, W>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Self::Error>
    where
        Self: Sized;

    /// Computes, per column, the sum of `gradient x̂` and then of `gradient`: the gradients of gains
    /// and offsets, which carry the scale of `gradient`.
    ///
    /// # Errors
    ///
    /// An operand or `to` does not have the elements of the shape.
    fn normalise_sums(
        &mut self,
        shape: Normalisation,
        gradient: Ref<'_, Self, G>,
        input: Ref<'_, Self, W>,
        moments: Ref<'_, Self, f32>,
        to: Mut<'_, Self, f32>,
    ) -> Result<(), Self::Error>;

    /// Computes the gradient of the input, where the moments were those of the input:
    /// `(h - mean(h) - x̂ mean(h x̂)) / sqrt(variance + epsilon)` with `h = gain gradient` and the
    /// means over the axis; over the rows they follow from the sums.
    ///
    /// # Errors
    ///
    /// An operand or `to` does not have the elements of the shape, a part of the epilogue is not one
    /// element, or its narrowing is not for `G`.
    fn normalise_input(
        &mut self,
        shape: Normalisation,
        gradient: Ref<'_, Self, G>,
        forward: NormalisedOn<'_, Self, W>,
        to: Mut<'_, Self, G>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Self::Error>
    where
        Self: Sized;
}
