//! Sums of f32 tensors, handed on.

use crate::{
    Mut, OperationKind, Ref,
    network::Accumulate,
    wrap::{Hook, Wrapped},
};

impl<D: Accumulate, H: Hook<D>> Accumulate for Wrapped<D, H> {
    fn accumulate(&mut self, from: Ref<'_, D, f32>, to: Mut<'_, D, f32>) -> Result<(), H::Error> {
        self.run_filling(OperationKind::Accumulate, None, to, |device, to| {
            device.accumulate(from, to)
        })
    }

    fn blend(
        &mut self,
        share: f32,
        from: Ref<'_, D, f32>,
        to: Mut<'_, D, f32>,
    ) -> Result<(), H::Error> {
        self.run_filling(OperationKind::Blend, None, to, |device, to| device.blend(share, from, to))
    }
}
