//! A scaler in the accelerator's memory: what core does, once the queue runs.

use adaloss_core::{
    policy::{Cell, Config, Operands},
    scale::Scale,
    scaler::device::{self, DeviceState, Line},
    statistics::{Histogram, Outcome},
    unscale::{LossSum, Place, Unscaled},
};
use adaloss_hal::{
    Fitting, Run,
    scaler::{
        Advance, Close, Conclude, Describe, Described, DeviceScaler, Ended, Ending, Evidence, Judge,
    },
};

use crate::{
    memory::{Accelerator, AcceleratorError, AcceleratorSpace, Handle, Values},
    sabotage::Sabotage,
};

/// A scaler in the queue.
struct Scaler {
    config: Config,
    state: Handle<'static, DeviceState>,
    cells: Handle<'static, Cell>,
    nth: u64,
}

impl Scaler {
    fn queued(scaler: &DeviceScaler<'_, '_, AcceleratorSpace>) -> Self {
        let DeviceScaler { config, state, cells, nth } = scaler;
        Self { config: **config, state: state.queued(), cells: cells.queued(), nth: *nth }
    }

    /// Lets the core change state and cells.
    fn change<R>(
        &self,
        memory: &mut Values,
        operation: impl FnOnce(&Config, &mut DeviceState, &mut [Cell]) -> R,
    ) -> Result<R, AcceleratorError> {
        let mut state = memory.load_one(self.state)?;
        let mut cells = memory.load(self.cells)?;
        let result = operation(&self.config, state.numbered(self.nth), &mut cells);
        memory.store(&[state], self.state)?;
        memory.store(&cells, self.cells)?;
        Ok(result)
    }
}

impl Run<Advance<'_, '_, AcceleratorSpace>> for Accelerator {
    fn execute(
        &mut self,
        operation: Fitting<'_, Advance<'_, '_, AcceleratorSpace>>,
    ) -> Result<(), AcceleratorError> {
        let Advance { ending, asked, sources, scaler, outcome, histogram, from, to, when } =
            operation.into_inner();
        let ending = ending.as_ref().map(End::queued);
        let (asked, scaler, sabotage) = (*asked, Scaler::queued(scaler), self.sabotage);
        let sources: Vec<_> = sources.iter().map(|source| source.queued()).collect();
        let (outcome, histogram) = (outcome.queued(), histogram.queued());
        let (from, to, when) = (from.queued(), to.queued(), when.queued());
        self.enqueue(move |memory| {
            let scales = sources.iter().map(|&source| Ok(memory.load_one(source)?.scale()));
            let mut scales = scales.collect::<Result<Vec<Scale>, AcceleratorError>>()?;
            if let (Sabotage::JoinsAtTheFirst, Some(&first)) = (sabotage, scales.first()) {
                scales.fill(first);
            }
            let mut counted = (memory.load_one(outcome)?, memory.load_one(histogram)?);
            let before = counted.0;
            let mut line = None;
            let scales = scaler.change(memory, |config, state, cells| {
                let (outcome, histogram) = (&mut counted.0, &mut counted.1);
                if let Some(end) = &ending {
                    let (_, written) =
                        end.close(config, state, cells, outcome, histogram, sabotage);
                    line = Some((written, end.line));
                }
                state.advance(config, cells, &asked, scales, outcome, histogram)
            })?;
            if let Some((line, to)) = line {
                memory.store(&[line], to)?;
            }
            if sabotage == Sabotage::KeepsCounts {
                counted.0 = before;
            }
            memory.store(&[counted.0], outcome)?;
            memory.store(&[counted.1], histogram)?;
            if let Some([incoming, outgoing]) = scales {
                memory.store(&[Cell::at(incoming)], from)?;
                memory.store(&[Cell::at(outgoing)], to)?;
            }
            memory.store(&[scales.is_some().into()], when)
        });
        Ok(())
    }
}

impl Run<Describe<'_, '_, AcceleratorSpace>> for Accelerator {
    fn execute(
        &mut self,
        operation: Fitting<'_, Describe<'_, '_, AcceleratorSpace>>,
    ) -> Result<(), AcceleratorError> {
        let Describe { described, scaler } = operation.into_inner();
        let scaler = Scaler::queued(scaler);
        let (gradient, weight) = match described {
            Described::Product { gradient, weight, fan_in } => {
                (gradient.queued(), Some((weight.queued(), *fan_in)))
            }
            Described::Cast(gradient) => (gradient.queued(), None),
        };
        self.enqueue(move |memory| {
            let gradient = memory.load_one(gradient)?;
            let operands = match weight {
                Some((weight, fan_in)) => {
                    Operands::Product { gradient, weight: memory.load_one(weight)?, fan_in }
                }
                None => Operands::Cast(gradient),
            };
            scaler.change(memory, |config, state, _| state.describe(config, &operands))
        });
        Ok(())
    }
}

