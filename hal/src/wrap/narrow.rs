//! The operations of the corridor, handed on.

use adaloss_core::{
    format::Element,
    policy::{Cell, Certificate, Config},
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};

use super::{Call, Counted, Elements, Finished, Hook, Wrapped};
use crate::{AddressSpace, BranchOf, Decide, Epilogue, Mut, Narrow, OperationKind, Plain, Ref};

impl<F: Element + Plain, D: Narrow<F>, H: Hook<D>> Narrow<F> for Wrapped<D, H> {
    fn statistics(
        &mut self,
        values: Ref<'_, D, F>,
        to: Mut<'_, D, Statistics>,
    ) -> Result<(), H::Error> {
        let call = Call::of(OperationKind::Statistics, D::Space::len(values));
        self.hooked(call, Counted::<D::Space, _>(to), |device, to| {
            device.statistics(values, to.lend())
        })
    }

    fn apply(
        &mut self,
        values: Ref<'_, D, f32>,
        to: Mut<'_, D, F>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        self.run_narrowing(OperationKind::Apply, None, to, epilogue, |device, to, epilogue| {
            device.apply(values, to, epilogue)
        })
    }

    fn propagate(
        &mut self,
        branches: &[BranchOf<'_, D, F>],
        to: Mut<'_, D, F>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        self.run_narrowing(OperationKind::Propagate, None, to, epilogue, |device, to, epilogue| {
            device.propagate(branches, to, epilogue)
        })
    }

    fn unscale(
        &mut self,
        gradient: Ref<'_, D, F>,
        cell: Ref<'_, D, Cell>,
        to: Mut<'_, D, f32>,
        met: Mut<'_, D, Unscaled>,
    ) -> Result<(), H::Error> {
        let call = Call::of(OperationKind::Unscale, D::Space::len(gradient));
        let results = (Elements::<D::Space, f32>(to), Counted::<D::Space, _>(met));
        self.hooked(call, results, |device, (to, met)| {
            device.unscale(gradient, cell, to.lend(), met.lend())
        })
    }
}

impl<D: Decide, H: Hook<D>> Decide for Wrapped<D, H> {
    fn certify(
        &mut self,
        config: &Config,
        seen: Ref<'_, D, Histogram>,
        cell: Mut<'_, D, Cell>,
        certificate: Mut<'_, D, Certificate>,
    ) -> Result<(), H::Error> {
        let call = Call::of(OperationKind::Certify, 1);
        self.hooked(call, Counted::<D::Space, _>(certificate), |device, certificate| {
            device.certify(config, seen, cell, certificate.lend())
        })
    }

    fn note(
        &mut self,
        config: &Config,
        outcome: Ref<'_, D, Outcome>,
        from: Ref<'_, D, Cell>,
        cell: Mut<'_, D, Cell>,
    ) -> Result<(), H::Error> {
        let call = Call::of(OperationKind::Note, 1);
        self.hooked(call, Counted::<D::Space, _>(cell), |device, cell| {
            device.note(config, outcome, from, cell.lend())
        })
    }

    fn finish(&mut self, config: &Config, cells: Mut<'_, D, Cell>) -> Result<(), H::Error> {
        let call = Call::of(OperationKind::Finish, D::Space::len(D::Space::shared(&cells)));
        self.hooked(call, Finished::<D::Space>(cells), |device, cells| {
            device.finish(config, cells.lend())
        })
    }
}
