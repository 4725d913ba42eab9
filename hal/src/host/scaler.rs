//! Scalers in host memory: what core does, for every such device.

use adaloss_core::{
    policy::{Cell, Config},
    scaler::device::{self, Conclusion, DeviceState, Line},
    statistics::{Histogram, Outcome},
    unscale::{LossSum, Unscaled},
};

use super::{HostError, HostMemory, one, one_mut};
use crate::{
    run::{Fitting, Run},
    scaler::{Advance, Close, Conclude, Describe, DeviceScaler, Ended, Ending, Evidence, Judge},
    space::HostSpace,
};

impl<D: HostMemory> Run<Advance<'_, '_, HostSpace>> for D {
    fn execute(
        &mut self,
        operation: Fitting<'_, Advance<'_, '_, HostSpace>>,
    ) -> Result<(), D::Error> {
        let Advance { ending, asked, sources, scaler, outcome, histogram, from, to, when } =
            operation.into_inner();
        let DeviceScaler { config, state, cells, nth } = scaler;
        let sources = sources.iter().flat_map(|cell| cell.iter().map(Cell::scale));
        let (outcome, histogram) =
            (one_mut("the outcome", outcome)?, one_mut("the histogram", histogram)?);
        let state = one_mut("the state", state)?.numbered(*nth);
        if let Some(ending) = ending {
            ending.close(config, state, cells, (outcome, histogram))?;
        }
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

impl<D: HostMemory> Run<Judge<'_, '_, '_, HostSpace>> for D {
    fn execute(
        &mut self,
        operation: Fitting<'_, Judge<'_, '_, '_, HostSpace>>,
    ) -> Result<(), D::Error> {
        let Judge { ended, evidence, scaler, other } = operation.into_inner();
        let DeviceScaler { config, state, cells, nth } = scaler;
        let state = one_mut("the state", state)?.numbered(*nth);
        if let Some(Ended { ending, outcome, histogram }) = ended {
            let counted = (one_mut("the outcome", outcome)?, one("the histogram", histogram)?);
            ending.close(config, state, cells, counted)?;
        }
        let other = other.and_then(|other| other.first());
        for evidence in &mut **evidence {
            match evidence.take()? {
                Taken::Loss { rows, sum, line } => state.judge_loss(rows, sum, other, line),
                Taken::Other(evidence) => state.judge(config, cells, &evidence, other),
            }
        }
        Ok(())
    }
}

impl Ending<'_, HostSpace> {
    /// Finishes the visit, whose last pass counted and measured this.
    fn close(
        &mut self,
        config: &Config,
        state: &mut DeviceState,
        cells: &mut [Cell],
        (outcome, histogram): (&mut Outcome, &Histogram),
    ) -> Result<(), HostError> {
        let Self { origins, serial, line } = self;
        let line = one_mut("the line of a visit that ends", line)?;
        let origins = origins.iter().flatten().copied();
        // The values have the scale of the last pass, which was handed out.
        let _ = state.close(config, cells, origins, outcome, histogram, (*serial, line));
        Ok(())
    }
}

/// What was counted, taken from where it was counted.
enum Taken<'t> {
    Loss { rows: u64, sum: &'t LossSum, line: (u64, &'t mut Line) },
    Other(device::Evidence),
}

impl Evidence<'_, '_, HostSpace> {
    /// Takes what was counted; the counts of a weight gradient are cleared.
    fn take(&mut self) -> Result<Taken<'_>, HostError> {
        Ok(Taken::Other(match self {
            Self::Loss { rows, sum, serial, line } => {
                let (sum, line) = (one("the sum of the loss", sum)?, one_mut("the line", line)?);
                return Ok(Taken::Loss { rows: *rows, sum, line: (*serial, line) });
            }
            Self::Gradient { id, origin, elements, outcome } => {
                let counted = core::mem::replace(one_mut("the outcome", outcome)?, Outcome::EMPTY);
                let met = Unscaled::from_outcome(&counted);
                let (id, origin, elements) = (*id, *origin, *elements);
                device::Evidence::Gradient { id, origin, elements, met }
            }
            Self::Unscaled { id, origin, elements, counts } => {
                let met = core::mem::take(one_mut("the counts", counts)?);
                let (id, origin, elements) = (*id, *origin, *elements);
                device::Evidence::Gradient { id, origin, elements, met }
            }
            Self::Squares { id, is_gradient, sum } => {
                let sum = *one("the sum of the squares", sum)?;
                device::Evidence::Squares { id: *id, sum, is_gradient: *is_gradient }
            }
            Self::Weight { id, elements, saturates, outcome } => {
                let outcome = *one("the outcome", outcome)?;
                let (id, elements, saturates) = (*id, *elements, *saturates);
                device::Evidence::Weight { id, elements, saturates, outcome }
            }
            Self::WeightSquares { id, sum } => {
                let sum = *one("the sum of the squares", sum)?;
                device::Evidence::WeightSquares { id: *id, sum }
            }
        }))
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