/// The end of a visit in the queue.
struct End {
    origins: Vec<Place>,
    serial: u64,
    line: Handle<'static, Line>,
}

impl End {
    fn queued(ending: &Ending<'_, AcceleratorSpace>) -> Self {
        let Ending { origins, serial, line } = ending;
        let origins = origins.iter().flatten().copied().collect();
        Self { origins, serial: *serial, line: line.queued() }
    }

    /// Finishes the visit; returns the scale of its values, and what happened.
    fn close(
        &self,
        config: &Config,
        state: &mut DeviceState,
        cells: &mut [Cell],
        outcome: &mut Outcome,
        histogram: &Histogram,
        sabotage: Sabotage,
    ) -> (Scale, Line) {
        let (origins, mut written) = (self.origins.iter().copied(), Line::EMPTY);
        let mut forgotten = cells.to_vec();
        let cells = if sabotage == Sabotage::ForgetsCells { &mut forgotten[..] } else { cells };
        let to = (self.serial, &mut written);
        (state.close(config, cells, origins, outcome, histogram, to), written)
    }
}

impl Run<Close<'_, '_, AcceleratorSpace>> for Accelerator {
    fn execute(
        &mut self,
        operation: Fitting<'_, Close<'_, '_, AcceleratorSpace>>,
    ) -> Result<(), AcceleratorError> {
        let Close { origins, scaler, outcome, histogram, scale, serial, line } =
            operation.into_inner();
        let (scaler, sabotage) = (Scaler::queued(scaler), self.sabotage);
        let origins = origins.iter().flatten().copied().collect();
        let end = End { origins, serial: *serial, line: line.queued() };
        let (outcome, histogram, scale) = (outcome.queued(), histogram.queued(), scale.queued());
        self.enqueue(move |memory| {
            let mut counted = memory.load_one(outcome)?;
            let measured = memory.load_one(histogram)?;
            let (carried, written) = scaler.change(memory, |config, state, cells| {
                end.close(config, state, cells, &mut counted, &measured, sabotage)
            })?;
            memory.store(&[counted], outcome)?;
            memory.store(&[Cell::at(carried)], scale)?;
            memory.store(&[written], end.line)
        });
        Ok(())
    }
}

/// What an operation counted, in the queue.
type Counted = Box<dyn FnOnce(&mut Values) -> Result<Shown, AcceleratorError>>;

/// What an operation counted, as core takes it.
enum Shown {
    Loss { rows: u64, sum: LossSum, serial: u64, line: Handle<'static, Line> },
    Other(device::Evidence),
}

impl Run<Judge<'_, '_, '_, AcceleratorSpace>> for Accelerator {
    fn execute(
        &mut self,
        operation: Fitting<'_, Judge<'_, '_, '_, AcceleratorSpace>>,
    ) -> Result<(), AcceleratorError> {
        let Judge { ended, evidence, scaler, other } = operation.into_inner();
        let ended = ended.as_ref().map(|Ended { ending, outcome, histogram }| {
            (End::queued(ending), outcome.queued(), histogram.queued())
        });
        let (scaler, other) = (Scaler::queued(scaler), other.map(Handle::queued));
        let sabotage = self.sabotage;
        let other = other.filter(|_| sabotage != Sabotage::IgnoresTheOther);
        let counted: Vec<_> = evidence.iter().map(counted).collect();
        self.enqueue(move |memory| {
            let other = other.map(|other| memory.load_one(other)).transpose()?;
            let shown = counted.into_iter().map(|counted| counted(memory));
            let shown = shown.collect::<Result<Vec<_>, _>>()?;
            let mut last = match &ended {
                Some((_, outcome, histogram)) => {
                    Some((memory.load_one(*outcome)?, memory.load_one(*histogram)?))
                }
                None => None,
            };
            let mut lines = Vec::new();
            scaler.change(memory, |config, state, cells| {
                if let (Some((end, ..)), Some((outcome, histogram))) = (&ended, &mut last) {
                    let (_, written) =
                        end.close(config, state, cells, outcome, histogram, sabotage);
                    lines.push((written, end.line));
                }
                for shown in shown {
                    match shown {
                        Shown::Loss { rows, sum, serial, line } => {
                            let mut written = Line::EMPTY;
                            state.judge_loss(rows, &sum, other.as_ref(), (serial, &mut written));
                            lines.push((written, line));
                        }
                        Shown::Other(evidence) => {
                            state.judge(config, cells, &evidence, other.as_ref());
                        }
                    }
                }
            })?;
            if let (Some((_, to, _)), Some((outcome, _))) = (ended, last)
                && sabotage != Sabotage::KeepsCounts
            {
                memory.store(&[outcome], to)?;
            }
            lines.into_iter().try_for_each(|(written, line)| memory.store(&[written], line))
        });
        Ok(())
    }
}

