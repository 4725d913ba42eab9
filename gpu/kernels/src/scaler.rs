//! A scaler on the device: core's own decisions, by one thread.
//!
//! What an operation is given is a structure, passed by value; all it names is in the device's memory.

use core::slice;

use adaloss_core::{
    policy::{Cell, Config, Operands},
    scaler::{
        self,
        device::{self, Asked, Conclusion, DeviceState, Line, Opening},
    },
    statistics::{Histogram, Outcome, Statistics},
    unscale::{self, LossSum, Unscaled},
};

use crate::{Block, block::Share};

/// A scaler, where the device keeps it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Scaler {
    /// The configuration.
    pub config: *const Config,
    /// The state.
    pub state: *mut DeviceState,
    /// The first cell of layers.
    pub cells: *mut Cell,
    /// How many there are.
    pub cell_count: usize,
    /// The number of the operation.
    pub nth: u64,
}

impl Scaler {
    /// Names configuration, state and cells, and takes the number of the operation: see [`DeviceState::numbered`].
    ///
    /// # Safety
    ///
    /// They are there and initialised, and nothing else names the state and the cells for `'a`.
    #[inline(always)]
    unsafe fn parts<'a>(&self) -> (&'a Config, &'a mut DeviceState, &'a mut [Cell]) {
        let &Self { config, state, cells, cell_count, nth } = self;
        // SAFETY: the caller's promise; without cells, their address may be any.
        unsafe {
            let cells = match cell_count {
                0 => &mut [],
                count => slice::from_raw_parts_mut(cells, count),
            };
            (&*config, (*state).numbered(nth), cells)
        }
    }
}

/// A place, or none, as a table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Place {
    /// None is known.
    Unknown,
    /// The loss.
    Loss,
    /// The cell of a layer.
    Layer(usize),
    /// A weight.
    Weight(usize),
}

impl From<Option<unscale::Place>> for Place {
    fn from(place: Option<unscale::Place>) -> Self {
        match place {
            None => Self::Unknown,
            Some(unscale::Place::Loss) => Self::Loss,
            Some(unscale::Place::Layer(id)) => Self::Layer(id),
            Some(unscale::Place::Weight(id)) => Self::Weight(id),
        }
    }
}

impl Place {
    #[inline(always)]
    const fn get(self) -> Option<unscale::Place> {
        match self {
            Self::Unknown => None,
            Self::Loss => Some(unscale::Place::Loss),
            Self::Layer(id) => Some(unscale::Place::Layer(id)),
            Self::Weight(id) => Some(unscale::Place::Weight(id)),
        }
    }
}

/// What a pass is for, as a kernel is given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// None is asked for, but whether the operands are to be described.
    Unknown,
    /// As [`scaler::Purpose::Measure`].
    Measure,
    /// As [`scaler::Purpose::Store`].
    Store,
    /// As [`scaler::Purpose::Join`].
    Join,
    /// As [`scaler::Purpose::Replay`].
    Replay,
}

impl From<Option<scaler::Purpose>> for Purpose {
    fn from(purpose: Option<scaler::Purpose>) -> Self {
        match purpose {
            None => Self::Unknown,
            Some(scaler::Purpose::Measure) => Self::Measure,
            Some(scaler::Purpose::Store) => Self::Store,
            Some(scaler::Purpose::Join) => Self::Join,
            Some(scaler::Purpose::Replay) => Self::Replay,
        }
    }
}

impl Purpose {
    #[inline(always)]
    const fn get(self) -> Option<scaler::Purpose> {
        match self {
            Self::Unknown => None,
            Self::Measure => Some(scaler::Purpose::Measure),
            Self::Store => Some(scaler::Purpose::Store),
            Self::Join => Some(scaler::Purpose::Join),
            Self::Replay => Some(scaler::Purpose::Replay),
        }
    }
}

/// A list whose first item is passed by value, so that one of a single item, as a layer has, takes no table.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct List<T> {
    /// How many items there are.
    pub count: usize,
    /// The first of them; any value where there is none.
    pub first: T,
    /// The others, one after the other; any address where there are none.
    pub others: *const T,
}

