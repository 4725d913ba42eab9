//! What a tensor deserves: from what its steps showed to a scale, evidence, and recovery.
//!
//! `measured` and `amax` follow the largest magnitude of each step: [`note`] takes down what narrowing did at
//! a visit and says whether the tensor has to be narrowed once more, [`finish`] ends the step and
//! decides the next one's scale.  Both are pure functions of integers: the same values, the same scale,
//! on any machine, however a step is split.  [`certify`] takes evidence from an exact histogram now and then; it
//! moves nothing.
//!
//! `normal` and `range` decide from [`Operands`] with [`decide_from_operands`], in f64 and through libm
//! only, never the platform's mathematics; they decide, as the paper does, the factor that a layer adds.
//! The other policies decide an absolute scale.  [`outgoing`] turns either into the scale that a
//! tensor leaves with.

mod amax;
mod backoff;
mod cell;
mod certificate;
mod config;
mod erfinv;
mod measured;
mod normal;
mod operands;
mod range;
mod recovery;
mod track;

pub use amax::Amax;
pub use backoff::Backoff;
pub use cell::{Cell, Seen};
pub use certificate::{Certificate, Expected, Trigger, Window, breaks_promise, certify};
pub use config::{Config, ConfigError, Fraction, Preset, Recovery};
pub use measured::Measured;
pub use normal::Normal;
pub use operands::{Operands, decide_from_operands, decide_join};
pub use range::{Range, ShapeError, Terms};
pub use recovery::{join_target, paper_join_target, recover};
pub use track::{Record, repeat};

use crate::{scale::Scale, statistics::Outcome};

/// How scales are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, u8)]
pub enum Policy {
    /// One scale for every tensor, for ever (Micikevicius et al. 2018).
    Fixed(Scale),
    /// One scale for every tensor, by trial and error (the usual dynamic loss scaling).
    Backoff(Backoff),
    /// A scale per layer from a Gaussian model of its products (the paper).
    Normal(Normal),
    /// A scale per layer from the extremes of its products (the authors' code).
    Range(Range),
    /// A scale per tensor from a window of maxima (delayed scaling).
    Amax(Amax),
    /// A scale per tensor from the largest magnitudes of its last steps, as high as they allow: the
    /// default.
    Measured(Measured),
}

impl Policy {
    /// Returns the method's name as reports print it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fixed(_) => "fixed",
            Self::Backoff(_) => "backoff",
            Self::Normal(_) => "normal",
            Self::Range(_) => "range",
            Self::Amax(_) => "amax",
            Self::Measured(_) => "measured",
        }
    }

    /// Tells whether one scale serves the whole model, so that layers carry the loss's through.
    pub const fn is_whole_model(&self) -> bool {
        matches!(self, Self::Fixed(_) | Self::Backoff(_))
    }

    /// Tells whether the scale follows the largest magnitudes of a tensor, step by step.
    pub const fn follows_maxima(&self) -> bool {
        matches!(self, Self::Amax(_) | Self::Measured(_))
    }

    /// Tells whether the policy decides from statistics of the operands.
    pub const fn wants_operands(&self) -> bool {
        matches!(self, Self::Normal(_) | Self::Range(_))
    }

    /// Tells whether a cell can be one of this policy's.
    fn could_remember(&self, cell: &Cell) -> bool {
        match self {
            Self::Fixed(scale) => cell.scale == *scale,
            Self::Backoff(backoff) => backoff.could_remember(cell),
            Self::Normal(_) | Self::Range(_) => {
                let factor = cell.real_scale();
                factor.is_finite() && factor > 0.0
            }
            Self::Amax(_) | Self::Measured(_) if cell.has_no_memory() => {
                cell.has_memory(Cell::new().memory)
            }
            Self::Amax(amax) => amax.could_remember(cell),
            Self::Measured(measured) => measured.could_remember(cell),
        }
    }

    /// Returns the cell that a tensor starts with.
    fn cell(&self) -> Cell {
        match self {
            Self::Fixed(scale) => Cell::at(*scale),
            Self::Backoff(backoff) => backoff.start(),
            _ => Cell::new(),
        }
    }
}

/// Which rule chose the scale of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rule {
    /// No element was finite and nonzero: nothing is known, and the scale stays.
    Empty = 0,
    /// Elements were infinite or NaN: nothing is known, and the scale stays.
    NonFinite = 1,
    /// The policy does not decide from this kind of evidence: the scale stays.
    Unused = 2,
    /// The histogram counts for another format or rounding than the configuration's: nothing is known.
    OtherFormat = 3,
    /// `measured`: the ceilings of the last steps.
    Measured = 4,
    /// `amax`: the greatest magnitude of the window and the margin.
    Amax = 5,
    /// `normal`: the Gaussian or log-normal model.
    Normal = 6,
    /// `range`: the extremes of the products.
    Range = 7,
    /// `normal` and `range` at a join: the greatest scale of a branch that the sum fits.
    Join = 8,
}

