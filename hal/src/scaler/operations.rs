//! A scaler that lives in the memory of a device, and the operations by which it decides there.

use adaloss_core::{
    policy::{Cell, Config, Operands},
    scaler::device::{Asked, DeviceState, Line},
    statistics::{Histogram, Outcome, Statistics},
    unscale::{LossSum, Place, Unscaled},
};

use crate::{
    device::Device,
    kind::OperationKind,
    operation::{Operation, Visitor},
    run::{Run, has},
    space::AddressSpace,
};

/// The state and the cells of a scaler, where a device keeps them.
pub struct DeviceScaler<'r, 'w, S: AddressSpace> {
    /// The configuration: always the same one.
    pub config: &'r Config,
    /// The state; one element.
    pub state: S::Mut<'w, DeviceState>,
    /// The cells of layers; any number of elements.
    pub cells: S::Mut<'w, Cell>,
    /// The number of the operation: those of a scaler are numbered one after the other, so that one that was left out is
    /// [noticed](DeviceState::numbered).
    pub nth: u64,
}

impl<S: AddressSpace> DeviceScaler<'_, '_, S> {
    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        visitor.written("the state", Some(1), &mut self.state);
        visitor.written("the cells", None, &mut self.cells);
    }

    /// Names the same for a shorter time.
    pub fn reborrow(&mut self) -> DeviceScaler<'_, '_, S> {
        let Self { config, state, cells, nth } = self;
        let (state, cells) = (S::reborrow_mut(state), S::reborrow_mut(cells));
        DeviceScaler { config, state, cells, nth: *nth }
    }
}

/// The most origins of a visit whose end another operation can [bring along](Ending).
pub const MOST_ORIGINS: usize = 4;

/// The end of a visit that comes with the operation behind it, so that it takes none of its own: the visit is finished as
/// [`Close`] does it, before anything else is done.
///
/// The values carry the scale of the last pass that was made, which [`Advance::to`] has taken; where the visit is refused, or
/// nothing is done any more, that scale means nothing.
pub struct Ending<'w, S: AddressSpace> {
    /// The cells whose gradients the values were computed from, as far as they are known.
    pub origins: [Option<Place>; MOST_ORIGINS],
    /// The number of the line.
    pub serial: u64,
    /// Takes what happened; one element.
    pub line: S::Mut<'w, Line>,
}

impl<S: AddressSpace> Ending<'_, S> {
    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        visitor.readout("the line of a visit that ends", &mut self.line);
    }
}

/// Moves a visit on to its next pass, with [`DeviceState::advance`]: takes what the pass before counted and clears it, and
/// says whether the pass that is asked for is to be made, and at which scales.
pub struct Advance<'r, 'w, S: AddressSpace> {
    /// The end of the visit before, whose last pass the outcome and the histogram are of.
    pub ending: Option<Ending<'w, S>>,
    /// What is asked for.
    pub asked: Asked,
    /// Where a visit begins, the scales that its values are computed from: none for a loss, that of a gradient for a layer,
    /// those of the branches for a join; each a cell, one element.
    pub sources: &'r [S::Ref<'r, Cell>],
    /// The scaler.
    pub scaler: DeviceScaler<'r, 'w, S>,
    /// What the pass before counted; one element.
    pub outcome: S::Mut<'w, Outcome>,
    /// What a pass measures; one element.
    pub histogram: S::Mut<'w, Histogram>,
    /// Takes the scale that the values arrive with; one element.
    pub from: S::Mut<'w, Cell>,
    /// Takes the scale that they leave with; one element.
    pub to: S::Mut<'w, Cell>,
    /// Takes 1 where the pass is to be made, and 0 where it is not; one element.
    pub when: S::Mut<'w, u32>,
}

impl<S: AddressSpace> Operation for Advance<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Advance;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        for &source in self.sources {
            visitor.listed("a scale that values are computed from", 1, source);
        }
        self.scaler.operands(visitor);
        if let Some(ending) = &mut self.ending {
            ending.operands(visitor);
        }
        visitor.written("the outcome", Some(1), &mut self.outcome);
        visitor.written("the histogram", Some(1), &mut self.histogram);
        visitor.written("the scale of what arrives", Some(1), &mut self.from);
        visitor.written("the scale of what leaves", Some(1), &mut self.to);
        visitor.readout("the predicate", &mut self.when);
    }
}

/// The operands of a layer, or the gradient of a loss, as far as policies that decide from them need them.
pub enum Described<'r, S: AddressSpace> {
    /// As [`Operands::Product`].
    Product {
        /// Statistics of the incoming gradient, scale included; one element.
        gradient: S::Ref<'r, Statistics>,
        /// Statistics of the weight; one element.
        weight: S::Ref<'r, Statistics>,
        /// The number of products in one sum of the input gradient.
        fan_in: u32,
    },
    /// As [`Operands::Cast`]; one element.
    Cast(S::Ref<'r, Statistics>),
}

