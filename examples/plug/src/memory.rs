//! What the next steps depend on: core's state, a cell per layer, and how high segments may go.

use adaloss_core::{
    policy::{Cell, Config},
    scaler::{State, Totals, Visit},
    unscale::Place,
};

use crate::{Walk, limit::Limit};

/// Loss scales for a model with a known number of layers, from one step to the next.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(crate) state: State,
    /// One per layer; the output's is in the state.
    pub(crate) cells: Vec<Cell>,
    /// Of each segment, the output's first.
    pub(crate) limits: Vec<Limit>,
}

impl Memory {
    /// Makes the memory of a new training run.
    ///
    /// A policy that wants operands, which a framework does not show, is the plug's to refuse.
    pub fn new(config: Config, layers: usize) -> Self {
        Self {
            state: State::new(config),
            cells: vec![Cell::new(); layers],
            limits: vec![Limit::NONE; layers + 1],
        }
    }

    /// Begins a backward pass, which leaves in `visits` what happened at each mark, in its order.
    pub fn walk<'a>(&'a mut self, visits: &'a mut Vec<Visit>) -> Walk<'a> {
        visits.clear();
        let config = *self.state.config();
        Walk::new(config, self.state.begin(&mut self.cells), &mut self.limits, visits)
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