impl<T: Copy> List<T> {
    /// Returns the items.
    ///
    /// # Safety
    ///
    /// The others are there, for as long as the iterator.
    #[inline(always)]
    unsafe fn iter(self) -> impl Iterator<Item = T> {
        let Self { count, first, others } = self;
        (0..count).map(move |nth| match nth {
            0 => first,
            // SAFETY: the caller's promise.
            _ => unsafe { *others.add(nth - 1) },
        })
    }
}

/// The end of a visit, which another operation brings along, as `adaloss_hal::scaler::Ending`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ending {
    /// The cells whose gradients the values were computed from.
    pub origins: [Place; 4],
    /// The number of the line.
    pub serial: u64,
    /// Takes what happened, or NULL where no visit ends.
    pub line: *mut Line,
}

impl Ending {
    /// Where no visit ends.
    pub const NONE: Self =
        Self { origins: [Place::Unknown; 4], serial: 0, line: core::ptr::null_mut() };

    /// Finishes the visit, if one ends: [`DeviceState::close`].
    ///
    /// # Safety
    ///
    /// The line is there, or NULL; where it is, so are what the last pass counted and what was measured, initialised,
    /// and nothing else names any of them for as long as this takes.
    #[inline(always)]
    unsafe fn close(
        &self,
        (config, state, cells): (&Config, &mut DeviceState, &mut [Cell]),
        outcome: *mut Outcome,
        histogram: *const Histogram,
    ) {
        let &Self { origins, serial, line } = self;
        // SAFETY: the caller's promise.
        if let Some(line) = unsafe { line.as_mut() } {
            let origins = origins.into_iter().filter_map(Place::get);
            // SAFETY: as above.
            let (outcome, histogram) = unsafe { (&mut *outcome, &*histogram) };
            state.close(config, cells, origins, outcome, histogram, (serial, line));
        }
    }
}

/// What `adaloss_hal::scaler::Advance` is given.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Advance {
    /// The scaler.
    pub scaler: Scaler,
    /// The end of the visit before.
    pub ending: Ending,
    /// The tensor of a visit that begins; where it is unknown, the one under way goes on.
    pub place: Place,
    /// The elements of that tensor.
    pub elements: u64,
    /// The stream of its random words.
    pub stream: u32,
    /// What the next pass is for.
    pub purpose: Purpose,
    /// The cells whose scales a visit that begins is computed from.
    pub sources: List<*const Cell>,
    /// What the pass before counted.
    pub outcome: *mut Outcome,
    /// What a pass measures.
    pub histogram: *mut Histogram,
    /// Takes the scale that the values arrive with.
    pub from: *mut Cell,
    /// Takes the scale that they leave with.
    pub to: *mut Cell,
    /// Takes 1 where the pass is to be made, and 0 where it is not.
    pub when: *mut u32,
}

/// What `adaloss_hal::scaler::Describe` is given.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Describe {
    /// The scaler.
    pub scaler: Scaler,
    /// Statistics of the incoming gradient.
    pub gradient: *const Statistics,
    /// Statistics of the weight that it is multiplied by, or NULL where the gradient is only cast.
    pub weight: *const Statistics,
    /// The number of products in one sum of the input gradient.
    pub fan_in: u32,
}

/// What `adaloss_hal::scaler::Close` is given.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Close {
    /// The scaler.
    pub scaler: Scaler,
    /// The cells whose gradients the values were computed from.
    pub origins: List<Place>,
    /// What the last pass counted.
    pub outcome: *mut Outcome,
    /// What was measured.
    pub histogram: *const Histogram,
    /// Takes the scale that the values carry.
    pub scale: *mut Cell,
    /// The number of the line.
    pub serial: u64,
    /// Takes what happened.
    pub line: *mut Line,
}