/// Describes the operands of the visit under way, with [`DeviceState::describe`], where they are wanted.
pub struct Describe<'r, 'w, S: AddressSpace> {
    /// The operands.
    pub described: Described<'r, S>,
    /// The scaler.
    pub scaler: DeviceScaler<'r, 'w, S>,
}

impl<S: AddressSpace> Operation for Describe<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Describe;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        match &mut self.described {
            Described::Product { gradient, weight, .. } => {
                visitor.input("the statistics of the gradient", Some(1), gradient);
                visitor.input("the statistics of the weight", Some(1), weight);
            }
            Described::Cast(gradient) => {
                visitor.input("the statistics of the gradient", Some(1), gradient);
            }
        }
        self.scaler.operands(visitor);
    }
}

/// Finishes the visit under way, with [`DeviceState::close`].
pub struct Close<'r, 'w, S: AddressSpace> {
    /// The cells whose gradients the values were computed from, as far as they are known.
    pub origins: &'r [Option<Place>],
    /// The scaler.
    pub scaler: DeviceScaler<'r, 'w, S>,
    /// What the last pass counted; one element.
    pub outcome: S::Mut<'w, Outcome>,
    /// What was measured; one element.
    pub histogram: S::Ref<'r, Histogram>,
    /// Takes the scale that the values carry; one element.
    pub scale: S::Mut<'w, Cell>,
    /// The number of the line.
    pub serial: u64,
    /// Takes what happened; one element.
    pub line: S::Mut<'w, Line>,
}

impl<S: AddressSpace> Operation for Close<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Close;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        self.scaler.operands(visitor);
        visitor.written("the outcome", Some(1), &mut self.outcome);
        visitor.input("the histogram", Some(1), &mut self.histogram);
        visitor.written("the scale of the values", Some(1), &mut self.scale);
        visitor.readout("the line", &mut self.line);
    }
}

/// What an operation without a cell counted, where a device keeps it.
///
/// It is [`adaloss_core::scaler::device::Evidence`] with names of memory.
pub enum Evidence<'r, 'w, S: AddressSpace> {
    /// A weight gradient was narrowed to f32 by an epilogue that took its scale out.
    Gradient {
        /// Names it in the verdict.
        id: usize,
        /// The cell of the gradient that it was computed from, if it has one.
        origin: Option<Place>,
        /// How many elements it has.
        elements: u64,
        /// What became of them, which is taken and cleared; one element.
        outcome: S::Mut<'w, Outcome>,
    },
    /// A weight gradient was unscaled.
    Unscaled {
        /// Names it in the verdict.
        id: usize,
        /// The cell of the gradient that it was computed from, if it has one.
        origin: Option<Place>,
        /// How many elements it has.
        elements: u64,
        /// What was counted, which is taken and cleared; one element.
        counts: S::Mut<'w, Unscaled>,
    },
    /// A loss was computed.
    Loss {
        /// Its rows.
        rows: u64,
        /// What it adds up to; one element.
        sum: S::Ref<'r, LossSum>,
        /// The number of the line.
        serial: u64,
        /// Takes what it adds up to; one element.
        line: S::Mut<'w, Line>,
    },
    /// A weight gradient, or the next value of a running mean, as an update would take it.
    Squares {
        /// Names it in the verdict.
        id: usize,
        /// Whether it is one of the gradients whose common norm is clipped.
        is_gradient: bool,
        /// The sum of its squares; one element.
        sum: S::Ref<'r, f64>,
    },
    /// A weight was narrowed for the coming step.
    Weight {
        /// Names it where nothing is done any more.
        id: usize,
        /// How many elements it has.
        elements: u64,
        /// Whether an overflow saturates.
        saturates: bool,
        /// What became of them; one element.
        outcome: S::Ref<'r, Outcome>,
    },
    /// A weight that is used in f32.
    WeightSquares {
        /// Names it where nothing is done any more.
        id: usize,
        /// The sum of its squares; one element.
        sum: S::Ref<'r, f64>,
    },
}

impl<S: AddressSpace> Evidence<'_, '_, S> {
    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        match self {
            Self::Gradient { outcome, .. } => {
                visitor.written("the outcome", Some(1), outcome);
            }
            Self::Weight { outcome, .. } => {
                visitor.input("the outcome", Some(1), outcome);
            }
            Self::Unscaled { counts, .. } => {
                visitor.written("the counts", Some(1), counts);
            }
            Self::Squares { sum, .. } | Self::WeightSquares { sum, .. } => {
                visitor.input("the sum of the squares", Some(1), sum);
            }
            Self::Loss { sum, line, .. } => {
                visitor.input("the sum of the loss", Some(1), sum);
                visitor.readout("the line", line);
            }
        }
    }
}

