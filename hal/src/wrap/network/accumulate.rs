//! Sums of f32 tensors, handed on.

use crate::{
    Operation,
    network::Accumulate,
    wrap::{Hook, Wrapped},
};

impl<D: Accumulate, H: Hook<D>> Accumulate for Wrapped<D, H> {
    fn accumulate(&mut self, from: D::Ref<'_, f32>, to: D::Mut<'_, f32>) -> Result<(), H::Error> {
        self.run_filling(Operation::Accumulate, None, to, |device, to| device.accumulate(from, to))
    }

    fn blend(
        &mut self,
        share: f32,
        from: D::Ref<'_, f32>,
        to: D::Mut<'_, f32>,
    ) -> Result<(), H::Error> {
        self.run_filling(Operation::Blend, None, to, |device, to| device.blend(share, from, to))
    }
}
