//! The gradients of parameters: in f32 and unscaled, summed over terms, losses and micro-batches.

use adaloss_hal::{
    AddressSpace, Epilogue, Memory, Mut, Plain, Ref, Unscale,
    network::HasAccumulate,
    scaler::{Carried, Evidence},
};
use anyhow::Result;

use super::{Backward, HasBackward, LossPass};
use crate::layer::{Gradient, MicroBatch, Parameter, Total, Vector};

/// Which one it is of several products that add up to the gradient of a weight in one backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Whether it is the first.
    pub is_first: bool,
    /// Whether it is the last, with which the sum is complete.
    pub is_last: bool,
}

impl Term {
    /// The only one.
    pub const ONLY: Self = Self { is_first: true, is_last: true };
}

impl<D: HasBackward> Backward<'_, D> {
    /// Fills the gradient of a parameter from an operation that computes it in f32 and takes the
    /// gradient's scale out in its epilogue.
    pub fn weight_gradient<W: Plain, G: Plain>(
        &mut self,
        parameter: &mut Parameter<D, W>,
        gradient: &Gradient<D, G>,
        operation: impl for<'w> FnOnce(
            &mut D,
            Ref<'_, D, G>,
            Mut<'w, D, f32>,
            Epilogue<'w, D::Space>,
        ) -> Result<(), D::Error>,
    ) -> Result<()> {
        self.weight_gradient_term(parameter, gradient, Term::ONLY, operation)
    }

    /// Does the same with one of several terms, which are summed in f32 and unscaled in the order of the calls.
    pub fn weight_gradient_term<W: Plain, G: Plain>(
        &mut self,
        parameter: &mut Parameter<D, W>,
        gradient: &Gradient<D, G>,
        term: Term,
        operation: impl for<'w> FnOnce(
            &mut D,
            Ref<'_, D, G>,
            Mut<'w, D, f32>,
            Epilogue<'w, D::Space>,
        ) -> Result<(), D::Error>,
    ) -> Result<()> {
        let adds = self.adds(term);
        let Self { device, buffers, scaler, next, part, unit, .. } = self;
        let (value, carried) = (gradient.value(), gradient.carried());
        let total = &mut parameter.gradient;
        sum(&mut **device, total, (*part, adds), |device, mut to| {
            let to = D::Space::reborrow_mut(&mut to);
            operation(device, value.view(), to, buffers.unscaling(carried, unit.as_ref()))
        })?;
        parameter.cell = *next;
        let evidence = Evidence::Gradient {
            id: *next,
            origin: Some(carried.origin()),
            elements: parameter.master.len() as u64,
            outcome: buffers.outcome.view_mut(),
        };
        scaler.judge_all(device, &mut [evidence], None)?;
        self.complete(parameter, term)
    }

    /// Fills the gradient of a parameter from f32 sums that carry a scale.
    pub fn unscale<W: Plain>(
        &mut self,
        parameter: &mut Parameter<D, W>,
        sums: &Vector<D, f32>,
        carried: &Carried<D>,
    ) -> Result<()> {
        let adds = self.adds(Term::ONLY);
        let Self { device, buffers, scaler, next, part, .. } = self;
        let total = &mut parameter.gradient;
        sum(&mut **device, total, (*part, adds), |device, mut to| {
            device.run(Unscale::<D::Space, f32> {
                gradient: sums.view(),
                cell: carried.scale(),
                to: D::Space::reborrow_mut(&mut to),
                counts: buffers.counts.view_mut(),
            })
        })?;
        parameter.cell = *next;
        let evidence = Evidence::Unscaled {
            id: *next,
            origin: Some(carried.origin()),
            elements: parameter.master.len() as u64,
            counts: buffers.counts.view_mut(),
        };
        scaler.judge_all(device, &mut [evidence], None)?;
        self.complete(parameter, Term::ONLY)
    }

    /// Completes the gradient of a parameter behind the last micro-batch, the last loss and the last term, and passes it on.
    fn complete<W: Plain>(&mut self, parameter: &mut Parameter<D, W>, term: Term) -> Result<()> {
        if self.part.is_last && term.is_last && self.loss_pass != LossPass::First {
            parameter.gradient.complete(self.device)?;
            self.sink.complete(self.device, parameter.index, parameter.gradient.value())?;
        }
        Ok(())
    }

    /// Tells whether another term, or another loss, of this micro-batch is there already.
    fn adds(&self, term: Term) -> bool {
        !term.is_first || matches!(self.loss_pass, LossPass::Second | LossPass::Added)
    }
}

/// Takes what a micro-batch has into a gradient, or what another of its losses or terms has.
fn sum<D: Memory + HasAccumulate>(
    device: &mut D,
    total: &mut Total<D>,
    (part, adds): (MicroBatch, bool),
    compute: impl FnOnce(&mut D, Mut<'_, D, f32>) -> Result<(), D::Error>,
) -> Result<(), D::Error> {
    if adds { total.add(device, compute) } else { total.put(device, part, compute) }
}