/// The most pieces of evidence that are judged at a time: a device has room for so many.
pub const MOST_EVIDENCE: usize = 64;

/// A visit whose end comes with a [`Judge`], and what its last pass counted and measured.
pub struct Ended<'l, S: AddressSpace> {
    /// The end of the visit.
    pub ending: Ending<'l, S>,
    /// What the last pass counted; one element.
    pub outcome: S::Mut<'l, Outcome>,
    /// What was measured; one element.
    pub histogram: S::Ref<'l, Histogram>,
}

impl<S: AddressSpace> Ended<'_, S> {
    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        self.ending.operands(visitor);
        visitor.written("the outcome of the visit", Some(1), &mut self.outcome);
        visitor.input("the histogram", Some(1), &mut self.histogram);
    }
}

/// Takes note of what operations without a cell counted, with [`DeviceState::judge`] and [`DeviceState::judge_loss`].
pub struct Judge<'l, 'r, 'w, S: AddressSpace> {
    /// A visit that ends before.
    pub ended: Option<Ended<'l, S>>,
    /// What was counted, which is judged in this order: up to [`MOST_EVIDENCE`] pieces.
    pub evidence: &'l mut [Evidence<'r, 'w, S>],
    /// The scaler.
    pub scaler: DeviceScaler<'l, 'l, S>,
    /// The state of another scaler that shares the weights; one element.
    pub other: Option<S::Ref<'l, DeviceState>>,
}

impl<S: AddressSpace> Operation for Judge<'_, '_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Judge;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        visitor.needs("64 pieces of evidence at most", self.evidence.len() <= MOST_EVIDENCE);
        self.scaler.operands(visitor);
        if let Some(other) = &mut self.other {
            visitor.input("the state of the other scaler", Some(1), other);
        }
        if let Some(ended) = &mut self.ended {
            ended.operands(visitor);
        }
        for evidence in &mut *self.evidence {
            evidence.operands(visitor);
        }
    }
}

/// Ends a step, with [`DeviceState::finish`], after the last operation that reads a tensor at its scales, for the cells'
/// become those of the next step.
pub struct Conclude<'r, 'w, S: AddressSpace> {
    /// The scaler.
    pub scaler: DeviceScaler<'r, 'w, S>,
    /// What another scaler said of the same step that shares the weights: 0 where they are to stay; one element.
    pub requires: Option<S::Ref<'r, u32>>,
    /// Takes 1 where the gradients are to reach the weights, and 0 where they are not; one element.
    pub applies: S::Mut<'w, u32>,
    /// Takes how many steps reached the weights; one element.
    pub updates: S::Mut<'w, u32>,
    /// Takes the sum of the squares of all weight gradients; one element.
    pub square_norm: S::Mut<'w, f64>,
    /// The number of the line.
    pub serial: u64,
    /// Takes the verdict; one element.
    pub line: S::Mut<'w, Line>,
}

impl<S: AddressSpace> Operation for Conclude<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Conclude;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        self.scaler.operands(visitor);
        if let Some(requires) = &mut self.requires {
            visitor.input("what the other scaler said", Some(1), requires);
        }
        visitor.written("whether the step applies", Some(1), &mut self.applies);
        visitor.written("the number of updates", Some(1), &mut self.updates);
        visitor.written("the sum of the squares", Some(1), &mut self.square_norm);
        visitor.readout("the line", &mut self.line);
    }
}

has! {
    /// A device that decides scales where they live: it has [`Advance`], [`Close`], [`Judge`] and [`Conclude`].
    ///
    /// Every device in host memory does.
    pub trait HasScaler:
        for<'r, 'w> Run<Advance<'r, 'w, <Self as Device>::Space>>
        + for<'r, 'w> Run<Close<'r, 'w, <Self as Device>::Space>>
        + for<'l, 'r, 'w> Run<Judge<'l, 'r, 'w, <Self as Device>::Space>>
        + for<'r, 'w> Run<Conclude<'r, 'w, <Self as Device>::Space>>
}

impl<S: AddressSpace> Described<'_, S> {
    /// Names the same for a shorter time.
    pub fn reborrow(&self) -> Described<'_, S> {
        match *self {
            Self::Product { gradient, weight, fan_in } => Described::Product {
                gradient: S::reborrow(gradient),
                weight: S::reborrow(weight),
                fan_in,
            },
            Self::Cast(gradient) => Described::Cast(S::reborrow(gradient)),
        }
    }
}

impl Described<'_, crate::space::HostSpace> {
    /// Copies the operands, which fit.
    pub(crate) fn operands(&self) -> Option<Operands> {
        Some(match *self {
            Self::Product { gradient: [gradient], weight: [weight], fan_in } => {
                Operands::Product { gradient: *gradient, weight: *weight, fan_in }
            }
            Self::Cast([gradient]) => Operands::Cast(*gradient),
            _ => return None,
        })
    }
}
