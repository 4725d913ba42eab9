//! Optimizers, handed on.

use crate::{
    Operation,
    network::{AdamW, Sgd, Update},
    wrap::{Call, Counted, Elements, Hook, Wrapped},
};

impl<D: Update, H: Hook<D>> Update for Wrapped<D, H> {
    fn square_norm(
        &mut self,
        gradient: D::Ref<'_, f32>,
        to: D::Mut<'_, f64>,
    ) -> Result<(), H::Error> {
        let call = Call::of(Operation::SquareNorm, D::len(gradient));
        self.run(call, Counted::<D, f64>(to), |device, to| device.square_norm(gradient, to.lend()))
    }

    fn sgd(
        &mut self,
        sgd: &Sgd,
        gradient: D::Ref<'_, f32>,
        norm: D::Ref<'_, f64>,
        weight: D::Mut<'_, f32>,
        momentum: D::Mut<'_, f32>,
    ) -> Result<(), H::Error> {
        let call = Call::of(Operation::Sgd, D::len(D::shared(&weight)));
        let results = (Elements::<D, f32>(weight), Elements::<D, f32>(momentum));
        self.run(call, results, |device, (weight, momentum)| {
            device.sgd(sgd, gradient, norm, weight.lend(), momentum.lend())
        })
    }

    fn adamw(
        &mut self,
        adamw: &AdamW,
        gradient: D::Ref<'_, f32>,
        norm: D::Ref<'_, f64>,
        weight: D::Mut<'_, f32>,
        moments: D::Mut<'_, f32>,
    ) -> Result<(), H::Error> {
        let call = Call::of(Operation::AdamW, D::len(D::shared(&weight)));
        let results = (Elements::<D, f32>(weight), Elements::<D, f32>(moments));
        self.run(call, results, |device, (weight, moments)| {
            device.adamw(adamw, gradient, norm, weight.lend(), moments.lend())
        })
    }
}
