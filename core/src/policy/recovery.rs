//! The arithmetic of recovery: which scale an overflow shows, and which a join can take.

use super::Config;
use crate::{scale::Scale, statistics::Outcome};

/// Returns the greatest scale at which the tensor of an outcome would not have overflowed, one binade less
/// under `normal` and `range`, whose cells keep it; `None` where no legal scale prevents overflow or
/// nothing was finite.
///
/// `incoming` is the scale that the f32 values carried before they were narrowed.  The largest
/// magnitude alone decides, so that one exact move is enough.
pub fn recover(config: &Config, outcome: &Outcome, incoming: Scale) -> Option<Scale> {
    let shifts = config.narrowing().shifts(outcome.max_abs())?;
    let ceiling = Scale::new((shifts.greatest + incoming.log2()).min(Scale::MAX.log2())).ok()?;
    let headroom = i32::from(config.policy().wants_operands());
    Some(Scale::saturating(ceiling.log2() - headroom))
}

/// Returns the scale that a join leaves with under `normal` and `range`, or `None` where none fits.
///
/// It is the greatest of the branches' scales that `fits`; failing that, the least of them is halved
/// down to 2^-4.  (`rescaling` of the authors' `ada_loss` package.)
pub fn join_target(
    scales: impl Iterator<Item = Scale> + Clone,
    fits: impl Fn(Scale) -> bool,
) -> Option<Scale> {
    if let Some(target) = scales.clone().filter(|&scale| fits(scale)).max() {
        return Some(target);
    }
    // The authors halve while the scale is at least 1/8, and check after each halving.
    let least = scales.min()?.log2();
    (-4..least).rev().map(Scale::saturating).find(|&scale| fits(scale))
}

/// Returns the scale to which the authors' `rescaling` brings the branches of a join, or `None`
/// where it gives up or a branch is not finite.
///
/// `branches` yields the largest magnitude and the scale of each branch.  A scale fits where the
/// largest unscaled magnitude stays below `largest` (`u_max`); the authors look at each branch and
/// not at the sum, which the scaler does.
pub fn paper_join_target(
    branches: impl Iterator<Item = (f32, Scale)> + Clone,
    largest: f32,
) -> Option<Scale> {
    if branches.clone().any(|(max, _)| !max.is_finite()) {
        return None;
    }
    let max = branches.clone().map(|(max, scale)| max / scale.factor()).fold(0.0, f32::max);
    join_target(branches.map(|(_, scale)| scale), |scale| max * scale.factor() < largest)
}
