//! Sums of f32 tensors.

use crate::{Device, Mut, Ref};

/// A device that adds f32 tensors.
pub trait Accumulate: Device {
    /// Adds `from` to every row of `to`: a bias to a matrix, or a gradient to another of its length.
    ///
    /// # Errors
    ///
    /// The length of `to` is no multiple of that of `from`; of no elements only 0 is.
    fn accumulate(
        &mut self,
        from: Ref<'_, Self, f32>,
        to: Mut<'_, Self, f32>,
    ) -> Result<(), Self::Error>;

    /// Moves `to` towards `from`: `to + share (from - to)`, for running means.
    ///
    /// # Errors
    ///
    /// The lengths differ.
    fn blend(
        &mut self,
        share: f32,
        from: Ref<'_, Self, f32>,
        to: Mut<'_, Self, f32>,
    ) -> Result<(), Self::Error>;
}
