//! Optimizers, handed on.

use crate::{
    AddressSpace, Mut, OperationKind, Ref,
    network::{AdamW, Sgd, Update},
    wrap::{Call, Counted, Elements, Hook, Wrapped},
};

impl<D: Update, H: Hook<D>> Update for Wrapped<D, H> {
    fn square_norm(
        &mut self,
        gradient: Ref<'_, D, f32>,
        to: Mut<'_, D, f64>,
    ) -> Result<(), H::Error> {
        let call = Call::of(OperationKind::SquareNorm, D::Space::len(gradient));
        self.hooked(call, Counted::<D::Space, f64>(to), |device, to| {
            device.square_norm(gradient, to.lend())
        })
    }

    fn sgd(
        &mut self,
        sgd: &Sgd,
        gradient: Ref<'_, D, f32>,
        norm: Ref<'_, D, f64>,
        weight: Mut<'_, D, f32>,
        momentum: Mut<'_, D, f32>,
    ) -> Result<(), H::Error> {
        let call = Call::of(OperationKind::Sgd, D::Space::len(D::Space::shared(&weight)));
        let results = (Elements::<D::Space, f32>(weight), Elements::<D::Space, f32>(momentum));
        self.hooked(call, results, |device, (weight, momentum)| {
            device.sgd(sgd, gradient, norm, weight.lend(), momentum.lend())
        })
    }

    fn adamw(
        &mut self,
        adamw: &AdamW,
        gradient: Ref<'_, D, f32>,
        norm: Ref<'_, D, f64>,
        weight: Mut<'_, D, f32>,
        moments: Mut<'_, D, f32>,
    ) -> Result<(), H::Error> {
        let call = Call::of(OperationKind::AdamW, D::Space::len(D::Space::shared(&weight)));
        let results = (Elements::<D::Space, f32>(weight), Elements::<D::Space, f32>(moments));
        self.hooked(call, results, |device, (weight, moments)| {
            device.adamw(adamw, gradient, norm, weight.lend(), moments.lend())
        })
    }
}