/// What an operation without a cell counted, as `adaloss_hal::scaler::Evidence`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum Evidence {
    /// A weight gradient was narrowed to f32.
    Gradient {
        /// Names it in the verdict.
        id: usize,
        /// The cell of the gradient that it was computed from.
        origin: Place,
        /// How many elements it has.
        elements: u64,
        /// What became of them, which is taken and cleared.
        outcome: *mut Outcome,
    },
    /// A weight gradient was unscaled.
    Unscaled {
        /// Names it in the verdict.
        id: usize,
        /// The cell of the gradient that it was computed from.
        origin: Place,
        /// How many elements it has.
        elements: u64,
        /// What was counted, which is taken and cleared.
        counts: *mut Unscaled,
    },
    /// A loss was computed.
    Loss {
        /// Its rows.
        rows: u64,
        /// What it adds up to.
        sum: *const LossSum,
        /// The number of the line.
        serial: u64,
        /// Takes what it adds up to.
        line: *mut Line,
    },
    /// A weight gradient, or the next value of a running mean, as an update would take it.
    Squares {
        /// Names it in the verdict.
        id: usize,
        /// Whether it is one of the gradients whose common norm is clipped.
        is_gradient: bool,
        /// The sum of its squares.
        sum: *const f64,
    },
    /// A weight was narrowed for the coming step.
    Weight {
        /// Names it where nothing is done any more.
        id: usize,
        /// How many elements it has.
        elements: u64,
        /// Whether an overflow saturates.
        saturates: bool,
        /// What became of them.
        outcome: *const Outcome,
    },
    /// A weight that is used in f32.
    WeightSquares {
        /// Names it where nothing is done any more.
        id: usize,
        /// The sum of its squares.
        sum: *const f64,
    },
}

/// What `adaloss_hal::scaler::Judge` is given.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Judge {
    /// The scaler.
    pub scaler: Scaler,
    /// The state of another scaler that shares the weights, or NULL.
    pub other: *const DeviceState,
    /// A visit that ends before.
    pub ending: Ending,
    /// What its last pass counted; NULL where none ends.
    pub outcome: *mut Outcome,
    /// What was measured; NULL where none ends.
    pub histogram: *const Histogram,
    /// What was counted, in the order in which it is judged.
    pub evidence: List<Evidence>,
}

/// What `adaloss_hal::scaler::Conclude` is given.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Conclude {
    /// The scaler.
    pub scaler: Scaler,
    /// What another scaler said of the same step that shares the weights, or NULL: 0 where they are to stay.
    pub requires: *const u32,
    /// Takes 1 where the gradients are to reach the weights, and 0 where they are not.
    pub applies: *mut u32,
    /// Takes how many steps reached the weights.
    pub updates: *mut u32,
    /// Takes the sum of the squares of all weight gradients.
    pub square_norm: *mut f64,
    /// The number of the line.
    pub serial: u64,
    /// Takes the verdict.
    pub line: *mut Line,
}

/// Calls a function on one thread of the grid.
#[inline(always)]
fn once<B: Block>(block: &mut B, work: impl Fn()) {
    let index = block.index();
    block.each(|thread| {
        if index == 0 && thread == 0 {
            work();
        }
    });
}

/// Moves a visit on to its next pass: [`DeviceState::advance`].
///
/// # Safety
///
/// Everything that is named is there and initialised, and apart; nobody else reads what is written, or writes anything of it,
/// during the launch.
pub unsafe fn advance<B: Block>(block: &mut B, of: &Advance) {
    once(block, || {
        let &Advance { scaler, place, elements, stream, outcome, histogram, .. } = of;
        let opening = place.get().map(|place| Opening { place, elements, stream });
        let asked = Asked { opening, purpose: of.purpose.get() };
        // SAFETY: the caller's promise; one thread of the launch comes here.
        unsafe {
            let sources = of.sources.iter().map(|cell| (*cell).scale());
            let (config, state, cells) = scaler.parts();
            of.ending.close((config, state, cells), outcome, histogram);
            let (outcome, histogram) = (&mut *outcome, &mut *histogram);
            let scales = state.advance(config, cells, &asked, sources, outcome, histogram);
            if let Some([incoming, outgoing]) = scales {
                of.from.write(Cell::at(incoming));
                of.to.write(Cell::at(outgoing));
            }
            of.when.write(scales.is_some().into());
        }
    });
}

