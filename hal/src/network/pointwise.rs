//! The rectifier, forward and back.

use adaloss_core::format::Element;

use crate::{Device, Plain};

/// A device that rectifies activations in `W` and gates gradients in `G`, in place.
///
/// Nothing is rounded: a scale is carried.
pub trait Pointwise<W: Element + Plain, G: Element + Plain>: Device {
    /// Sets elements with a negative sign to +0, -0 among them; a NaN stays what it is.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn relu(&mut self, values: Self::Mut<'_, W>) -> Result<(), Self::Error>;

    /// Sets the elements of a gradient to +0 where the output of the rectifier is zero.
    ///
    /// # Errors
    ///
    /// The lengths differ.
    fn relu_input(
        &mut self,
        output: Self::Ref<'_, W>,
        gradient: Self::Mut<'_, G>,
    ) -> Result<(), Self::Error>;
}