/// Returns why a cell leaves a certificate at this visit, or decides; `None` where it does neither.
pub const fn due(config: &Config, cell: &Cell) -> Option<Trigger> {
    let policy = config.policy();
    if policy.is_whole_model() || policy.follows_maxima() && config.period() == Config::NEVER {
        return None;
    }
    match cell.trigger {
        Trigger::None if cell.age < config.period() => None,
        Trigger::None => Some(Trigger::Period),
        trigger => Some(trigger),
    }
}

/// Returns the scale that a tensor leaves with, when its values arrive at `incoming`.
pub fn outgoing(config: &Config, cell: &Cell, incoming: Scale) -> Scale {
    let factor = match config.policy() {
        Policy::Normal(normal) => f64::from(normal.bounded(cell.real_scale() as f32, incoming)),
        Policy::Range(_) => cell.real_scale(),
        _ => return cell.scale,
    };
    Scale::saturating(incoming.log2() + backoff::floor_log2(factor))
}

/// Takes note of what narrowing to [`outgoing`] did at one visit; returns the scale to narrow the tensor to
/// once more, if that is needed.
///
/// It is needed where the tensor overflowed and the configuration [replays](Config::replays), and, under
/// `measured` and `amax`, at the first visit, whose scale nobody could know.  One more time is enough:
/// nothing overflows then, and its outcome is not to be noted.
///
/// An outcome with non-finite elements tells nothing of the scale.
///
/// # Examples
///
/// Without a scaler, for a device of one's own:
///
/// ```
/// use adaloss_core::{
///     apply::Apply, format::{E4M3, Format, Noise}, scale::Scale, statistics::Outcome,
///     policy::{Config, finish, note, outgoing},
/// };
/// let config = Config::for_format(Format::E4M3);
/// let (mut cell, incoming) = (config.cell(), Scale::ONE);
/// let results = [3.0e-5_f32, -7.0e-6];
///
/// let mut narrowed = [E4M3::ZERO; 2];
/// let mut narrow = |to: Scale| {
///     let mut outcome = Outcome::EMPTY;
///     let apply = Apply { narrowing: config.narrowing(), shift: to / incoming, noise: Noise::default() };
///     apply.slice(&results, &mut narrowed, 0, &mut outcome).map(|()| outcome)
/// };
/// let mut carried = outgoing(&config, &cell, incoming);
/// let outcome = narrow(carried)?;
/// if let Some(scale) = note(&config, &outcome, incoming, &mut cell) {
///     narrow(scale)?;
///     carried = scale;
/// }
/// assert_eq!(carried.log2(), 22); // 3.0e-5 becomes 126, and 448 is the largest E4M3
/// finish(&config, &mut cell); // after the last visit of the step
/// # Ok::<(), adaloss_core::apply::ApplyError>(())
/// ```
pub fn note(config: &Config, outcome: &Outcome, incoming: Scale, cell: &mut Cell) -> Option<Scale> {
    let policy = config.policy();
    if policy.is_whole_model() {
        return None;
    }
    if policy.follows_maxima() {
        return track::note(config, outcome, incoming, cell);
    }
    cell.age = cell.age.saturating_add(1);
    if outcome.nonfinite > 0 || outcome.overflow == 0 || config.recovery() == Recovery::Skip {
        return None;
    }
    let scale = recover(config, outcome, incoming);
    if let Some(scale) = scale {
        cell.scale = scale;
        cell.set_real(libm::ldexp(1.0, (scale / incoming).log2()));
    }
    cell.trigger = Trigger::Overflow;
    scale.filter(|_| config.replays())
}

/// Ends a step of one cell: decides the next step's scale under `measured` and `amax`, and moves nothing under
/// other policies.
///
/// A step that was skipped is finished too.  A tensor that was not visited in it, or had no finite nonzero
/// value, keeps its scale.
pub fn finish(config: &Config, cell: &mut Cell) -> Record {
    track::finish(config, cell)
}

/// Moves the scale of a policy that serves the whole model, after a step that was clean or not.
///
/// A step is clean where every gradient is finite and none overflowed.  One in which values
/// saturated is usable and not clean: infinities would have shown that the scale is too large.
pub fn step(config: &Config, clean: bool, cell: &mut Cell) {
    if let Policy::Backoff(backoff) = config.policy() {
        backoff.step(clean, cell);
    }
}
