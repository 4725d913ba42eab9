//! The operations of the corridor, handed on.

use adaloss_core::{
    format::Element,
    policy::{Cell, Certificate, Config},
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};

use super::{Call, Counted, Elements, Finished, Hook, Shape, Wrapped};
use crate::{BranchOf, Decide, Epilogue, Matmul, Narrow, Operation, Plain, Product};

impl<F: Element + Plain, D: Narrow<F>, H: Hook<D>> Narrow<F> for Wrapped<D, H> {
    fn statistics(
        &mut self,
        values: D::Ref<'_, F>,
        to: D::Mut<'_, Statistics>,
    ) -> Result<(), H::Error> {
        let call = Call::of(Operation::Statistics, D::len(values));
        self.run(call, Counted::<D, _>(to), |device, to| device.statistics(values, to.lend()))
    }

    fn apply(
        &mut self,
        values: D::Ref<'_, f32>,
        to: D::Mut<'_, F>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), H::Error> {
        self.run_narrowing(Operation::Apply, None, to, epilogue, |device, to, epilogue| {
            device.apply(values, to, epilogue)
        })
    }

    fn propagate(
        &mut self,
        branches: &[BranchOf<'_, D, F>],
        to: D::Mut<'_, F>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), H::Error> {
        self.run_narrowing(Operation::Propagate, None, to, epilogue, |device, to, epilogue| {
            device.propagate(branches, to, epilogue)
        })
    }

    fn unscale(
        &mut self,
        gradient: D::Ref<'_, F>,
        cell: D::Ref<'_, Cell>,
        to: D::Mut<'_, f32>,
        met: D::Mut<'_, Unscaled>,
    ) -> Result<(), H::Error> {
        let call = Call::of(Operation::Unscale, D::len(gradient));
        let results = (Elements::<D, f32>(to), Counted::<D, _>(met));
        self.run(call, results, |device, (to, met)| {
            device.unscale(gradient, cell, to.lend(), met.lend())
        })
    }
}

impl<D: Decide, H: Hook<D>> Decide for Wrapped<D, H> {
    fn certify(
        &mut self,
        config: &Config,
        seen: D::Ref<'_, Histogram>,
        cell: D::Mut<'_, Cell>,
        certificate: D::Mut<'_, Certificate>,
    ) -> Result<(), H::Error> {
        let call = Call::of(Operation::Certify, 1);
        self.run(call, Counted::<D, _>(certificate), |device, certificate| {
            device.certify(config, seen, cell, certificate.lend())
        })
    }

    fn note(
        &mut self,
        config: &Config,
        outcome: D::Ref<'_, Outcome>,
        from: D::Ref<'_, Cell>,
        cell: D::Mut<'_, Cell>,
    ) -> Result<(), H::Error> {
        let call = Call::of(Operation::Note, 1);
        self.run(call, Counted::<D, _>(cell), |device, cell| {
            device.note(config, outcome, from, cell.lend())
        })
    }

    fn finish(&mut self, config: &Config, cells: D::Mut<'_, Cell>) -> Result<(), H::Error> {
        let call = Call::of(Operation::Finish, D::len(D::shared(&cells)));
        self.run(call, Finished::<D>(cells), |device, cells| device.finish(config, cells.lend()))
    }
}

impl<A, B, F, D, H> Matmul<A, B, F> for Wrapped<D, H>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Matmul<A, B, F>,
    H: Hook<D>,
{
    fn matmul(
        &mut self,
        product: Product,
        a: D::Ref<'_, A>,
        b: D::Ref<'_, B>,
        to: D::Mut<'_, F>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), H::Error> {
        let shape = Shape::Product(product);
        self.run_narrowing(Operation::Matmul, shape, to, epilogue, |device, to, epilogue| {
            device.matmul(product, a, b, to, epilogue)
        })
    }
}
