//! A policy that follows the largest magnitudes, without certificates: what firmware keeps for it, and what it does in a
//! step.

use adaloss_core::{
    policy::{Cell, Config, finish, note, outgoing},
    scale::Scale,
    statistics::Outcome,
};

// What a layer takes for as long as it is trained.
const _: () = assert!(size_of::<Cell>() == 28);

/// Everything that the scale of a layer depends on.
#[derive(Debug)]
pub struct Followed {
    incoming: Scale,
    outcome: Outcome,
    pub(crate) cell: Cell,
    outgoing: Scale,
    again: Option<Scale>,
}

impl Followed {
    /// Makes the cell of a new run.
    #[inline(always)]
    pub fn new(config: &Config) -> Self {
        let mut outcome = Outcome::EMPTY;
        (outcome.elements, outcome.max_bits) = (8, 1.0e-9_f32.to_bits());
        Self {
            incoming: Scale::ONE,
            outcome,
            cell: config.cell(),
            outgoing: Scale::ONE,
            again: None,
        }
    }

    /// Takes note of what narrowing did, and ends the step.
    ///
    /// Inlined, so that the compiler knows the configuration and links its policy alone.
    #[inline(always)]
    pub fn step(&mut self, config: &Config) {
        self.visit(config);
        self.finish(config);
    }

    /// Takes note of what narrowing did; returns the scale that the layer leaves with.
    #[inline(always)]
    pub(crate) fn visit(&mut self, config: &Config) -> Scale {
        self.outgoing = outgoing(config, &self.cell, self.incoming);
        self.again = note(config, &self.outcome, self.incoming, &mut self.cell);
        self.again.unwrap_or(self.outgoing)
    }

    #[inline(always)]
    pub(crate) fn finish(&mut self, config: &Config) {
        finish(config, &mut self.cell);
    }
}
