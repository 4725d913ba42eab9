//! An activation gradient and the scale that it carries, which only the device knows.

use std::rc::Rc;

use adaloss_hal::{Memory, Plain, scaler::Carried};
use anyhow::Result;

use super::Tensor;

/// An activation gradient and its scale.
pub struct Gradient<D: Memory, G: Plain> {
    value: Rc<Tensor<D, G>>,
    carried: Rc<Carried<D>>,
}

impl<D: Memory, G: Plain> Gradient<D, G> {
    /// Ties a tensor to the scale that it left a cell with.
    pub(super) fn new(value: Tensor<D, G>, carried: Carried<D>) -> Self {
        Self { value: Rc::new(value), carried: Rc::new(carried) }
    }

    /// Returns the elements, which carry the scale.
    pub fn value(&self) -> &Rc<Tensor<D, G>> {
        &self.value
    }

    /// Returns the scale.
    pub fn carried(&self) -> &Carried<D> {
        &self.carried
    }

    /// Carries the scale through an operation that rounds nothing.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    pub fn carry(
        self,
        operation: impl FnOnce(Rc<Tensor<D, G>>) -> Result<Tensor<D, G>>,
    ) -> Result<Self> {
        let Self { value, carried } = self;
        Ok(Self { value: Rc::new(operation(value)?), carried })
    }
}

impl<D: Memory, G: Plain> Clone for Gradient<D, G> {
    fn clone(&self) -> Self {
        Self { value: Rc::clone(&self.value), carried: Rc::clone(&self.carried) }
    }
}
