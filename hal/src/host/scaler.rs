//! Scalers in host memory: what core does, for every such device.

use adaloss_core::{
    policy::Cell,
    scaler::device::{self, Conclusion},
    statistics::Outcome,
    unscale::Unscaled,
};

use super::{HostMemory, one, one_mut};
use crate::{
    run::{Fitting, Run},
    scaler::{Advance, Close, Conclude, Describe, DeviceScaler, Evidence, Judge},
    space::HostSpace,
};

impl<D: HostMemory> Run<Advance<'_, '_, HostSpace>> for D {
    fn execute(
        &mut self,
        operation: Fitting<'_, Advance<'_, '_, HostSpace>>,
    ) -> Result<(), D::Error> {
        let Advance { asked, sources, scaler, outcome, histogram, from, to, when } =
            operation.into_inner();
        let DeviceScaler { config, state, cells, nth } = scaler;
        let sources = sources.iter().flat_map(|cell| cell.iter().map(Cell::scale));
        let (outcome, histogram) =
            (one_mut("the outcome", outcome)?, one_mut("the histogram", histogram)?);
        let state = one_mut("the state", state)?.numbered(*nth);
        let scales = state.advance(config, cells, asked, sources, outcome, histogram);
        if let Some(scales) = scales {
            let [incoming, outgoing] = scales.map(Cell::at);
            *one_mut("the scale of what arrives", from)? = incoming;
            *one_mut("the scale of what leaves", to)? = outgoing;
        }
        *one_mut("the predicate", when)? = scales.is_some().into();
        Ok(())
    }
}

impl<D: HostMemory> Run<Describe<'_, '_, HostSpace>> for D {
    fn execute(
        &mut self,
        operation: Fitting<'_, Describe<'_, '_, HostSpace>>,
    ) -> Result<(), D::Error> {
        let Describe { described, scaler } = operation.into_inner();
        let DeviceScaler { config, state, nth, .. } = scaler;
        let state = one_mut("the state", state)?.numbered(*nth);
        if let Some(operands) = described.operands() {
            state.describe(config, &operands);
        }
        Ok(())
    }
}

impl<D: HostMemory> Run<Close<'_, '_, HostSpace>> for D {
    fn execute(
        &mut self,
        operation: Fitting<'_, Close<'_, '_, HostSpace>>,
    ) -> Result<(), D::Error> {
        let Close { origins, scaler, outcome, histogram, scale, serial, line } =
            operation.into_inner();
        let DeviceScaler { config, state, cells, nth } = scaler;
        let (outcome, histogram) =
            (one_mut("the outcome", outcome)?, one("the histogram", histogram)?);
        let state = one_mut("the state", state)?.numbered(*nth);
        let line = one_mut("the line", line)?;
        let origins = origins.iter().flatten().copied();
        let carried = state.close(config, cells, origins, outcome, histogram, (*serial, line));
        *one_mut("the scale of the values", scale)? = Cell::at(carried);
        Ok(())
    }
}

impl<D: HostMemory> Run<Judge<'_, '_, HostSpace>> for D {
    fn execute(
        &mut self,
        operation: Fitting<'_, Judge<'_, '_, HostSpace>>,
    ) -> Result<(), D::Error> {
        let Judge { evidence, scaler, other } = operation.into_inner();
        let DeviceScaler { config, state, cells, nth } = scaler;
        let state = one_mut("the state", state)?.numbered(*nth);
        let other = other.and_then(|other| other.first());
        let evidence = match evidence {
            Evidence::Loss { rows, sum, serial, line } => {
                let (sum, line) = (one("the sum of the loss", sum)?, one_mut("the line", line)?);
                state.judge_loss(*rows, sum, other, (*serial, line));
                return Ok(());
            }
            Evidence::Gradient { id, origin, elements, outcome } => {
                let counted = core::mem::replace(one_mut("the outcome", outcome)?, Outcome::EMPTY);
                let met = Unscaled::from_outcome(&counted);
                let (id, origin, elements) = (*id, *origin, *elements);
                device::Evidence::Gradient { id, origin, elements, met }
            }
            Evidence::Unscaled { id, origin, elements, counts } => {
                let met = core::mem::take(one_mut("the counts", counts)?);
                let (id, origin, elements) = (*id, *origin, *elements);
                device::Evidence::Gradient { id, origin, elements, met }
            }
            Evidence::Squares { id, is_gradient, sum } => {
                let sum = *one("the sum of the squares", sum)?;
                device::Evidence::Squares { id: *id, sum, is_gradient: *is_gradient }
            }
            Evidence::Weight { id, elements, saturates, outcome } => {
                let outcome = *one("the outcome", outcome)?;
                let (id, elements, saturates) = (*id, *elements, *saturates);
                device::Evidence::Weight { id, elements, saturates, outcome }
            }
            Evidence::WeightSquares { id, sum } => {
                let sum = *one("the sum of the squares", sum)?;
                device::Evidence::WeightSquares { id: *id, sum }
            }
        };
        state.judge(config, cells, &evidence, other);
        Ok(())
    }
}

impl<D: HostMemory> Run<Conclude<'_, '_, HostSpace>> for D {
    fn execute(
        &mut self,
        operation: Fitting<'_, Conclude<'_, '_, HostSpace>>,
    ) -> Result<(), D::Error> {
        let Conclude { scaler, requires, applies, updates, square_norm, serial, line } =
            operation.into_inner();
        let DeviceScaler { config, state, cells, nth } = scaler;
        let requires = requires.is_none_or(|requires| requires != [0]);
        let state = one_mut("the state", state)?.numbered(*nth);
        let line = one_mut("the line", line)?;
        let ended = state.finish(config, cells, requires, (*serial, line));
        let Conclusion { applies: is_used, updates: count, square_norm: norm } = ended;
        *one_mut("whether the step applies", applies)? = is_used.into();
        *one_mut("the number of updates", updates)? = count;
        *one_mut("the sum of the squares", square_norm)? = norm;
        Ok(())
    }
}
