//! The operations of the corridor, handed on.

use adaloss_core::{format::Element, policy::Cell, statistics::Statistics, unscale::Unscaled};

use super::{Call, Counted, Elements, Hook, Wrapped};
use crate::{AddressSpace, BranchOf, Epilogue, Mut, Narrow, OperationKind, Plain, Ref};

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