/// Describes the operands of the visit under way: [`DeviceState::describe`].
///
/// # Safety
///
/// As for [`advance`].
pub unsafe fn describe<B: Block>(block: &mut B, of: &Describe) {
    once(block, || {
        let &Describe { scaler, gradient, weight, fan_in } = of;
        // SAFETY: as above.
        unsafe {
            let (config, state, _) = scaler.parts();
            let operands = match weight.as_ref() {
                Some(&weight) => Operands::Product { gradient: *gradient, weight, fan_in },
                None => Operands::Cast(*gradient),
            };
            state.describe(config, &operands);
        }
    });
}

/// Finishes the visit under way: [`DeviceState::close`].
///
/// # Safety
///
/// As for [`advance`].
pub unsafe fn close<B: Block>(block: &mut B, of: &Close) {
    once(block, || {
        let &Close { scaler, origins, outcome, histogram, scale, serial, line } = of;
        // SAFETY: as above.
        unsafe {
            let origins = origins.iter().filter_map(Place::get);
            let (config, state, cells) = scaler.parts();
            let (outcome, histogram, line) = (&mut *outcome, &*histogram, &mut *line);
            let carried = state.close(config, cells, origins, outcome, histogram, (serial, line));
            scale.write(Cell::at(carried));
        }
    });
}

/// Takes note of what operations without a cell counted: [`DeviceState::judge`] and [`DeviceState::judge_loss`].
///
/// # Safety
///
/// As for [`advance`].
pub unsafe fn judge<B: Block>(block: &mut B, of: &Judge) {
    once(block, || {
        // SAFETY: as above.
        unsafe {
            let other = of.other.as_ref();
            let (config, state, cells) = of.scaler.parts();
            of.ending.close((config, state, cells), of.outcome, of.histogram);
            for evidence in of.evidence.iter() {
                let evidence = match evidence {
                    Evidence::Loss { rows, sum, serial, line } => {
                        state.judge_loss(rows, &*sum, other, (serial, &mut *line));
                        continue;
                    }
                    Evidence::Gradient { id, origin, elements, outcome } => {
                        let met = Unscaled::from_outcome(&outcome.replace(Outcome::EMPTY));
                        device::Evidence::Gradient { id, origin: origin.get(), elements, met }
                    }
                    Evidence::Unscaled { id, origin, elements, counts } => {
                        let met = counts.replace(Unscaled::default());
                        device::Evidence::Gradient { id, origin: origin.get(), elements, met }
                    }
                    Evidence::Squares { id, is_gradient, sum } => {
                        device::Evidence::Squares { id, sum: *sum, is_gradient }
                    }
                    Evidence::Weight { id, elements, saturates, outcome } => {
                        device::Evidence::Weight { id, elements, saturates, outcome: *outcome }
                    }
                    Evidence::WeightSquares { id, sum } => {
                        device::Evidence::WeightSquares { id, sum: *sum }
                    }
                };
                state.judge(config, cells, &evidence, other);
            }
        }
    });
}

/// Ends a step: [`DeviceState::finish`], by one block, whose threads take a cell each.
///
/// # Safety
///
/// As for [`advance`].
pub unsafe fn conclude<B: Block>(block: &mut B, of: &Conclude) {
    if block.index() > 0 {
        return;
    }
    let &Conclude { scaler, requires, serial, line, .. } = of;
    let Scaler { config, state, cells, cell_count, nth } = scaler;
    let threads = block.threads() as usize;
    block.each(|thread| {
        if thread == 0 {
            // SAFETY: the caller's promise; one thread of the launch comes here.
            unsafe { (*state).numbered(nth) };
        }
    });
    block.barrier();
    block.each(|thread| {
        for id in Share::of(thread as usize..cell_count, threads) {
            // SAFETY: as above, nobody writes the state between the barriers, and a cell is one thread's.
            unsafe { (*state).finish_cell(&*config, id, &mut *cells.add(id)) };
        }
    });
    block.barrier();
    block.each(|thread| {
        if thread > 0 {
            return;
        }
        // SAFETY: as above; one thread of the launch comes here.
        unsafe {
            let requires = requires.as_ref().is_none_or(|&requires| requires != 0);
            let ended = (*state).finish(&*config, &mut [], requires, (serial, &mut *line));
            let Conclusion { applies, updates, square_norm } = ended;
            of.applies.write(applies.into());
            of.updates.write(updates);
            of.square_norm.write(square_norm);
        }
    });
}
