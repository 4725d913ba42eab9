//! The rectifier, forward and back.

use adaloss_core::format::Element;

use crate::{Device, Mut, Plain, Ref};

/// A device that rectifies activations in `W` and gates gradients in `G`, in place.
///
/// Nothing is rounded: a scale is carried.
pub trait Pointwise<W: Element + Plain, G: Element + Plain>: Device {
    /// Sets elements with a negative sign to +0, -0 among them; a NaN stays what it is.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn relu(&mut self, values: Mut<'_, Self, W>) -> Result<(), Self::Error>;

    /// Sets the elements of a gradient to +0 where the output of the rectifier is zero.
    ///
    /// # Errors
    ///
    /// The lengths differ.
    fn relu_input(
        &mut self,
        output: Ref<'_, Self, W>,
        gradient: Mut<'_, Self, G>,
    ) -> Result<(), Self::Error>;
}
