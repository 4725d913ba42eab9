//! Dropout, handed on.

use adaloss_core::format::Element;

use crate::{
    Epilogue, Mut, OperationKind, Plain, Ref,
    network::{Dropout, Mask},
    wrap::{Hook, Wrapped},
};

impl<E: Element + Plain, D: Dropout<E>, H: Hook<D>> Dropout<E> for Wrapped<D, H> {
    fn dropout(
        &mut self,
        mask: Mask,
        input: Ref<'_, D, E>,
        to: Mut<'_, D, E>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        self.run_narrowing(OperationKind::Dropout, None, to, epilogue, |device, to, epilogue| {
            device.dropout(mask, input, to, epilogue)
        })
    }
}
