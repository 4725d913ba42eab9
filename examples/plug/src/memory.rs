//! What the next steps depend on: core's state, a cell per layer, and how high segments may go.

use adaloss_core::{
    policy::{Cell, Config},
    scaler::{State, Totals, Visit},
    unscale::{Place, Verdict},
};

use crate::{
    Walk,
    limit::{Limit, Limits},
};

/// Loss scales for a model with a known number of layers, from one step to the next.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(crate) state: State,
    /// One per layer; the output's is in the state.
    pub(crate) cells: Vec<Cell>,
    pub(crate) limits: Limits,
}

impl Memory {
    /// Makes the memory of a new training run.
    ///
    /// A policy that wants operands, which a framework does not show, is the plug's to refuse.
    pub fn new(config: Config, layers: usize) -> Self {
        Self {
            state: State::new(config),
            cells: vec![Cell::new(); layers],
            limits: Limits::new(vec![Limit::NONE; layers + 1]),
        }
    }

    /// Begins a step of one backward pass, which leaves in `visits` what happened at each mark, in its order.
    pub fn walk<'a>(&'a mut self, visits: &'a mut Vec<Visit>) -> Walk<'a> {
        visits.clear();
        self.micro_batch(0, visits)
    }

    /// Begins the backward pass of one micro-batch; the first, number 0, begins a step, whatever was under way.
    ///
    /// All but the last are [suspended](Walk::suspend), and the step ends with the last one's
    /// [`finish`](Walk::finish) or with [that](Self::finish) of the memory.  Scales and limits move between steps
    /// only, so that the same values give the same scales in whatever order micro-batches come.  What happens at
    /// each mark is added to `visits`.
    pub fn micro_batch<'a>(&'a mut self, index: u32, visits: &'a mut Vec<Visit>) -> Walk<'a> {
        let config = *self.state.config();
        let mut step = if index == 0 {
            self.limits.begin();
            self.state.begin(&mut self.cells)
        } else {
            self.state.resume(&mut self.cells)
        };
        step.micro_batch(index);
        Walk::new(config, step, &mut self.limits, visits)
    }

    /// Ends the step of which the last micro-batch was suspended.
    pub fn finish(&mut self) -> Verdict {
        self.limits.finish();
        self.state.resume(&mut self.cells).finish()
    }

    /// Returns the configuration.
    pub const fn config(&self) -> &Config {
        self.state.config()
    }

    /// Returns the number of layers.
    pub const fn layers(&self) -> usize {
        self.cells.len()
    }

    /// Returns the cell of a place that was visited.
    pub fn cell(&self, place: Place) -> Option<Cell> {
        self.state.cell(&self.cells, place).copied()
    }

    /// Returns what happened since the run began.
    pub const fn totals(&self) -> Totals {
        self.state.totals()
    }
}

/// Returns the number of the segment that ends in a mark: the output's is the first.
pub const fn slot(place: Place) -> usize {
    match place {
        Place::Loss => 0,
        Place::Layer(id) | Place::Weight(id) => id + 1,
    }
}
