//! A policy that decides from a histogram: what firmware keeps for it, and what it does at a visit.

use adaloss_core::{
    policy::{Cell, Certificate, Config, decide, due, note, outgoing},
    scale::Scale,
    statistics::{Histogram, Outcome},
};

// What a layer takes for as long as it is trained.
const _: () = assert!(size_of::<Cell>() <= 32);

/// The results of a layer, and everything that its scale depends on.
#[derive(Debug)]
pub struct Counted {
    values: [f32; 8],
    incoming: Scale,
    histogram: Histogram,
    outcome: Outcome,
    cell: Cell,
    certificate: Option<Certificate>,
    outgoing: Scale,
}

impl Counted {
    /// Makes the cell of a new run.
    #[inline(always)]
    pub fn new(config: &Config) -> Self {
        Self {
            values: [1.0e-9; 8],
            incoming: Scale::ONE,
            histogram: Histogram::new(config.narrowing()),
            outcome: Outcome::EMPTY,
            cell: config.cell(),
            certificate: None,
            outgoing: Scale::ONE,
        }
    }

    /// Measures and decides where that is due, and takes note of what narrowing did.
    ///
    /// Inlined, so that the compiler knows the configuration and links its policy alone.
    #[inline(always)]
    pub fn visit(&mut self, config: &Config) {
        let Self { values, incoming, histogram, outcome, cell, .. } = self;
        if due(config, cell).is_some() {
            histogram.clear();
            values.iter().for_each(|&x| histogram.observe_one(x, *incoming));
            self.certificate = Some(decide(config, histogram, cell));
        }
        self.outgoing = outgoing(config, cell, *incoming);
        note(config, outcome, *incoming, cell);
    }
}
