//! What an operation writes, in memory that the caller named.

use adaloss_core::format::Encoding;

use crate::{device::Device, readout::Readout};

/// What an operation writes: elements, counts, both, or neither (a cell, for example).
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
    fn readout(
        &mut self,
        _device: &mut D,
        show: &mut dyn FnMut(Readout<'_>),
    ) -> Result<(), D::Error> {
        show(Readout::Unread);
        Ok(())
    }
}

impl<D: Device> Results<D> for () {}
