//! Visits as the scaler makes them, with the policy's own functions.

use adaloss_core::{
    apply::Apply,
    format::Noise,
    policy::{Cell, Config, Policy, finish, note, outgoing},
    scale::Scale,
    statistics::Outcome,
};
use adaloss_oracle::{Limits, product};

/// What became of a tensor at one visit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Visited {
    /// The scale that it left with.
    pub(crate) scale: i32,
    /// What narrowing did, the last time.
    pub(crate) outcome: Outcome,
    /// Whether it was narrowed once more.
    pub(crate) again: bool,
}

pub(crate) fn outcome(config: &Config, scale: Scale, values: &[f32], incoming: Scale) -> Outcome {
    let shift = scale / incoming;
    let apply = Apply { narrowing: config.narrowing(), shift, noise: Noise::default() };
    let mut outcome = Outcome::EMPTY;
    for (index, &x) in (0..).zip(values) {
        apply.element(x, index, &mut outcome);
    }
    outcome
}

/// Visits a cell once: narrows, takes note, narrows once more where that is asked for.
pub(crate) fn visit(config: &Config, cell: &mut Cell, values: &[f32], incoming: Scale) -> Visited {
    let mut scale = outgoing(config, cell, incoming);
    let mut narrowed = outcome(config, scale, values, incoming);
    let again = note(config, &narrowed, incoming, cell);
    if let Some(other) = again {
        scale = other;
        narrowed = outcome(config, scale, values, incoming);
    }
    Visited { scale: scale.log2(), outcome: narrowed, again: again.is_some() }
}

/// A step of one visit.
pub(crate) fn step(config: &Config, cell: &mut Cell, values: &[f32], incoming: Scale) -> Visited {
    let visited = visit(config, cell, values, incoming);
    finish(config, cell);
    visited
}

/// Returns the greatest exponent, legal or not, at which a magnitude does not overflow.
pub(crate) fn ceiling(config: &Config, max_abs: f32, incoming: Scale) -> i32 {
    let narrowing = config.narrowing();
    let limits = Limits::of(narrowing.format.encoding);
    let overflows = |k: i32| limits.overflows(narrowing, product(max_abs, k - incoming.log2()));
    (-300..=500).rev().find(|&k| !overflows(k)).expect("so small a scale lets nothing overflow")
}

/// The value `2^log2`.
pub(crate) fn pow2(log2: i32) -> f32 {
    adaloss_oracle::pow2(log2) as f32
}

pub(crate) fn with(config: Config, policy: Policy) -> Config {
    config.with_policy(policy).expect("legal parameters")
}