/// Returns what takes a piece of evidence, once the queue runs.
fn counted(evidence: &Evidence<'_, '_, AcceleratorSpace>) -> Counted {
    match *evidence {
        Evidence::Loss { rows, sum, serial, ref line } => {
            let (sum, line) = (sum.queued(), line.queued());
            Box::new(move |memory| {
                Ok(Shown::Loss { rows, sum: memory.load_one(sum)?, serial, line })
            })
        }
        Evidence::Gradient { id, origin, elements, ref outcome } => {
            let outcome = outcome.queued();
            Box::new(move |memory| {
                let met = Unscaled::from_outcome(&memory.load_one(outcome)?);
                memory.store(&[Outcome::EMPTY], outcome)?;
                Ok(Shown::Other(device::Evidence::Gradient { id, origin, elements, met }))
            })
        }
        Evidence::Unscaled { id, origin, elements, ref counts } => {
            let counts = counts.queued();
            Box::new(move |memory| {
                let met = memory.load_one(counts)?;
                memory.store(&[Unscaled::default()], counts)?;
                Ok(Shown::Other(device::Evidence::Gradient { id, origin, elements, met }))
            })
        }
        Evidence::Squares { id, is_gradient, sum } => {
            let sum = sum.queued();
            Box::new(move |memory| {
                let sum = memory.load_one(sum)?;
                Ok(Shown::Other(device::Evidence::Squares { id, sum, is_gradient }))
            })
        }
        Evidence::Weight { id, elements, saturates, outcome } => {
            let counts = outcome.queued();
            Box::new(move |memory| {
                let outcome = memory.load_one(counts)?;
                Ok(Shown::Other(device::Evidence::Weight { id, elements, saturates, outcome }))
            })
        }
        Evidence::WeightSquares { id, sum } => {
            let sum = sum.queued();
            Box::new(move |memory| {
                let sum = memory.load_one(sum)?;
                Ok(Shown::Other(device::Evidence::WeightSquares { id, sum }))
            })
        }
    }
}

impl Run<Conclude<'_, '_, AcceleratorSpace>> for Accelerator {
    fn execute(
        &mut self,
        operation: Fitting<'_, Conclude<'_, '_, AcceleratorSpace>>,
    ) -> Result<(), AcceleratorError> {
        let Conclude { scaler, requires, applies, updates, square_norm, serial, line } =
            operation.into_inner();
        let (scaler, serial, sabotage) = (Scaler::queued(scaler), *serial, self.sabotage);
        let requires = requires.map(Handle::queued);
        let (applies, updates) = (applies.queued(), updates.queued());
        let (square_norm, line) = (square_norm.queued(), line.queued());
        self.enqueue(move |memory| {
            let requires = requires.map(|word| memory.load_one(word)).transpose()?;
            let mut written = Line::EMPTY;
            let ended = scaler.change(memory, |config, state, cells| {
                let end = match sabotage {
                    Sabotage::FinishesTheFirst => cells.len().min(1),
                    _ => cells.len(),
                };
                let requires = requires != Some(0);
                state.finish(config, &mut cells[..end], requires, (serial, &mut written))
            })?;
            let is_applied = ended.applies || sabotage == Sabotage::AppliesAlways;
            memory.store(&[is_applied.into()], applies)?;
            memory.store(&[ended.updates], updates)?;
            memory.store(&[ended.square_norm], square_norm)?;
            memory.store(&[written], line)
        });
        Ok(())
    }
}
