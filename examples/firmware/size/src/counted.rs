//! A policy that follows the largest magnitudes, with certificates: what firmware keeps for it, and what it does in a
//! step.

use adaloss_core::{
    policy::{Certificate, Config, certify, due},
    scale::Scale,
    statistics::Histogram,
};

use crate::Followed;

/// The results of a layer, their histogram, and everything that the layer's scale depends on.
#[derive(Debug)]
pub struct Counted {
    values: [f32; 8],
    histogram: Histogram,
    followed: Followed,
    certificate: Option<Certificate>,
}

impl Counted {
    /// Makes the cell of a new run.
    #[inline(always)]
    pub fn new(config: &Config) -> Self {
        Self {
            values: [1.0e-9; 8],
            histogram: Histogram::new(config.narrowing()),
            followed: Followed::new(config),
            certificate: None,
        }
    }

    /// Takes note of what narrowing did, measures and certifies where that is due, and ends the step.
    ///
    /// Inlined, so that the compiler knows the configuration and links its policy alone.
    #[inline(always)]
    pub fn step(&mut self, config: &Config) {
        let Self { values, histogram, followed, .. } = self;
        let left_with = followed.visit(config);
        if due(config, &followed.cell).is_some() {
            histogram.clear();
            values.iter().for_each(|&x| histogram.observe_one(x, Scale::ONE));
            self.certificate = Some(certify(config, histogram, left_with, &mut followed.cell));
        }
        followed.finish(config);
    }
}
